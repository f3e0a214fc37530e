//! Syntax trees back to text.
//!
//! Writes macros as they were written, parentheses where precedence needs them. Parsing the text gives the same
//! tree again.

use crate::ast::{Ast, BinaryOperator, ComprehensionKind, ExprId, ExprKind, Literal};
use crate::library::strings::quote;
use std::fmt::Write as _;

/// The text of a tree.
pub fn unparse(ast: &Ast) -> String {
    let mut writer = Writer {
        ast,
        out: String::with_capacity(ast.source().len()),
    };
    writer.write(ast.root(), 0);
    writer.out
}

struct Writer<'t> {
    ast: &'t Ast,
    out: String,
}

/// How tightly the operator of a node binds.
fn precedence(kind: &ExprKind) -> u8 {
    match kind {
        ExprKind::Conditional { .. } => 0,
        ExprKind::Or(_) => 1,
        ExprKind::And(_) => 2,
        ExprKind::Binary(operator, ..) => match operator {
            BinaryOperator::Add | BinaryOperator::Subtract => 4,
            BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo => 5,
            _ => 3,
        },
        ExprKind::Unary(..) => 6,
        ExprKind::Literal(Literal::Int(value)) if *value < 0 => 6,
        ExprKind::Literal(Literal::Double(value)) if value.is_sign_negative() => 6,
        _ => 7,
    }
}

