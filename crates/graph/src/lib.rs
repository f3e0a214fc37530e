//! ResourceGraphDefinitions: SimpleSchema, templates, graphs and their controllers.
