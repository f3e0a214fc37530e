//! Which controllers run: `--controllers`, with upstream's grammar.

/// Every controller of this crate.
pub const NAMES: &[&str] = &[
    "namespace",
    "serviceaccount",
    "legacyserviceaccounttokencleaner",
    "garbagecollector",
    "replicaset",
    "replicationcontroller",
    "deployment",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
    "ttlafterfinished",
    "horizontalpodautoscaler",
    "endpoints",
    "endpointslice",
    "endpointslicemirroring",
    "resourcequota",
    "disruption",
    "persistentvolumebinder",
    "localpathprovisioner",
    "validatingadmissionpolicystatus",
    "rootcacertificatepublisher",
    "nodelifecycle",
    "nodeipam",
    "tainteviction",
    "podgarbagecollector",
    "servicecidr",
    "persistentvolumeclaimprotection",
    "persistentvolumeprotection",
    "volumeattributesclassprotection",
    "scheduler",
    "clusterroleaggregation",
];

/// The controllers to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<&'static str>);

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

/// A name no controller has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("controller {name:?} is unknown; there are {}", NAMES.join(", "))]
pub struct UnknownController {
    /// The name.
    pub name: String,
}

impl Selection {
    /// Reads a list such as `*`, `*,-job` or `namespace,garbagecollector`. Upstream's suffix
    /// `-controller` may be there or not.
    pub fn parse(words: &[String]) -> Result<Self, UnknownController> {
        let known = |word: &str| -> Result<&'static str, UnknownController> {
            let plain = word
                .strip_suffix("-controller")
                .unwrap_or(word)
                .replace('-', "");
            // The name it had before names were made regular.
            let plain = if plain == "podgc" {
                "podgarbagecollector"
            } else {
                &plain
            };
            let found = NAMES.iter().find(|name| **name == plain).copied();
            found.ok_or_else(|| UnknownController {
                name: word.to_owned(),
            })
        };
        let (mut all, mut wanted, mut unwanted) = (false, Vec::new(), Vec::new());
        for word in words
            .iter()
            .map(|word| word.trim())
            .filter(|word| !word.is_empty())
        {
            match word.strip_prefix('-') {
                Some(name) => unwanted.push(known(name)?),
                None if word == "*" => all = true,
                None => wanted.push(known(word)?),
            }
        }
        let names = NAMES
            .iter()
            .filter(|name| (all || wanted.contains(name)) && !unwanted.contains(name))
            .copied()
            .collect();
        Ok(Self(names))
    }

    /// Every controller.
    pub fn all() -> Self {
        Self(NAMES.to_vec())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expect: &[&str]) {
        let words: Vec<String> = list.split(',').map(str::to_owned).collect();
        let selection = Selection::parse(&words).expect(list);
        assert_eq!(selection.names().collect::<Vec<_>>(), expect, "{list}");
    }

    #[test]
    fn lists_select_controllers() {
        check("*", NAMES);
        check("job,namespace-controller", &["namespace", "job"]);
        let others: Vec<&str> = NAMES
            .iter()
            .filter(|name| !["scheduler", "job"].contains(name))
            .copied()
            .collect();
        check("*,-scheduler,-job", &others);
        check("garbage-collector-controller", &["garbagecollector"]);
        check("", &[]);
        assert!(Selection::parse(&["nonsense".to_owned()]).is_err());
    }
}
