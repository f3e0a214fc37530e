//! `--feature-gates`: one list for the features of all parts of the program.

use anyhow::Context as _;
use graph::{Feature, Features};
use kinds::features::FeatureError;

/// The word for all features of graphs at once, as upstream's gates have it.
const ALL_ALPHA: &str = "AllAlpha";

/// Switches features by words such as `CELOmitFunction=true`; returns those of graphs, the others hold for the process.
pub fn switch(words: &[String]) -> anyhow::Result<Features> {
    read(words).context("--feature-gates")
}

fn read(words: &[String]) -> anyhow::Result<Features> {
    let mut features = Features::default();
    let mut others = Vec::new();
    for word in words {
        let name = word.split('=').next().unwrap_or_default().trim();
        match Feature::named(name) {
            Some(feature) => features = features.switched(feature, is_on(word)?),
            None if name == ALL_ALPHA => {
                features = if is_on(word)? {
                    Features::all()
                } else {
                    Features::default()
                };
            }
            None => others.push(word.clone()),
        }
    }
    match kinds::features::switch(&others) {
        Ok(()) => Ok(features),
        Err(error @ FeatureError::Unknown(_)) => {
            let known: Vec<&str> = Feature::names().collect();
            anyhow::bail!("{error}, {}", known.join(", "))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_on(word: &str) -> Result<bool, FeatureError> {
    let value = word.split_once('=').map(|(_, value)| value.trim());
    let value = value.and_then(|value| value.to_ascii_lowercase().parse().ok());
    value.ok_or_else(|| FeatureError::Unclear(word.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_switch_features() {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let omit = Features::default().with(Feature::CelOmitFunction);
        let check = |text: &str, expect: Features| {
            assert_eq!(switch(&words(text)).expect(text), expect, "{text}");
        };
        check("", Features::default());
        check("CELOmitFunction=true", omit);
        check("CELOmitFunction=True, DeletionPolicy=false", omit);
        check("AllAlpha=true", Features::all());
        check("AllAlpha=true,AllAlpha=false,CELOmitFunction=true", omit);
        let fails = |text: &str, part: &str| {
            let error = format!("{:#}", switch(&words(text)).expect_err(text));
            assert!(error.contains(part), "{error}");
        };
        fails("CELOmitFunction", "write Feature=true");
        fails("CELOmitFunction=on", "write Feature=true");
        fails("CelOmitFunction=true", "HPAScaleToZero, CELOmitFunction, ");
    }
}
