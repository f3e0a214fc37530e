//! `KubeSchedulerConfiguration`: profiles, which plugins they ask, and how. Pure.

use std::time::Duration;

use model::object;
use serde_json::Value;

use super::pod_info::Spread;
use super::profile::{DefaultSpreads, FitStrategy, Plugin, Profile, WeightedResource};
use super::queue::Delays;
use crate::node_affinity::{self, PreferredNodes};

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// Plugins of upstream whose work is done elsewhere here, or always.
const BUILT_IN: &[&str] = &["PrioritySort", "DefaultBinder"];
/// Extension points of plugins that filter.
const FILTERING: &[&str] = &["preEnqueue", "preFilter", "filter", "postFilter"];
/// Extension points of plugins that score.
const SCORING: &[&str] = &["preScore", "score"];

/// How the scheduler is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// One for each `schedulerName`.
    pub(super) profiles: Vec<Profile>,
    /// How long Pods wait between attempts.
    pub(super) delays: Delays,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::default()],
            delays: Delays::default(),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ConfigurationError {
    field: String,
    why: String,
}

fn wrong<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, ConfigurationError> {
    Err(ConfigurationError {
        field: field.into(),
        why: why.into(),
    })
}

impl Configuration {
    /// Reads a `KubeSchedulerConfiguration`.
    pub fn parse(value: &Value) -> Result<Self, ConfigurationError> {
        let text = |name: &str| object::text(value, &[name]);
        if text("apiVersion") != API_VERSION || text("kind") != KIND {
            return wrong("kind", format!("want a {KIND} of {API_VERSION}"));
        }
        if !object::list(value, &["extenders"]).is_empty() {
            return wrong("extenders", "extenders are not supported");
        }
        let mut configuration = Self::default();
        let seconds = |name: &str, default: Duration| -> Result<Duration, ConfigurationError> {
            match value.get(name) {
                None | Some(Value::Null) => Ok(default),
                Some(given) => match given.as_u64().filter(|seconds| *seconds > 0) {
                    Some(seconds) => Ok(Duration::from_secs(seconds)),
                    None => wrong(name, "must be a number greater than 0"),
                },
            }
        };
        let delays = &mut configuration.delays;
        delays.initial = seconds("podInitialBackoffSeconds", delays.initial)?;
        delays.max = seconds("podMaxBackoffSeconds", delays.max)?;
        if delays.max < delays.initial {
            return wrong(
                "podMaxBackoffSeconds",
                "must not be less than podInitialBackoffSeconds",
            );
        }
        let percentage = percentage(value, "percentageOfNodesToScore")?;
        let profiles = object::list(value, &["profiles"]);
        if !profiles.is_empty() {
            configuration.profiles.clear();
        }
        for (at, given) in profiles.iter().enumerate() {
            let field = format!("profiles[{at}]");
            let read = profile(&field, given)?;
            let same = |other: &Profile| other.scheduler_name == read.scheduler_name;
            if configuration.profiles.iter().any(same) {
                return wrong(
                    format!("{field}.schedulerName"),
                    "is used by another profile",
                );
            }
            configuration.profiles.push(read);
        }
        for profile in &mut configuration.profiles {
            profile.percentage_of_nodes = profile.percentage_of_nodes.or(percentage);
        }
        Ok(configuration)
    }
}

fn percentage(value: &Value, field: &str) -> Result<Option<usize>, ConfigurationError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(given) => match given.as_u64().filter(|percent| *percent <= 100) {
            Some(percent) => Ok(Some(percent as usize)),
            None => wrong(field, "must be a number from 0 to 100"),
        },
    }
}

fn profile(field: &str, value: &Value) -> Result<Profile, ConfigurationError> {
    let mut profile = Profile::default();
    let name = object::text(value, &["schedulerName"]);
    if !name.is_empty() {
        name.clone_into(&mut profile.scheduler_name);
    }
    profile.percentage_of_nodes = percentage(value, "percentageOfNodesToScore")?;
    let plugins = value.get("plugins").and_then(Value::as_object);
    for (point, set) in plugins.into_iter().flatten() {
        let at = format!("{field}.plugins.{point}");
        select(&at, point, set, &mut profile)?;
    }
    for (at, entry) in object::list(value, &["pluginConfig"]).iter().enumerate() {
        let field = format!("{field}.pluginConfig[{at}]");
        let empty = Value::Null;
        let arguments = entry.get("args").unwrap_or(&empty);
        configure(
            &field,
            object::text(entry, &["name"]),
            arguments,
            &mut profile,
        )?;
    }
    Ok(profile)
}

