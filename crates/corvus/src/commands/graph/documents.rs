//! Files of manifests, and the graphs they define.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use graph::{BuildError, BuildOptions, Features, Graph, OfflineKinds};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::marks::Marks;

/// Larger files are no manifests.
const LARGEST_FILE_BYTES: u64 = 16 << 20;

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it stands; `-` is stdin.
    pub file: PathBuf,
    /// The object.
    pub value: Value,
    /// The text of the whole file.
    pub text: Arc<str>,
    /// Where the object's fields stand in it.
    pub marks: Arc<Marks>,
}

impl Document {
    /// `Kind "name"`
    pub fn title(&self) -> String {
        let name = self.value["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name:?}", self.kind())
    }

    /// Its kind, empty if it has none.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    fn is_of_group(&self, group: &str) -> bool {
        let version = self.value["apiVersion"].as_str().unwrap_or_default();
        version
            .strip_prefix(group)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether it is a ResourceGraphDefinition.
    pub fn is_definition(&self) -> bool {
        self.kind() == "ResourceGraphDefinition" && self.is_of_group("kro.run")
    }

    /// Whether it is a CustomResourceDefinition.
    pub fn is_crd(&self) -> bool {
        self.kind() == "CustomResourceDefinition" && self.is_of_group("apiextensions.k8s.io")
    }
}

/// Reads all documents of a file, YAML or JSON.
pub fn read(file: &Path) -> anyhow::Result<Vec<Document>> {
    let mut text = String::new();
    let mut reader: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let open = std::fs::File::open(file);
        Box::new(open.with_context(|| format!("reading {}", file.display()))?)
    };
    reader
        .by_ref()
        .take(LARGEST_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", file.display()))?;
    if text.len() as u64 > LARGEST_FILE_BYTES {
        bail!(
            "reading {}: it is larger than {LARGEST_FILE_BYTES} bytes",
            file.display()
        );
    }
    let fail = |error: serde_saphyr::Error| anyhow!("reading {}: {error}", file.display());
    // kubectl lets the last of several equal keys count, so files with such keys are in use.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let values: Vec<Value> =
        serde_saphyr::from_multiple_with_options(&text, options.clone()).map_err(fail)?;
    let marks: Vec<Spanned<Marks>> =
        serde_saphyr::from_multiple_with_options(&text, options).map_err(fail)?;
    if let Some((line, column)) = repeated_key(&text) {
        let file = file.display();
        eprintln!("corvus: {file}:{line}:{column}: the key is there twice; the last one counts");
    }
    let text: Arc<str> = text.into();
    let documents = values
        .into_iter()
        .zip(marks)
        .filter(|(value, _)| !value.is_null())
        .map(|(value, marks)| Document {
            file: file.to_owned(),
            value,
            text: text.clone(),
            marks: Arc::new(marks.value),
        });
    Ok(documents.collect())
}

/// Where a key stands that its map has already.
fn repeated_key(text: &str) -> Option<(u64, u64)> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let strict: Result<Vec<Value>, _> = serde_saphyr::from_multiple_with_options(text, options);
    match strict.as_ref().err()?.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { location, .. } => {
            Some((location.line(), location.column()))
        }
        _ => None,
    }
}

/// The only object of a file.
pub fn one(file: &Path) -> anyhow::Result<Value> {
    let mut documents = read(file)?;
    match (documents.pop(), documents.is_empty()) {
        (Some(only), true) => Ok(only.value),
        _ => bail!("{}: not exactly one object", file.display()),
    }
}

/// What became of a definition.
pub struct Definition {
    /// The ResourceGraphDefinition.
    pub document: Document,
    /// Its graph.
    pub graph: Result<Graph, BuildError>,
}

/// Builds all ResourceGraphDefinitions among the documents, in their order. They may make kinds of each other and of
/// the CustomResourceDefinitions among the documents.
pub fn build_all(documents: &[Document], features: Features) -> Vec<Definition> {
    let mut kinds = OfflineKinds::new();
    for document in documents.iter().filter(|document| document.is_crd()) {
        kinds.add_crd(&document.value);
    }
    let definitions = documents.iter().filter(|document| document.is_definition());
    let mut built: Vec<Definition> = definitions
        .map(|document| Definition {
            document: document.clone(),
            graph: build(document, &kinds, features),
        })
        .collect();
    // Every round that adds a kind may let others be built.
    let mut known = 0;
    loop {
        let good = || {
            built
                .iter()
                .filter_map(|definition| definition.graph.as_ref().ok())
        };
        if good().count() == known {
            return built;
        }
        known = good().count();
        for graph in good() {
            kinds.add_crd(&graph.crd());
        }
        for definition in built
            .iter_mut()
            .filter(|definition| definition.graph.is_err())
        {
            definition.graph = build(&definition.document, &kinds, features);
        }
    }
}

fn build(
    document: &Document,
    kinds: &OfflineKinds,
    features: Features,
) -> Result<Graph, BuildError> {
    let spec = graph::read_spec(&document.value["spec"])?;
    let options = BuildOptions {
        features,
        ..BuildOptions::default()
    };
    graph::build(&spec, kinds, &options)
}

/// The only definition of a file that `wanted` says, built.
pub fn one_graph(
    file: &Path,
    features: Features,
    wanted: impl Fn(&Document) -> bool,
    what: &str,
) -> anyhow::Result<Graph> {
    let definitions = build_all(&read(file)?, features);
    let mut found = definitions
        .into_iter()
        .filter(|definition| wanted(&definition.document));
    match (found.next(), found.next()) {
        (Some(only), None) => {
            let title = only.document.title();
            only.graph
                .map_err(|error| anyhow!("{}: {title}: {error}", file.display()))
        }
        (None, _) => bail!(
            "{}: there is no ResourceGraphDefinition{what}",
            file.display()
        ),
        (Some(_), Some(_)) => bail!(
            "{}: there is more than one ResourceGraphDefinition{what}",
            file.display()
        ),
    }
}
