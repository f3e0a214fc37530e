//! `defer(expression)`: a field that is filled in once its data is there (gate `DeferredFields`, kro's KREP-019).
//!
//! For CEL it is a function that gives back its argument, so the types are those of the argument. For the graph it
//! turns what the argument reads into soft dependencies, which order nothing and may stand in cycles.

use cel::{ExprKind, Function, PathElement, Type};

use super::BuildOptions;
use super::extract::{RawField, RawParts};
use super::parse::{self, ParsedResource};
use crate::features::Feature;
use crate::template::Step;

const NAME: &str = "defer";

/// The function for CEL.
pub(super) fn function() -> Function {
    let any = Type::Param(0);
    Function::new(NAME).global("defer", [any.clone()], any, |_, arguments| {
        Ok(arguments[0].clone())
    })
}

/// Whether an expression uses `defer()` anywhere.
pub(super) fn is_used(references: &cel::References) -> bool {
    let mut functions = references.functions.iter();
    functions.any(|function| function.name == NAME && !function.member)
}

/// Whether the field is deferred; an error where that makes no sense.
pub(super) fn check(
    source: &str,
    field: &RawField,
    resource: &ParsedResource,
    options: &BuildOptions,
) -> Result<bool, String> {
    if !source.contains(NAME) {
        return Ok(false);
    }
    let ast = parse::parse(source)?;
    if !is_used(ast.references()) {
        return Ok(false);
    }
    options
        .features
        .require(Feature::DeferredFields, "defer()")?;
    let uses = ast.references().functions.iter();
    let count = uses.filter(|function| function.name == NAME).count();
    let is_outermost = matches!(
        &ast.node(ast.root()).kind,
        ExprKind::Call { function, target: None, .. } if **function == *NAME
    );
    if !is_outermost || count > 1 || !matches!(field.parts, RawParts::Standalone(_)) {
        return Err(
            "defer() must be around the whole value of a field: ${defer(expression)}".to_owned(),
        );
    }
    if !resource.node_kind.is_ours() {
        return Err(
            "defer() can only be used in the templates of resources that are created".to_owned(),
        );
    }
    match field.path.steps() {
        [Step::Field(metadata), Step::Field(name)]
            if metadata == "metadata" && (name == "name" || name == "namespace") =>
        {
            let path = &field.path;
            return Err(format!(
                "defer() cannot be used at path \"{path}\": the object cannot be created without it"
            ));
        }
        [.., Step::Index(_)] => {
            return Err(
                "defer() cannot be an element of a list, whose other elements would move: put it around the list, or around \
                 a field of the element"
                    .to_owned(),
            );
        }
        _ => {}
    }
    match changes_with_every_write(&ast) {
        None => Ok(true),
        Some(field) => Err(format!(
            "defer() cannot read {field}, which changes with every write: the field would be filled in again and again"
        )),
    }
}

/// A field that expressions read though any write changes it.
fn changes_with_every_write(ast: &cel::Ast) -> Option<String> {
    const VOLATILE: [&str; 3] = ["resourceVersion", "generation", "managedFields"];
    ast.references()
        .reads
        .iter()
        .find_map(|read| match read.path.as_slice() {
            [PathElement::Field(metadata), PathElement::Field(name), ..]
                if metadata == "metadata"
                    && VOLATILE.contains(&name.as_str())
                    && read.root != super::SCHEMA_VARIABLE =>
            {
                Some(format!("{}.metadata.{name}", read.root))
            }
            _ => None,
        })
}
