//! What the expressions of a resource may refer to, and what follows for its dependencies.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::error::BuildError;
use super::extract::RawField;
use super::parse::{ENVIRONMENT, ParsedResource, parse};
use super::reads::{self, Reads};
use super::{
    BuildOptions, EACH_VARIABLE, RUNTIME_VARIABLE, SCHEMA_VARIABLE, deferred, dynamic_keys,
    template_rules,
};
use crate::features::Feature;
use crate::nearest::suggestion;

/// Which variables an expression may read, and what to call them in messages.
pub(super) struct Allowed<'a> {
    pub names: Vec<&'a str>,
    pub omit: bool,
    pub runtime: bool,
}

impl<'a> Allowed<'a> {
    /// These variables, and nothing that only templates or conditions of the status may use.
    fn only(names: Vec<&'a str>) -> Self {
        Self {
            names,
            omit: false,
            runtime: false,
        }
    }
}

/// Checks what an expression refers to; returns the variables it reads.
pub(super) fn references(source: &str, allowed: &Allowed<'_>) -> Result<BTreeSet<String>, String> {
    let ast = parse(source)?;
    let unknown_functions = ENVIRONMENT.unknown_functions(&ast);
    if !unknown_functions.is_empty() {
        return Err(format!(
            "uses unknown functions: [{}]",
            unknown_functions.join(" ")
        ));
    }
    let references = ast.references();
    let mut functions = references.functions.iter();
    if !allowed.omit && functions.any(|function| function.name == "omit" && !function.member) {
        return Err("omit() can only be used in resource template expressions".to_owned());
    }
    if !allowed.omit && deferred::is_used(references) {
        return Err("defer() can only be used in resource template expressions".to_owned());
    }
    let roots = crate::expression::roots(references);
    let mut functions = references.functions.iter();
    let calls_runtime = functions.any(|function| function.name.starts_with("runtime."));
    if (calls_runtime || roots.contains(RUNTIME_VARIABLE)) && !allowed.runtime {
        return Err("runtime is only available in status.conditions expressions".to_owned());
    }
    let is_allowed =
        |name: &str| allowed.names.contains(&name) || (name == RUNTIME_VARIABLE && allowed.runtime);
    match roots.iter().find(|name| !is_allowed(name)) {
        None => Ok(roots),
        Some(unknown) => {
            let hint = suggestion(unknown, allowed.names.iter().copied());
            Err(format!("references unknown identifiers: [{unknown}]{hint}"))
        }
    }
}

/// Checks all references of a resource and notes the resources it depends on. `patches` are those among `ids` that
/// publish nothing.
pub(super) fn check(
    parsed: &mut ParsedResource,
    ids: &[&str],
    patches: &[&str],
    options: &BuildOptions,
) -> Result<(), BuildError> {
    let mut used = Reads::default();
    let readable = ids.iter().copied().filter(|id| !patches.contains(id));
    let check = Check {
        resource: parsed,
        others: readable.chain([SCHEMA_VARIABLE]).collect(),
        patches,
        options,
    };
    let deferred = check.template(&mut used)?;
    let in_include_when = check.include_when()?;
    used.extend(&in_include_when);
    check.for_each(&mut used)?;
    check.ready_when()?;
    if used.contains(&parsed.id) {
        return Err(BuildError::of(
            &parsed.id,
            "self references are not allowed",
        ));
    }
    for (field, is_deferred) in parsed.fields.iter_mut().zip(deferred) {
        field.is_deferred = is_deferred;
    }
    reads::note(parsed, ids, &used, &in_include_when);
    Ok(())
}

struct Check<'a> {
    resource: &'a ParsedResource,
    /// What every part may read.
    others: Vec<&'a str>,
    patches: &'a [&'a str],
    options: &'a BuildOptions,
}