impl Writer<'_> {
    /// Writes a node; in parentheses if it binds less tightly than `minimum`.
    fn write(&mut self, id: ExprId, minimum: u8) {
        let ast = self.ast;
        // Down the chain first, then up: chains may be long.
        let mut spine = vec![(id, minimum)];
        while let Some((last, minimum)) = spine.last().copied() {
            let kind = &ast.node(last).kind;
            if precedence(kind) < minimum {
                self.out.push('(');
            }
            if let ExprKind::Has { .. } = kind {
                self.out.push_str("has(");
            }
            if let ExprKind::Bind { variable, .. } = kind {
                if !variable.starts_with("@__sortBy") {
                    let _ = write!(self.out, "cel.bind({variable}, ");
                }
                let minimum = if variable.starts_with("@__sortBy") {
                    7
                } else {
                    0
                };
                spine.extend(kind.first_operand().map(|operand| (operand, minimum)));
                continue;
            }
            match kind.first_operand() {
                Some(operand) => {
                    let minimum = if matches!(kind, ExprKind::Binary(..)) {
                        precedence(kind)
                    } else {
                        7
                    };
                    spine.push((operand, minimum));
                }
                None => break,
            }
        }
        while let Some((id, minimum)) = spine.pop() {
            self.finish(id);
            if precedence(&ast.node(id).kind) < minimum {
                self.out.push(')');
            }
        }
    }

    /// Writes what stands behind the first operand of a node.
    fn finish(&mut self, id: ExprId) {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Literal(literal) => self.literal(literal),
            ExprKind::Ident { name, global } => {
                self.out.push_str(if *global { "." } else { "" });
                self.identifier(name);
            }
            ExprKind::Select {
                field, optional, ..
            } => self.field(field, *optional),
            ExprKind::Has {
                field, optional, ..
            } => {
                self.field(field, *optional);
                self.out.push(')');
            }
            ExprKind::Index {
                index, optional, ..
            } => {
                self.out.push_str(if *optional { "[?" } else { "[" });
                self.write(*index, 0);
                self.out.push(']');
            }
            ExprKind::Call {
                function,
                target,
                arguments,
            } => {
                self.out.push_str(if target.is_some() { "." } else { "" });
                self.out.push_str(function);
                self.arguments(arguments);
            }
            ExprKind::Unary(operator, operand) => {
                self.out.push_str(operator.function().trim_end_matches('_'));
                let start = self.out.len();
                self.write(*operand, 7);
                if self.out[start..].starts_with(|first: char| first.is_ascii_digit()) {
                    // A sign in front of a number would become part of it.
                    self.out.insert(start, '(');
                    self.out.push(')');
                }
            }
            ExprKind::Binary(operator, _, right) => {
                let _ = write!(self.out, " {} ", operator.symbol());
                self.write(*right, precedence(&ast.node(id).kind) + 1);
            }
            ExprKind::And(operands) => self.joined(operands, " && ", 3),
            ExprKind::Or(operands) => self.joined(operands, " || ", 2),
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            } => {
                self.write(*condition, 1);
                self.out.push_str(" ? ");
                self.write(*then, 1);
                self.out.push_str(" : ");
                self.write(*otherwise, 0);
            }
            ExprKind::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.out.push_str(if item.optional { "?" } else { "" });
                    self.write(item.value, 0);
                }
                self.out.push(']');
            }
            ExprKind::Map(items) => {
                self.out.push('{');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.out.push_str(if item.optional { "?" } else { "" });
                    self.write(item.key, 0);
                    self.out.push_str(": ");
                    self.write(item.value, 0);
                }
                self.out.push('}');
            }
            ExprKind::Struct { name, fields } => {
                let _ = write!(self.out, "{name}{{");
                for (index, item) in fields.iter().enumerate() {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.out.push_str(if item.optional { "?" } else { "" });
                    self.name(&item.field);
                    self.out.push_str(": ");
                    self.write(item.value, 0);
                }
                self.out.push('}');
            }
            ExprKind::Comprehension(_) | ExprKind::Bind { .. } | ExprKind::OptionalMap { .. } => {
                self.finish_macro(id);
            }
        }
    }

    fn finish_macro(&mut self, id: ExprId) {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Comprehension(inner) => {
                let name = match (inner.kind, inner.second.is_some()) {
                    (ComprehensionKind::All, _) => "all",
                    (ComprehensionKind::Exists, _) => "exists",
                    (ComprehensionKind::ExistsOne, false) => "exists_one",
                    (ComprehensionKind::ExistsOne, true) => "existsOne",
                    (ComprehensionKind::Filter, _) => "filter",
                    (ComprehensionKind::Map, false) => "map",
                    (ComprehensionKind::Map, true) => "transformList",
                    (ComprehensionKind::TransformMap, _) => "transformMap",
                    (ComprehensionKind::TransformMapEntry, _) => "transformMapEntry",
                };
                let _ = write!(self.out, ".{name}(");
                self.identifier(&inner.first);
                if let Some(second) = &inner.second {
                    self.out.push_str(", ");
                    self.identifier(second);
                }
                for argument in inner.filter.into_iter().chain([inner.body]) {
                    self.out.push_str(", ");
                    self.write(argument, 0);
                }
                self.out.push(')');
            }
            ExprKind::Bind { variable, body, .. } if variable.starts_with("@__sortBy") => {
                let key = match &ast.node(*body).kind {
                    ExprKind::Call { arguments, .. } => {
                        arguments.first().map(|keys| &ast.node(*keys).kind)
                    }
                    _ => None,
                };
                if let Some(ExprKind::Comprehension(keys)) = key {
                    let _ = write!(self.out, ".sortBy({}, ", keys.first);
                    self.write(keys.body, 0);
                    self.out.push(')');
                }
            }
            ExprKind::Bind { body, .. } => {
                self.out.push_str(", ");
                self.write(*body, 0);
                self.out.push(')');
            }
            ExprKind::OptionalMap {
                variable,
                body,
                flat,
                ..
            } => {
                let name = if *flat { "optFlatMap" } else { "optMap" };
                let _ = write!(self.out, ".{name}({variable}, ");
                self.write(*body, 0);
                self.out.push(')');
            }
            _ => {}
        }
    }

    fn arguments(&mut self, arguments: &[ExprId]) {
        self.out.push('(');
        for (index, argument) in arguments.iter().enumerate() {
            self.out.push_str(if index > 0 { ", " } else { "" });
            self.write(*argument, 0);
        }
        self.out.push(')');
    }

    fn joined(&mut self, operands: &[ExprId], separator: &str, minimum: u8) {
        for (index, operand) in operands.iter().enumerate() {
            self.out.push_str(if index > 0 { separator } else { "" });
            self.write(*operand, minimum);
        }
    }

    fn field(&mut self, field: &str, optional: bool) {
        self.out.push_str(if optional { ".?" } else { "." });
        self.name(field);
    }

    /// A field name, in backquotes if it is no identifier.
    fn name(&mut self, name: &str) {
        let mut bytes = name.bytes();
        let plain = bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name != "in";
        let quote = if plain { "" } else { "`" };
        let _ = write!(self.out, "{quote}{name}{quote}");
    }

    /// A variable; those of `cel.block` are written as the calls they came from.
    fn identifier(&mut self, name: &str) {
        let written = match (
            name.strip_prefix("@index"),
            name.strip_prefix("@it:"),
            name.strip_prefix("@ac:"),
        ) {
            (Some(index), ..) => format!("cel.index({index})"),
            (_, Some(numbers), _) => format!("cel.iterVar({})", numbers.replace(':', ", ")),
            (_, _, Some(numbers)) => format!("cel.accuVar({})", numbers.replace(':', ", ")),
            _ => name.to_owned(),
        };
        self.out.push_str(&written);
    }

    fn literal(&mut self, literal: &Literal) {
        let written = match literal {
            Literal::Null => "null".to_owned(),
            Literal::Bool(value) => value.to_string(),
            Literal::Int(value) => value.to_string(),
            Literal::Uint(value) => format!("{value}u"),
            Literal::Double(value) => format!("{value:?}"),
            Literal::String(text) => quote(text),
            Literal::Bytes(bytes) => {
                bytes.iter().fold("b\"".to_owned(), |text, byte| {
                    text + &format!("\\x{byte:02x}")
                }) + "\""
            }
        };
        self.out.push_str(&written);
    }
}
