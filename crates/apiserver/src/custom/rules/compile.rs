//! One rule: its programs, and what it says when it does not hold.

use cel::{Checked, Env, Program, Type};
use model::{FieldErrorKind, object};
use serde_json::Value;

/// What the rules of one schema are compiled with.
pub struct Expressions {
    /// The type of `self`.
    pub self_type: Type,
    plain: Env,
    /// Where `oldSelf` is optional.
    optional: Env,
}

impl Expressions {
    /// Declares `self` and `oldSelf` as a schema says they are.
    pub fn of(schema: &Value, is_root: bool) -> Result<Self, String> {
        let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        let declare = if is_root || embedded {
            cel_kube::declare_resource
        } else {
            cel_kube::declare
        };
        let self_type = declare("__type_self", schema, &cel_kube::no_refs)
            .map_err(|error| error.to_string())?;
        let environment = |old: Type| {
            cel_kube::kubernetes_env()
                .extend()
                .variable("self", self_type.clone())
                .variable("oldSelf", old)
                .build()
                .map_err(|error| error.to_string())
        };
        Ok(Self {
            plain: environment(self_type.clone())?,
            optional: environment(Type::optional(self_type.clone()))?,
            self_type,
        })
    }

    fn of_rule(&self, rule: &Value) -> &Env {
        if has_optional_old(rule) {
            &self.optional
        } else {
            &self.plain
        }
    }
}

fn has_optional_old(rule: &Value) -> bool {
    rule.get("optionalOldSelf") == Some(&Value::Bool(true))
}

/// The programs of a rule, or why there are none: in upstream's words.
pub struct Programs {
    /// The rule itself.
    pub rule: Result<Program, String>,
    /// The text of its message, where it is computed.
    pub message: Option<Result<Program, String>>,
}

impl Programs {
    /// Compiles a rule; a message is looked at only where the rule compiles.
    pub fn of(rule: &Value, expressions: &Expressions) -> Self {
        let env = expressions.of_rule(rule);
        let compiled = compile(
            env,
            object::text(rule, &["rule"]),
            &Type::Bool,
            "compilation failed: ",
            "cel expression must evaluate to a bool",
        );
        let source = object::text(rule, &["messageExpression"]);
        let message = (compiled.is_ok() && !source.is_empty()).then(|| {
            compile(
                env,
                source,
                &Type::String,
                "messageExpression compilation failed: ",
                "messageExpression must evaluate to a string",
            )
        });
        Self {
            rule: compiled,
            message,
        }
    }
}

fn compile(
    env: &Env,
    source: &str,
    result: &Type,
    failed: &str,
    wrong_type: &str,
) -> Result<Program, String> {
    let program = env
        .compile(source)
        .map_err(|error| format!("{failed}{}", error.without_hints()))?;
    if program.result_type() == result {
        Ok(program)
    } else {
        Err(wrong_type.to_owned())
    }
}

/// Whether a program compares with what was there before.
pub fn uses_old(program: &Program) -> bool {
    program.references().uses("oldSelf")
}

/// The checked form of a program, for its cost.
pub fn checked(program: &Program) -> Option<&Checked> {
    program.types()
}

/// A rule that can be asked.
pub struct Rule {
    /// Its program, or why there is none.
    pub program: Result<Program, String>,
    /// The text of the rule.
    pub text: String,
    /// What it says when it does not hold.
    pub message: String,
    /// The program that computes what it says.
    pub message_program: Option<Program>,
    /// The source of that program.
    pub message_source: String,
    /// The reason it gives.
    pub reason: FieldErrorKind,
    /// The field it blames, below its own place.
    pub path: Option<String>,
    /// Whether the rule compares with the old value.
    pub is_transition: bool,
    /// Whether it is asked without one too.
    pub has_optional_old: bool,
}

impl Rule {
    /// A rule of a schema.
    pub fn new(rule: &Value, schema: &Value, expressions: Result<&Expressions, &String>) -> Self {
        let text = |name: &str| object::text(rule, &[name]);
        let programs = match expressions {
            Ok(expressions) => Programs::of(rule, expressions),
            Err(why) => Programs {
                rule: Err(why.clone()),
                message: None,
            },
        };
        let path = schema::field_path(schema, text("fieldPath"), true);
        Self {
            is_transition: programs.rule.as_ref().is_ok_and(uses_old),
            program: programs.rule,
            text: text("rule").trim().to_owned(),
            message: text("message").trim().to_owned(),
            message_program: programs.message.and_then(Result::ok),
            message_source: text("messageExpression").to_owned(),
            reason: match text("reason") {
                "FieldValueForbidden" => FieldErrorKind::Forbidden,
                "FieldValueRequired" => FieldErrorKind::Required,
                "FieldValueDuplicate" => FieldErrorKind::Duplicate,
                _ => FieldErrorKind::Invalid,
            },
            path: path
                .ok()
                .map(|(names, _)| names.join("."))
                .filter(|path| !path.is_empty()),
            has_optional_old: has_optional_old(rule),
        }
    }

    /// How the rule is named in messages: by its message, else by its text.
    pub fn shown(&self) -> &str {
        if self.message.is_empty() {
            &self.text
        } else {
            &self.message
        }
    }
}
