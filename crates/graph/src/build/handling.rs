//! What a definition says about the objects of a resource beyond what they look like.

use super::compile::Variables;
use super::error::BuildError;
use super::{BuildOptions, SCHEMA_VARIABLE};
use crate::lifecycle::Lifecycle;
use crate::rgd::ResourceSpec;

/// What is special about the objects of a resource; by default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Handling {
    /// How they come and go.
    pub lifecycle: Lifecycle,
}

impl Handling {
    /// What is special, in words.
    pub fn notes(&self) -> Vec<String> {
        self.lifecycle.notes()
    }

    pub(crate) fn build(
        resource: &ResourceSpec,
        variables: &Variables,
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        let instance = &variables.types[SCHEMA_VARIABLE];
        Ok(Self {
            lifecycle: Lifecycle::build(resource, instance, options.features)?,
        })
    }
}
