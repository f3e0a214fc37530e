//! Features that are off by default, as upstream's gates of the same names.
//!
//! Behaviours are tables of pure functions and know nothing of the server they serve; so a feature is on or off for the whole
//! process, as upstream's are, and set once when it starts.

use std::sync::atomic::{AtomicBool, Ordering};

static STATEFUL_SET_MAX_UNAVAILABLE: AtomicBool = AtomicBool::new(false);
static HPA_SCALE_TO_ZERO: AtomicBool = AtomicBool::new(false);

/// The features there are, by name.
const FEATURES: &[(&str, &AtomicBool)] = &[
    ("MaxUnavailableStatefulSet", &STATEFUL_SET_MAX_UNAVAILABLE),
    ("HPAScaleToZero", &HPA_SCALE_TO_ZERO),
];

/// A feature gate that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// No such feature.
    #[error("feature {0:?} is unknown or cannot be switched; there are {names}", names = names())]
    Unknown(String),
    /// Neither on nor off.
    #[error("{0:?}: write Feature=true or Feature=false")]
    Unclear(String),
}

fn names() -> String {
    let names: Vec<&str> = FEATURES.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Switches features by words such as `MaxUnavailableStatefulSet=true`.
pub fn switch(words: &[String]) -> Result<(), FeatureError> {
    let mut wanted = Vec::with_capacity(words.len());
    for word in words
        .iter()
        .map(|word| word.trim())
        .filter(|word| !word.is_empty())
    {
        let unclear = || FeatureError::Unclear(word.to_owned());
        let (name, value) = word.split_once('=').ok_or_else(unclear)?;
        let on: bool = value.to_ascii_lowercase().parse().map_err(|_| unclear())?;
        let found = FEATURES.iter().find(|(known, _)| *known == name);
        let (_, feature) = found.ok_or_else(|| FeatureError::Unknown(name.to_owned()))?;
        wanted.push((feature, on));
    }
    for (feature, on) in wanted {
        feature.store(on, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether the `maxUnavailable` of a stateful set's rolling update is kept and counts.
pub fn stateful_set_max_unavailable() -> bool {
    STATEFUL_SET_MAX_UNAVAILABLE.load(Ordering::Relaxed)
}

/// Whether autoscalers may scale to zero, and from there.
pub fn hpa_scale_to_zero() -> bool {
    HPA_SCALE_TO_ZERO.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_not_understood_switch_nothing() {
        let check = |words: &str| switch(&words.split(',').map(str::to_owned).collect::<Vec<_>>());
        let unknown = check("MaxUnavailableStatefulSet=true,Nonsense=true");
        assert_eq!(unknown, Err(FeatureError::Unknown("Nonsense".to_owned())));
        assert!(matches!(
            check("MaxUnavailableStatefulSet"),
            Err(FeatureError::Unclear(_))
        ));
        assert!(matches!(
            check("MaxUnavailableStatefulSet=on"),
            Err(FeatureError::Unclear(_))
        ));
        assert!(!stateful_set_max_unavailable());
        assert_eq!(check("MaxUnavailableStatefulSet=False,"), Ok(()));
    }
}
