//! Environments: what expressions may refer to.
//!
//! An [`Env`] is immutable and shared; [`Env::extend`] makes a child that adds variables, functions or types
//! and shares everything else with its parent, so a tool that compiles hundreds of expressions against similar
//! sets of variables pays for each variable once.

mod declare;
mod suggest;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

pub use self::declare::{Function, Library, Overload};
pub(crate) use self::suggest::nearest;
use crate::ast::{Ast, Name};
use crate::check::{self, Checked};
use crate::error::CompileError;
use crate::library;
use crate::parse::macros::{Macro, MacroTable};
use crate::parse::{self, ParseLimits};
use crate::program::Program;
use crate::regex::RegexCache;
use crate::types::Type;

/// A declaration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The name of a variable is no identifier, with or without qualifiers.
    #[error("'{0}' is not a name a variable can have")]
    InvalidName(String),
    /// Two overloads cannot be told apart.
    #[error("overload '{id}' of function '{function}' collides with '{other}'")]
    Collision {
        /// The function.
        function: String,
        /// The overload that was added.
        id: String,
        /// The overload that was there.
        other: String,
    },
}

/// Finds types by name, for types that are not declared one by one.
pub trait TypeProvider: Send + Sync {
    /// The type with this name.
    fn find_type(&self, name: &str) -> Option<Type>;
}

/// What expressions may refer to: variables, functions, macros, types.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

pub(crate) struct Inner {
    parent: Option<Env>,
    variables: HashMap<Name, Type>,
    functions: Arc<HashMap<Name, Arc<Function>>>,
    qualified_functions: Arc<HashSet<Name>>,
    types: Arc<HashMap<Name, Type>>,
    providers: Vec<Arc<dyn TypeProvider>>,
    macros: Arc<MacroTable>,
    container: Name,
    limits: ParseLimits,
    /// The largest number of parts of any variable's name.
    variable_parts_max: usize,
    regexes: Arc<RegexCache>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&Name> = self.variables().map(|(name, _)| name).collect();
        f.debug_struct("Env")
            .field("variables", &variables)
            .finish_non_exhaustive()
    }
}

