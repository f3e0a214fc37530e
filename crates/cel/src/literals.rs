//! What literal arguments give away before anything is evaluated: cel-go's AST validators.

use crate::ast::{Ast, Expr, ExprKind, Literal};
use crate::error::{CompileError, Issue};
use crate::value::{Duration, Timestamp};

impl Ast {
    /// Fails where a literal that stands for a duration or a timestamp is none (patterns are part of
    /// the check). Environments do not ask this by themselves: whoever stores expressions does.
    pub fn check_literals(&self) -> Result<(), CompileError> {
        let mut issues: Vec<Issue> = self
            .nodes
            .iter()
            .filter_map(|own| self.wrong(own))
            .collect();
        if issues.is_empty() {
            return Ok(());
        }
        issues.sort_by_key(|issue| issue.span.start);
        // A macro may use an argument several times.
        issues.dedup();
        Err(CompileError {
            source_text: self.source.clone(),
            issues,
        })
    }

    fn wrong(&self, call: &Expr) -> Option<Issue> {
        let ExprKind::Call {
            function,
            arguments,
            ..
        } = &call.kind
        else {
            return None;
        };
        let argument = self.node(*arguments.last()?);
        let ExprKind::Literal(Literal::String(text)) = &argument.kind else {
            return None;
        };
        let good = match &**function {
            "duration" => Duration::parse(text).is_some(),
            "timestamp" => Timestamp::parse(text).is_some(),
            _ => true,
        };
        let why = || format!("invalid {function} argument");
        (!good).then(|| Issue::new(argument.anchor_span(), why()))
    }
}

#[cfg(test)]
mod tests {
    use crate::Env;

    fn check(source: &str, expect: &[(u32, &str)]) {
        let program = Env::standard().compile(source).expect(source);
        let issues = match program.ast().check_literals() {
            Ok(()) => Vec::new(),
            Err(error) => error.issues,
        };
        let found: Vec<(u32, &str)> = issues
            .iter()
            .map(|issue| (issue.span.start, issue.message.as_str()))
            .collect();
        assert_eq!(found, expect, "{source}");
    }

    #[test]
    fn literals_that_stand_for_nothing_are_found() {
        let timestamp = "invalid timestamp argument";
        check(
            "timestamp('x') == timestamp('y')",
            &[(10, timestamp), (28, timestamp)],
        );
        check(
            "duration('1h') > duration('1x')",
            &[(26, "invalid duration argument")],
        );
        check("timestamp('2026-01-01T00:00:00Z').getFullYear() > 1", &[]);
        check("matches('a', 'a') && timestamp(5) > timestamp(4)", &[]);
    }
}