/// Switches plugins on and off at an extension point.
fn select(
    field: &str,
    point: &str,
    set: &Value,
    profile: &mut Profile,
) -> Result<(), ConfigurationError> {
    let everywhere = point == "multiPoint";
    let filters = everywhere || FILTERING.contains(&point);
    let scores = everywhere || SCORING.contains(&point);
    let named = |entry: &Value| -> Result<Option<Plugin>, ConfigurationError> {
        let name = object::text(entry, &["name"]);
        match Plugin::parse(name) {
            Some(plugin) => Ok(Some(plugin)),
            None if BUILT_IN.contains(&name) => Ok(None),
            None => wrong(field, format!("plugin {name:?} does not exist here")),
        }
    };
    let disable = |plugin: Plugin, profile: &mut Profile| {
        if filters {
            profile.enabled.remove(plugin);
        }
        if scores {
            profile.weights[plugin as usize] = 0;
        }
    };
    for entry in object::list(set, &["disabled"]) {
        if object::text(entry, &["name"]) == "*" {
            for plugin in Plugin::ALL {
                disable(plugin, profile);
            }
        } else if let Some(plugin) = named(entry)? {
            disable(plugin, profile);
        }
    }
    for entry in object::list(set, &["enabled"]) {
        let Some(plugin) = named(entry)? else {
            continue;
        };
        if filters {
            profile.enabled.insert(plugin);
        }
        if scores && plugin.default_weight() > 0 {
            let weight = object::number(entry, &["weight"]).filter(|weight| *weight > 0);
            profile.weights[plugin as usize] = weight.unwrap_or(plugin.default_weight());
        }
    }
    Ok(())
}

/// Reads the arguments of a plugin.
fn configure(
    field: &str,
    name: &str,
    arguments: &Value,
    profile: &mut Profile,
) -> Result<(), ConfigurationError> {
    let number = |name: &str| object::number(arguments, &[name]);
    match name {
        "NodeAffinity" => {
            let path = [
                "addedAffinity",
                "requiredDuringSchedulingIgnoredDuringExecution",
            ];
            let required = object::at(arguments, &path).filter(|own| own.is_object());
            profile.added_affinity = required.map(node_affinity::terms);
            let path = [
                "addedAffinity",
                "preferredDuringSchedulingIgnoredDuringExecution",
            ];
            profile.added_preferences = PreferredNodes::of_list(object::list(arguments, &path));
        }
        "InterPodAffinity" => {
            if let Some(weight) = number("hardPodAffinityWeight") {
                if !(0..=100).contains(&weight) {
                    return wrong(
                        format!("{field}.args.hardPodAffinityWeight"),
                        "not in valid range [0-100]",
                    );
                }
                profile.hard_affinity_weight = weight;
            }
            profile.ignores_preferences_of_placed =
                arguments.get("ignorePreferredTermsOfExistingPods") == Some(&Value::Bool(true));
        }
        "PodTopologySpread" => {
            let none = |_: &str| None;
            let list = object::list(arguments, &["defaultConstraints"]);
            let own = object::text(arguments, &["defaultingType"]) == "List";
            if !own && !list.is_empty() {
                let why = "when .defaultingType is \"System\", .defaultConstraints must be empty";
                return wrong(format!("{field}.args.defaultConstraints"), why);
            }
            if own {
                let spreads = list.iter().map(|one| Spread::of(one, &none)).collect();
                profile.default_spreads = DefaultSpreads::List(spreads);
            }
        }
        "DefaultPreemption" => {
            if let Some(percentage) = percentage(arguments, "minCandidateNodesPercentage")? {
                profile.preemption_percentage = percentage;
            }
            if let Some(minimum) = number("minCandidateNodesAbsolute") {
                profile.preemption_minimum = usize::try_from(minimum).unwrap_or(0);
            }
        }
        "NodeResourcesFit" => fit(field, arguments, profile)?,
        "NodeResourcesBalancedAllocation" => {
            if let Some(resources) = resources(arguments) {
                profile.balanced_resources = resources;
            }
        }
        // Its only argument is how long to wait for volumes.
        "VolumeBinding" => {}
        other => {
            return wrong(
                format!("{field}.name"),
                format!("plugin {other:?} takes no arguments"),
            );
        }
    }
    Ok(())
}