impl Env {
    /// An environment with nothing at all, not even operators' functions such as `size`.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(Inner {
            parent: None,
            variables: HashMap::new(),
            functions: Arc::default(),
            qualified_functions: Arc::default(),
            types: Arc::default(),
            providers: Vec::new(),
            macros: Arc::default(),
            container: Name::from(""),
            limits: ParseLimits::DEFAULT,
            variable_parts_max: 1,
            regexes: Arc::default(),
        }))
    }

    /// The functions and macros of the CEL specification.
    pub fn standard() -> Self {
        static STANDARD: std::sync::LazyLock<Env> = std::sync::LazyLock::new(|| {
            Env::empty()
                .extend()
                .library(library::standard::library())
                .build()
                .expect("the standard library's overloads do not collide")
        });
        STANDARD.clone()
    }

    /// The standard environment with every library of this crate.
    pub fn with_all_libraries() -> Self {
        static ALL: std::sync::LazyLock<Env> = std::sync::LazyLock::new(|| {
            let mut builder = Env::standard().extend();
            for name in library::NAMES {
                builder =
                    builder.library(library::find(name).expect("every listed library exists"));
            }
            builder
                .build()
                .expect("the libraries' overloads do not collide")
        });
        ALL.clone()
    }

    /// Starts a child environment.
    #[must_use]
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder {
            inner: Inner {
                parent: Some(self.clone()),
                variables: HashMap::new(),
                functions: Arc::clone(&self.0.functions),
                qualified_functions: Arc::clone(&self.0.qualified_functions),
                types: Arc::clone(&self.0.types),
                providers: self.0.providers.clone(),
                macros: Arc::clone(&self.0.macros),
                container: Arc::clone(&self.0.container),
                limits: self.0.limits,
                variable_parts_max: self.0.variable_parts_max,
                regexes: Arc::clone(&self.0.regexes),
            },
            error: None,
        }
    }

    /// Parses without checking.
    pub fn parse(&self, source: &str) -> Result<Ast, CompileError> {
        parse::parse(
            source,
            &self.0.macros,
            &self.0.qualified_functions,
            self.0.limits,
        )
    }

    /// Checks the types of a parsed expression.
    pub fn check(&self, ast: &Ast) -> Result<Checked, CompileError> {
        check::check(self, ast)
    }

    /// Parses, checks and prepares an expression for evaluation.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let ast = self.parse(source)?;
        let checked = self.check(&ast)?;
        Program::checked(self, checked)
    }

    /// Prepares a checked expression for evaluation.
    pub fn program(&self, checked: Checked) -> Result<Program, CompileError> {
        Program::checked(self, checked)
    }

    /// Parses an expression and prepares it for evaluation without checking types: names are resolved, and
    /// mistakes found, while evaluating.
    pub fn compile_unchecked(&self, source: &str) -> Result<Program, CompileError> {
        Program::unchecked(self, self.parse(source)?)
    }

    /// The type of a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Type> {
        let mut env = self;
        loop {
            if let Some(ty) = env.0.variables.get(name) {
                return Some(ty);
            }
            env = env.0.parent.as_ref()?;
        }
    }

    /// All variables, the innermost environment's first.
    pub fn variables(&self) -> impl Iterator<Item = (&Name, &Type)> {
        std::iter::successors(Some(self), |env| env.0.parent.as_ref())
            .flat_map(|env| env.0.variables.iter())
    }

    /// The function with this name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.0.functions.get(name).map(|function| &**function)
    }

    /// The names of all functions.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        self.0.functions.keys().map(|name| &**name)
    }

    /// The named type: `int`, `google.protobuf.Timestamp`, `net.IP`.
    #[must_use]
    pub fn find_type(&self, name: &str) -> Option<Type> {
        if let Some(ty) = self.0.types.get(name) {
            return Some(ty.clone());
        }
        self.0
            .providers
            .iter()
            .find_map(|provider| provider.find_type(name))
    }

    /// The names a name may stand for in the container of the environment, the most specific first.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<Name> {
        let container = &*self.0.container;
        if let Some(absolute) = name.strip_prefix('.') {
            return vec![absolute.into()];
        }
        let mut names = Vec::new();
        let mut prefix = container;
        while !prefix.is_empty() {
            names.push(format!("{prefix}.{name}").into());
            prefix = prefix.rfind('.').map_or("", |at| &prefix[..at]);
        }
        names.push(name.into());
        names
    }

    /// The functions of the expression that the environment does not know, each once, in order.
    #[must_use]
    pub fn unknown_functions(&self, ast: &Ast) -> Vec<String> {
        let mut unknown: Vec<String> = Vec::new();
        for function in &ast.references().functions {
            let found = self
                .candidates(&function.name)
                .iter()
                .any(|name| self.0.functions.contains_key(name));
            if !found && !unknown.contains(&function.name) {
                unknown.push(function.name.clone());
            }
        }
        unknown
    }

    /// The free names of the expression that are no variable and no type of the environment, in order.
    #[must_use]
    pub fn unknown_identifiers(&self, ast: &Ast) -> Vec<String> {
        let known = |name: &str| {
            self.candidates(name).iter().any(|name| {
                let prefix = format!("{name}.");
                self.variable(name).is_some()
                    || self.find_type(name).is_some()
                    || self
                        .variables()
                        .any(|(variable, _)| variable.starts_with(&prefix))
                    || self.0.types.keys().any(|ty| ty.starts_with(&prefix))
            })
        };
        let identifiers = ast.references().identifiers.iter();
        identifiers
            .map(|identifier| &identifier.name)
            .filter(|name| !known(name))
            .cloned()
            .collect()
    }

    pub(crate) fn container(&self) -> &str {
        &self.0.container
    }

    pub(crate) fn function_arc(&self, name: &str) -> Option<&Arc<Function>> {
        self.0.functions.get(name)
    }

    pub(crate) fn variable_parts_max(&self) -> usize {
        self.0.variable_parts_max
    }

    pub(crate) fn macro_names(&self) -> impl Iterator<Item = &str> {
        self.0.macros.names()
    }

    pub(crate) fn regexes(&self) -> &Arc<RegexCache> {
        &self.0.regexes
    }
}