impl Check<'_> {
    fn fail(&self, mut message: String, path: &dyn Display, source: &str) -> BuildError {
        let reads =
            |id: &&str| message.starts_with(&format!("references unknown identifiers: [{id}]"));
        if self.patches.iter().any(reads) {
            message
                .push_str(" (a patch publishes nothing: read its object through an externalRef)");
        }
        BuildError::of(&self.resource.id, message)
            .at(path)
            .in_expression(source)
    }

    fn by_branch(&self) -> bool {
        self.options.features.has(Feature::PartialDependencies)
    }

    /// Checks the template; says which of its fields are deferred.
    fn template(&self, used: &mut Reads) -> Result<Vec<bool>, BuildError> {
        let resource = self.resource;
        let iterators = resource.for_each.iter().map(|(name, _)| name.as_str());
        let allowed = Allowed {
            names: self.others.iter().copied().chain(iterators).collect(),
            omit: !resource.node_kind.is_variable(),
            runtime: false,
        };
        let mut in_identity = BTreeSet::new();
        let mut deferred_fields = Vec::with_capacity(resource.fields.len());
        for field in &resource.fields {
            let mut any_deferred = false;
            for source in field.sources() {
                let fail = |message| self.fail(message, &field.path, source);
                let roots = references(source, &allowed).map_err(fail)?;
                check_omit(source, field, resource, self.options).map_err(fail)?;
                if template_rules::is_identity(field, resource.kind.resource.namespaced) {
                    in_identity.extend(roots.iter().cloned());
                }
                if deferred::check(source, field, resource, self.options).map_err(fail)? {
                    any_deferred = true;
                    used.add_later(roots);
                } else {
                    used.add(source, roots, self.by_branch());
                }
            }
            deferred_fields.push(any_deferred);
        }
        for (source, roots) in dynamic_keys::check(resource, &allowed.names, self.options)? {
            used.add(&source, roots, self.by_branch());
        }
        self.identity(&in_identity)?;
        Ok(deferred_fields)
    }

    /// Every iterator must make a difference to the identity of objects.
    fn identity(&self, in_identity: &BTreeSet<String>) -> Result<(), BuildError> {
        let resource = self.resource;
        let iterators = resource.for_each.iter().map(|(name, _)| name.as_str());
        let missing: Vec<&str> = iterators
            .filter(|name| !resource.node_kind.is_variable() && !in_identity.contains(*name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "all forEach dimensions must be used to produce a unique resource identity, missing: [{}]",
            missing.join(" ")
        );
        Err(BuildError::of(&resource.id, message).at("metadata.name"))
    }

    fn include_when(&self) -> Result<Reads, BuildError> {
        let allowed = Allowed::only(self.others.clone());
        let mut read = Reads::default();
        for (index, source) in self.resource.include_when.iter().enumerate() {
            let path = format!("includeWhen[{index}]");
            let roots = references(source, &allowed)
                .map_err(|message| self.fail(message, &path, source))?;
            read.add(source, roots, self.by_branch());
        }
        Ok(read)
    }

    fn for_each(&self, used: &mut Reads) -> Result<(), BuildError> {
        let allowed = Allowed::only(self.others.clone());
        for (name, source) in &self.resource.for_each {
            let path = format!("forEach.{name}");
            let roots = references(source, &allowed).map_err(|message| {
                let mut iterators = self.resource.for_each.iter();
                let other = iterators.any(|(known, _)| message.contains(&format!("[{known}]")));
                let hint = if other {
                    " (iterators cannot reference other iterators: they are independent)"
                } else {
                    ""
                };
                self.fail(format!("{message}{hint}"), &path, source)
            })?;
            used.add(source, roots, self.by_branch());
        }
        Ok(())
    }

    fn ready_when(&self) -> Result<(), BuildError> {
        let own = if self.resource.node_kind.is_repeated() {
            EACH_VARIABLE
        } else {
            self.resource.id.as_str()
        };
        let allowed = Allowed::only(vec![own]);
        for (index, source) in self.resource.ready_when.iter().enumerate() {
            let path = format!("readyWhen[{index}]");
            references(source, &allowed).map_err(|message| {
                let hint = format!(" (readyWhen sees only \"{own}\")");
                self.fail(format!("{message}{hint}"), &path, source)
            })?;
        }
        Ok(())
    }
}

fn check_omit(
    source: &str,
    field: &RawField,
    resource: &ParsedResource,
    options: &BuildOptions,
) -> Result<(), String> {
    if !source.contains("omit") {
        return Ok(());
    }
    let ast = parse(source)?;
    let mut functions = ast.references().functions.iter();
    if !functions.any(|function| function.name == "omit" && !function.member) {
        return Ok(());
    }
    options
        .features
        .require(Feature::CelOmitFunction, "omit()")?;
    if field.path.is(&["metadata", "name"])
        || (resource.node_kind.is_written() && field.path.is(&["metadata", "namespace"]))
    {
        let path = &field.path;
        return Err(format!(
            "omit() cannot be used at path \"{path}\" — the field is required and must resolve to a concrete value"
        ));
    }
    Ok(())
}