fn resources(value: &Value) -> Option<Vec<WeightedResource>> {
    let list = object::list(value, &["resources"]);
    let read = |entry: &Value| WeightedResource {
        name: object::text(entry, &["name"]).to_owned(),
        weight: object::number(entry, &["weight"]).unwrap_or(1).max(1),
    };
    (!list.is_empty()).then(|| list.iter().map(read).collect())
}

fn fit(field: &str, arguments: &Value, profile: &mut Profile) -> Result<(), ConfigurationError> {
    let texts = |name: &str| -> Vec<String> {
        let list = object::list(arguments, &[name]);
        list.iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    profile.ignored_resources = texts("ignoredResources");
    profile.ignored_resource_groups = texts("ignoredResourceGroups");
    let Some(strategy) = arguments
        .get("scoringStrategy")
        .filter(|own| own.is_object())
    else {
        return Ok(());
    };
    if let Some(resources) = resources(strategy) {
        profile.fit_resources = resources;
    }
    profile.fit = match object::text(strategy, &["type"]) {
        "" | "LeastAllocated" => FitStrategy::LeastAllocated,
        "MostAllocated" => FitStrategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let shape = object::list(strategy, &["requestedToCapacityRatio", "shape"]);
            let point = |point: &Value| {
                let number = |name: &str| object::number(point, &[name]).unwrap_or(0);
                (number("utilization"), number("score"))
            };
            let points: Vec<(i64, i64)> = shape.iter().map(point).collect();
            let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let in_range =
                |(at, score): &(i64, i64)| (0..=100).contains(at) && (0..=10).contains(score);
            if points.is_empty() || !rising || !points.iter().all(in_range) {
                return wrong(
                    format!("{field}.args.scoringStrategy.requestedToCapacityRatio.shape"),
                    "want points of rising utilization (0 to 100) with a score (0 to 10)",
                );
            }
            FitStrategy::RequestedToCapacityRatio(points)
        }
        other => {
            let why = format!("{other:?} is no strategy");
            return wrong(format!("{field}.args.scoringStrategy.type"), why);
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(mut value: Value) -> Result<Configuration, String> {
        value["apiVersion"] = json!(API_VERSION);
        value["kind"] = json!(KIND);
        Configuration::parse(&value).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(parse(json!({})), Ok(Configuration::default()));
    }

    #[test]
    fn profiles_choose_plugins() {
        let read = parse(json!({
            "percentageOfNodesToScore": 20,
            "podMaxBackoffSeconds": 30,
            "profiles": [{}, {
                "schedulerName": "packed",
                "plugins": {
                    "score": {"disabled": [{"name": "*"}],
                              "enabled": [{"name": "NodeResourcesFit", "weight": 7}]},
                    "multiPoint": {"disabled": [{"name": "DefaultPreemption"}],
                                   "enabled": [{"name": "PrioritySort"}]},
                },
                "pluginConfig": [{"name": "NodeResourcesFit", "args": {
                    "scoringStrategy": {"type": "MostAllocated"}}}],
            }],
        }))
        .expect("makes sense");
        let packed = &read.profiles[1];
        assert_eq!(packed.fit, FitStrategy::MostAllocated);
        assert_eq!(packed.weight(Plugin::NodeResourcesFit), 7);
        assert_eq!(packed.weight(Plugin::TaintToleration), 0);
        assert!(packed.has(Plugin::TaintToleration));
        assert!(!packed.has(Plugin::DefaultPreemption));
        assert_eq!(read.profiles[0].percentage_of_nodes, Some(20));
        assert_eq!(read.delays.max, Duration::from_secs(30));
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |value: Value, expect: &str| {
            assert_eq!(parse(value).err().as_deref(), Some(expect));
        };
        check(
            json!({"extenders": [{}]}),
            "extenders: extenders are not supported",
        );
        check(
            json!({"profiles": [{}, {}]}),
            "profiles[1].schedulerName: is used by another profile",
        );
        check(
            json!({"profiles": [{"plugins": {"score": {"enabled": [{"name": "Nope"}]}}}]}),
            "profiles[0].plugins.score: plugin \"Nope\" does not exist here",
        );
        check(
            json!({"percentageOfNodesToScore": 101}),
            "percentageOfNodesToScore: must be a number from 0 to 100",
        );
        check(
            json!({"podInitialBackoffSeconds": 20}),
            "podMaxBackoffSeconds: must not be less than podInitialBackoffSeconds",
        );
    }
}