/// Makes an [`Env`].
pub struct EnvBuilder {
    inner: Inner,
    error: Option<EnvError>,
}

impl EnvBuilder {
    /// Declares a variable. Its name may have qualifiers: `request.auth`.
    #[must_use]
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        let valid = |part: &str| {
            let mut bytes = part.bytes();
            bytes
                .next()
                .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_' || first == b'@')
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if name.split('.').all(valid) {
            self.inner.variable_parts_max =
                self.inner.variable_parts_max.max(name.split('.').count());
            self.inner.variables.insert(name.into(), ty);
        } else {
            self.error
                .get_or_insert(EnvError::InvalidName(name.to_owned()));
        }
        self
    }

    /// Adds a function, or overloads to a function of the same name. An overload with the identifier of an
    /// existing one replaces it.
    #[must_use]
    pub fn function(mut self, function: Function) -> Self {
        let table = Arc::make_mut(&mut self.inner.functions);
        if function.name.contains('.') {
            Arc::make_mut(&mut self.inner.qualified_functions).insert(Arc::clone(&function.name));
        }
        let entry = table
            .entry(Arc::clone(&function.name))
            .or_insert_with(|| Arc::new(Function::new(&function.name)));
        let merged = Arc::make_mut(entry);
        for overload in function.overloads {
            if let Some(old) = merged
                .overloads
                .iter_mut()
                .find(|old| old.id == overload.id)
            {
                *old = overload;
                continue;
            }
            let collision = merged.overloads.iter().find(|old| collides(old, &overload));
            if let Some(other) = collision {
                self.error.get_or_insert(EnvError::Collision {
                    function: function.name.to_string(),
                    id: overload.id.to_string(),
                    other: other.id.to_string(),
                });
            }
            merged.overloads.push(overload);
        }
        self
    }

    /// Adds a macro.
    #[must_use]
    pub fn macro_rule(mut self, rule: Macro) -> Self {
        Arc::make_mut(&mut self.inner.macros).insert(rule);
        self
    }

    /// Adds a type expressions may name.
    #[must_use]
    pub fn named_type(mut self, ty: Type) -> Self {
        Arc::make_mut(&mut self.inner.types).insert(ty.name().into(), ty);
        self
    }

    /// Adds a source of types.
    pub fn type_provider(mut self, provider: Arc<dyn TypeProvider>) -> Self {
        self.inner.providers.push(provider);
        self
    }

    /// Adds everything of a library.
    #[must_use]
    pub fn library(mut self, library: Library) -> Self {
        for function in library.functions {
            self = self.function(function);
        }
        for rule in library.macros {
            self = self.macro_rule(rule);
        }
        for ty in library.types {
            self = self.named_type(ty);
        }
        self
    }

    /// Adds libraries of this crate by name, see [`LIBRARY_NAMES`](crate::LIBRARY_NAMES). Names of none are ignored;
    /// [`find_library`](crate::find_library) tells them.
    #[must_use]
    pub fn libraries(mut self, names: &[&str]) -> Self {
        for name in names {
            if let Some(library) = library::find(name) {
                self = self.library(library);
            }
        }
        self
    }

    /// Sets the namespace names are looked up in first.
    #[must_use]
    pub fn container(mut self, container: &str) -> Self {
        self.inner.container = container.into();
        self
    }

    /// Sets the limits of the parser.
    #[must_use]
    pub fn parse_limits(mut self, limits: ParseLimits) -> Self {
        self.inner.limits = limits;
        self
    }

    /// The environment, unless a declaration was faulty.
    pub fn build(self) -> Result<Env, EnvError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Env(Arc::new(self.inner))),
        }
    }
}

/// Whether no call could tell the overloads apart.
fn collides(a: &Overload, b: &Overload) -> bool {
    a.member == b.member
        && a.parameters.len() == b.parameters.len()
        && a.parameters
            .iter()
            .zip(&b.parameters)
            .all(|(a, b)| a.is_exactly(b))
}
