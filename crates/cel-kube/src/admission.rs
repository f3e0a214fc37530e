//! Expressions of admission policies and webhooks: what they may refer to, compiling, evaluating.
//!
//! A policy's variables are compiled first, each in sight of those before it; they are worked out when
//! an expression first reads them. A [`Compiler`] holds them, an [`Evaluation`] holds the data of one
//! request and what evaluating may still cost.

mod environment;
mod evaluation;

pub use self::environment::Declarations;
pub use self::evaluation::{Evaluation, Failure, Inputs};

use std::sync::Arc;

use cel::{Env, ObjectType, Program, Type};

/// What an expression has to result in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything: a variable.
    Anything,
    /// A truth value.
    Bool,
    /// Text.
    Text,
    /// Text, or `null` for nothing to say.
    TextOrNull,
    /// An apply configuration: `Object{...}`.
    ApplyConfiguration,
    /// A list of JSON patch operations.
    JsonPatch,
}

impl Expect {
    fn check(self, found: &Type) -> Result<(), String> {
        let types = match self {
            Self::Anything => return Ok(()),
            Self::Bool => vec![Type::Bool],
            Self::Text => vec![Type::String],
            Self::TextOrNull => vec![Type::String, Type::Null],
            Self::ApplyConfiguration => vec![Type::object(ObjectType::new("Object"))],
            Self::JsonPatch => vec![Type::list(crate::json_patch_type())],
        };
        if types.iter().any(|wanted| wanted.is_exactly(found)) {
            return Ok(());
        }
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            several => format!(
                "must evaluate to one of [{}] but got {found}",
                several.join(" ")
            ),
        })
    }
}

/// A compiled variable; one that does not compile fails where it is read.
type Compiled = Result<Program, Arc<str>>;

/// Compiles the expressions of one policy.
///
/// ```
/// use cel_kube::admission::{Compiler, Declarations, Expect};
/// let mut compiler = Compiler::with_variables();
/// let declarations = Declarations { authorizer: true, ..Declarations::default() };
/// compiler.add_variable("n", "size(object.data)", declarations)?;
/// compiler.compile("variables.n < 3", declarations, Expect::Bool)?;
/// let error = compiler.compile("variables.n", declarations, Expect::Bool).unwrap_err();
/// assert_eq!(error, "must evaluate to bool but got int");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    /// Whether expressions see `variables` at all.
    composed: bool,
    variables: Vec<(Arc<str>, Type, Compiled)>,
    /// The types of `object` and `oldObject`, and of `params`, where they are known.
    types: Option<(Type, Option<Type>)>,
}

impl Compiler {
    /// For expressions that see no variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For expressions that see `variables`, of which there are none yet.
    #[must_use]
    pub fn with_variables() -> Self {
        Self {
            composed: true,
            ..Self::default()
        }
    }

    /// For expressions that see `variables`, and objects and parameters of known types: to find what does
    /// not fit them.
    #[must_use]
    pub fn with_types(object: Type, params: Option<Type>) -> Self {
        Self {
            types: Some((object, params)),
            ..Self::with_variables()
        }
    }

    /// Adds a variable for the expressions that follow. Where it does not compile, expressions still
    /// may name it, and fail when they read it.
    pub fn add_variable(
        &mut self,
        name: &str,
        source: &str,
        declarations: Declarations,
    ) -> Result<(), String> {
        let compiled = self.compile(source, declarations, Expect::Anything);
        let (ty, kept) = match &compiled {
            Ok(program) => (program.result_type().clone(), Ok(program.clone())),
            Err(why) => (Type::Dyn, Err(Arc::from(why.as_str()))),
        };
        self.variables.retain(|(known, ..)| **known != *name);
        self.variables.push((name.into(), ty, kept));
        compiled.map(drop)
    }

    /// Compiles an expression. Fails with the reason in upstream's words.
    pub fn compile(
        &self,
        source: &str,
        declarations: Declarations,
        expect: Expect,
    ) -> Result<Program, String> {
        let env = self.environment(declarations)?;
        let program = env
            .compile(source)
            .and_then(|program| program.ast().check_literals().map(|()| program))
            .map_err(|error| format!("compilation failed: {}", error.without_hints()))?;
        expect.check(program.result_type())?;
        Ok(program)
    }

    fn environment(&self, declarations: Declarations) -> Result<Env, String> {
        let env = environment::of(declarations);
        if !self.composed {
            return Ok(env);
        }
        let mut fields = ObjectType::new(environment::VARIABLES);
        for (name, ty, _) in &self.variables {
            fields = fields.field(name.clone(), ty.clone());
        }
        let mut env = env.extend().variable("variables", Type::object(fields));
        if let Some((object, params)) = &self.types {
            env = env
                .variable("object", object.clone())
                .variable("oldObject", object.clone());
            if let Some(params) = params.as_ref().filter(|_| declarations.params) {
                env = env.variable("params", params.clone());
            }
        }
        env.build()
            .map_err(|error| format!("unexpected error loading CEL environment: {error}"))
    }

    /// The compiled variables, in the order in which they were added.
    fn programs(&self) -> Arc<[(Arc<str>, Compiled)]> {
        self.variables
            .iter()
            .map(|(name, _, compiled)| (name.clone(), compiled.clone()))
            .collect()
    }
}
