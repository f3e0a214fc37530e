//! Which controllers run: `--controllers` with upstream's grammar, and `graph` as one more name.

use anyhow::bail;
use kubernetes::Selection;

/// The name of the controllers of ResourceGraphDefinitions.
const GRAPH: &str = "graph";

/// The controllers to run.
#[derive(Debug, PartialEq, Eq)]
pub struct Controllers {
    /// Kubernetes' own.
    pub kubernetes: Selection,
    /// Whether those of ResourceGraphDefinitions run.
    pub graph: bool,
}

impl Controllers {
    /// Reads a list such as `*`, `*,-graph` or `graph,deployment`.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let words: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
        let has = |name: &str| words.iter().any(|word| word == name);
        let graph = (has("*") || has(GRAPH)) && !has("-graph");
        let own: Vec<String> = words
            .into_iter()
            .filter(|word| word != GRAPH && word != "-graph")
            .collect();
        match Selection::parse(&own) {
            Ok(kubernetes) => Ok(Self { kubernetes, graph }),
            Err(error) => bail!("--controllers: {error}, {GRAPH}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_select_controllers() {
        let check = |list: &str, graph: bool, kubernetes: usize| {
            let words: Vec<String> = list.split(',').map(str::to_owned).collect();
            let found = Controllers::parse(&words).expect(list);
            let count = found.kubernetes.names().count();
            assert_eq!((found.graph, count), (graph, kubernetes), "{list}");
        };
        let all = Selection::all().names().count();
        check("*", true, all);
        check("*,-graph", false, all);
        check("graph", true, 0);
        check("graph,job", true, 1);
        check("job", false, 1);
        check("*,-job", true, all - 1);
        let error = Controllers::parse(&["grpah".to_owned()]).expect_err("unknown");
        assert!(error.to_string().ends_with(", graph"), "{error}");
    }
}
