//! Kubernetes' nouns: group, version and kind, names, selectors, quantities, Status, the resource table.
