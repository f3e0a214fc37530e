//! Rules for author-defined conditions that types do not express.

use std::collections::BTreeSet;

use cel::{Ast, ExprId, ExprKind, Literal};

use super::error::BuildError;
use super::{RUNTIME_VARIABLE, SCHEMA_VARIABLE, parse};

/// What `runtime.condition(schema, ...)` can be asked for.
const BUILT_IN: [&str; 4] = [
    "Ready",
    "InstanceManaged",
    "GraphResolved",
    "ResourcesReady",
];

/// Checks what is written out in the expressions, each given with its path.
pub(super) fn check_literals(sources: &[(String, String)]) -> Result<(), BuildError> {
    let mut declared: BTreeSet<String> = BTreeSet::new();
    let mut parsed = Vec::new();
    for (path, source) in sources {
        let fail = |message: String| BuildError::new(message).at(path).in_expression(source);
        let ast = parse::parse(source).map_err(fail)?;
        let own: BTreeSet<String> = calls(&ast, "newCondition")
            .into_iter()
            .filter_map(|arguments| literal(&ast, *arguments.first()?))
            .collect();
        if let Some(twice) = own.iter().find(|name| declared.contains(*name)) {
            return Err(fail(format!(
                "condition type \"{twice}\" is declared by more than one conditions entry"
            )));
        }
        declared.extend(own);
        parsed.push((path, source, ast));
    }
    for (path, source, ast) in &parsed {
        let fail = |message: String| BuildError::new(message).at(path).in_expression(source);
        for arguments in calls(ast, "condition") {
            check_lookup(ast, &arguments, &declared).map_err(fail)?;
        }
    }
    Ok(())
}

fn check_lookup(
    ast: &Ast,
    arguments: &[ExprId],
    declared: &BTreeSet<String>,
) -> Result<(), String> {
    let [object, name] = arguments else {
        return Ok(());
    };
    let on_schema = matches!(&ast.node(*object).kind, ExprKind::Ident { name, .. } if &**name == SCHEMA_VARIABLE);
    let Some(name) =
        literal(ast, *name).filter(|name| on_schema && !BUILT_IN.contains(&name.as_str()))
    else {
        return Ok(());
    };
    if declared.contains(&name) {
        return Err(format!(
            "runtime.condition(schema, \"{name}\"): custom conditions cannot reference each other"
        ));
    }
    let hint = crate::nearest::suggestion(&name, BUILT_IN);
    Err(format!(
        "runtime.condition(schema, \"{name}\"): unknown condition type; only kro's built-in types (InstanceManaged, GraphResolved, ResourcesReady, Ready) can be read from schema{hint}"
    ))
}

/// The arguments of all calls `runtime.NAME(...)`, written out or made by a macro.
fn calls(ast: &Ast, method: &str) -> Vec<Vec<ExprId>> {
    let qualified = format!("{RUNTIME_VARIABLE}.{method}");
    let is_runtime = |target: &Option<ExprId>, function: &str| match target {
        None => function == qualified,
        Some(target) => {
            let node = &ast.node(*target).kind;
            function == method
                && matches!(node, ExprKind::Ident { name, .. } if &**name == RUNTIME_VARIABLE)
        }
    };
    let mut found = Vec::new();
    let mut stack = vec![ast.root()];
    while let Some(id) = stack.pop() {
        let kind = &ast.node(id).kind;
        if let ExprKind::Call {
            function,
            target,
            arguments,
        } = kind
            && is_runtime(target, function)
        {
            found.push(arguments.to_vec());
        }
        push_operands(kind, &mut stack);
    }
    found
}

/// Puts the direct operands of an expression on the stack, the last first.
fn push_operands(kind: &ExprKind, stack: &mut Vec<ExprId>) {
    let before = stack.len();
    match kind {
        ExprKind::Literal(_) | ExprKind::Ident { .. } => {}
        ExprKind::Select { operand, .. }
        | ExprKind::Has { operand, .. }
        | ExprKind::Unary(_, operand) => {
            stack.push(*operand);
        }
        ExprKind::Index { operand, index, .. } => stack.extend([*operand, *index]),
        ExprKind::Call {
            target, arguments, ..
        } => stack.extend(target.iter().chain(arguments.iter())),
        ExprKind::Binary(_, left, right) => stack.extend([*left, *right]),
        ExprKind::And(operands) | ExprKind::Or(operands) => stack.extend(operands.iter()),
        ExprKind::Conditional {
            condition,
            then,
            otherwise,
        } => stack.extend([*condition, *then, *otherwise]),
        ExprKind::List(items) => stack.extend(items.iter().map(|item| item.value)),
        ExprKind::Map(items) => stack.extend(items.iter().flat_map(|item| [item.key, item.value])),
        ExprKind::Struct { fields, .. } => stack.extend(fields.iter().map(|field| field.value)),
        ExprKind::Comprehension(inner) => {
            stack.push(inner.range);
            stack.extend(inner.filter);
            stack.push(inner.body);
        }
        ExprKind::Bind { init, body, .. } => stack.extend([*init, *body]),
        ExprKind::OptionalMap { target, body, .. } => stack.extend([*target, *body]),
    }
    stack[before..].reverse();
}

fn literal(ast: &Ast, id: ExprId) -> Option<String> {
    match &ast.node(id).kind {
        ExprKind::Literal(Literal::String(text)) => Some(text.to_string()),
        _ => None,
    }
}
