//! Features that are off unless somebody switches them on, as kro's `--feature-gates`.
//!
//! A definition that uses a feature which is off is refused when it is built, with a message that names the gate
//! ([`Features::require`]). kro's own gates keep their names; the others have the name of what they add.

/// A feature with a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `omit()` in templates (kro's).
    CelOmitFunction,
    /// Events for changes of instances' conditions (kro's).
    InstanceConditionEvents,
    /// Gauges of instances' conditions (kro's).
    InstanceConditionMetrics,
    /// `deletionPolicy` of resources (kro's).
    DeletionPolicy,
    /// How resources are adopted, created and kept.
    ResourceLifecycles,
    /// `externalFields` of resources (kro's).
    ExternalFields,
    /// `managedResources` in the status of instances.
    ManagedResources,
    /// `propagateWhen`.
    PropagationControl,
    /// A scale subresource of instances.
    ScaleSubresource,
    /// Named values without an object.
    Variables,
    /// Soft dependencies, and fields that are filled in later.
    DeferredFields,
    /// Branches that are not taken are not waited for.
    PartialDependencies,
    /// Expressions in the keys of templates.
    DynamicTemplateKeys,
    /// Companions of objects that nobody instantiated, and fields of foreign objects.
    Decorators,
    /// Instances that stay on a revision of their definition.
    RevisionPinning,
    /// Definitions wait for their instances to be gone, and instances say which objects they wait for.
    DeletionSafety,
    /// Changes of generated kinds are judged by everything their schemas say (kro's).
    ConservativeCrdComparison,
}

/// All features, by the names of their gates.
const FEATURES: &[(&str, Feature)] = &[
    ("CELOmitFunction", Feature::CelOmitFunction),
    ("InstanceConditionEvents", Feature::InstanceConditionEvents),
    (
        "InstanceConditionMetrics",
        Feature::InstanceConditionMetrics,
    ),
    ("DeletionPolicy", Feature::DeletionPolicy),
    ("ResourceLifecycles", Feature::ResourceLifecycles),
    ("ExternalFields", Feature::ExternalFields),
    ("ManagedResources", Feature::ManagedResources),
    ("PropagationControl", Feature::PropagationControl),
    ("ScaleSubresource", Feature::ScaleSubresource),
    ("Variables", Feature::Variables),
    ("DeferredFields", Feature::DeferredFields),
    ("PartialDependencies", Feature::PartialDependencies),
    ("DynamicTemplateKeys", Feature::DynamicTemplateKeys),
    ("Decorators", Feature::Decorators),
    ("RevisionPinning", Feature::RevisionPinning),
    ("DeletionSafety", Feature::DeletionSafety),
    (
        "ConservativeCRDComparison",
        Feature::ConservativeCrdComparison,
    ),
];

impl Feature {
    /// The feature behind a gate's name.
    pub fn named(name: &str) -> Option<Self> {
        let found = FEATURES.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }

    /// The gate's name.
    pub fn name(self) -> &'static str {
        let found = FEATURES.iter().find(|(_, feature)| *feature == self);
        found.map_or("", |(name, _)| name)
    }

    /// The names of all gates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FEATURES.iter().map(|(name, _)| *name)
    }
}

/// The features that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// Every feature on.
    pub fn all() -> Self {
        FEATURES
            .iter()
            .fold(Self::default(), |all, (_, feature)| all.with(*feature))
    }

    /// With one more on.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    /// With one switched on or off.
    #[must_use]
    pub fn switched(self, feature: Feature, on: bool) -> Self {
        if on {
            self.with(feature)
        } else {
            Self(self.0 & !(1 << feature as u32))
        }
    }

    /// Whether a feature is on.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// An error that names the gate if a feature is off; `what` is what was used: `omit()`.
    pub fn require(self, feature: Feature, what: &str) -> Result<(), String> {
        if self.has(feature) {
            return Ok(());
        }
        let gate = feature.name();
        Err(format!(
            "{what} requires the {gate} feature gate to be enabled"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_gate_of_its_own() {
        for (at, (name, feature)) in FEATURES.iter().enumerate() {
            assert_eq!(feature.name(), *name);
            assert_eq!(Feature::named(name), Some(*feature));
            assert_eq!(*feature as usize, at, "{name} stands where its gate does");
            let on = Features::default().with(*feature);
            assert!(on.has(*feature));
            assert_eq!(on.switched(*feature, false), Features::default());
        }
        assert_eq!(Features::all().0.count_ones() as usize, FEATURES.len());
    }

    #[test]
    fn every_gate_is_documented() {
        let page = include_str!("../../../docs/graphs/feature-gates.md");
        for name in Feature::names() {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn what_is_off_is_refused_by_the_name_of_its_gate() {
        let off = Features::default().require(Feature::CelOmitFunction, "omit()");
        let expect = "omit() requires the CELOmitFunction feature gate to be enabled";
        assert_eq!(off, Err(expect.to_owned()));
        assert_eq!(
            Features::all().require(Feature::CelOmitFunction, "omit()"),
            Ok(())
        );
    }
}
