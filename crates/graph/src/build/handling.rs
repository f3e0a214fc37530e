//! What a definition says about the objects of a resource beyond what they look like.

use std::collections::BTreeSet;

use super::compile::Variables;
use super::error::BuildError;
use super::{BuildOptions, Node, SCHEMA_VARIABLE, propagation};
use crate::expression::Expression;
use crate::external_fields::{self, ExternalField};
use crate::lifecycle::Lifecycle;
use crate::rgd::ResourceSpec;

/// What is special about the objects of a resource; by default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Handling {
    /// How they come and go.
    pub lifecycle: Lifecycle,
    /// Fields that are handed over once somebody else writes them.
    pub external_fields: Vec<ExternalField>,
    /// When they may be written; all must hold.
    pub propagate_when: Vec<Expression>,
    /// The resources that are read for that alone, by position: that they are left out is not contagious.
    pub(crate) gate_dependencies: BTreeSet<usize>,
}

impl Handling {
    /// What is special, in words.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.lifecycle.notes();
        let handed_over = self.external_fields.iter().map(ExternalField::path);
        notes.extend(handed_over.map(|path| format!("hands {path} over to who writes it")));
        let gates = self.propagate_when.iter().map(Expression::source);
        notes.extend(gates.map(|source| format!("is written when {source}")));
        notes
    }

    pub(crate) fn build(
        resource: &ResourceSpec,
        node: &Node,
        variables: &Variables,
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        let instance = &variables.types[SCHEMA_VARIABLE];
        Ok(Self {
            lifecycle: Lifecycle::build(resource, instance, options.features)?,
            external_fields: external_fields::build(resource, options.features)?,
            propagate_when: propagation::compile(resource, node, variables)?,
            gate_dependencies: BTreeSet::new(),
        })
    }
}
