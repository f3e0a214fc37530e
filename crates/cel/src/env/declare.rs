//! Declarations: functions with their overloads, and libraries that bundle them with macros and types.

use std::fmt;
use std::sync::Arc;

use crate::cost::{CallCost, Estimate};
use crate::error::EvalError;
use crate::eval::Context;
use crate::parse::macros::Macro;
use crate::types::Type;
use crate::value::Value;

/// What runs when an overload is called. The arguments fit the declared parameters.
pub(crate) type Run =
    dyn for<'a> Fn(&mut Context<'_>, &[Value<'a>]) -> Result<Value<'a>, EvalError> + Send + Sync;

/// One signature of a function.
#[derive(Clone)]
pub struct Overload {
    /// Its identifier, as cel-go names it; costs are counted by it.
    pub id: Arc<str>,
    /// Whether it is called on a receiver, which is then the first parameter.
    pub member: bool,
    /// The types of the parameters.
    pub parameters: Vec<Type>,
    /// The type of the result.
    pub result: Type,
    pub(crate) type_parameters: u8,
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) cost: Option<Arc<CallCost>>,
    pub(crate) estimate: Option<Arc<Estimate>>,
    /// The parameter that is a regular expression.
    pub(crate) pattern: Option<usize>,
}

impl fmt::Debug for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Overload {
    /// The signature: `string.startsWith(string) -> bool` without the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (receiver, rest) = match (&*self.parameters, self.member) {
            ([receiver, rest @ ..], true) => (format!("{receiver}."), rest),
            (all, _) => (String::new(), all),
        };
        let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
        write!(f, "{receiver}({}) -> {}", rest.join(", "), self.result)
    }
}

/// A function and its overloads.
///
/// ```
/// use cel::{Env, Function, Type, Value};
/// let shout = Function::new("shout").member("string_shout", [Type::String], Type::String, |_, arguments| {
///     let text = arguments[0].as_str().unwrap_or_default();
///     Ok(Value::string(format!("{}!", text.to_uppercase())))
/// });
/// let env = Env::standard().extend().function(shout).build()?;
/// let program = env.compile("'hello'.shout()")?;
/// assert_eq!(program.eval(&cel::Activation::new())?, Value::from("HELLO!"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Function {
    pub(crate) name: Arc<str>,
    pub(crate) overloads: Vec<Arc<Overload>>,
}

impl Function {
    /// A function without overloads.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            overloads: Vec::new(),
        }
    }

    /// Adds an overload called as `name(...)`.
    pub fn global<const N: usize>(
        self,
        id: &str,
        parameters: [Type; N],
        result: Type,
        run: impl for<'a> Fn(&mut Context<'_>, &[Value<'a>]) -> Result<Value<'a>, EvalError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.overload(id, false, parameters.into(), result, Some(Arc::new(run)))
    }

    /// Adds an overload called as `receiver.name(...)`; the receiver is the first parameter.
    pub fn member<const N: usize>(
        self,
        id: &str,
        parameters: [Type; N],
        result: Type,
        run: impl for<'a> Fn(&mut Context<'_>, &[Value<'a>]) -> Result<Value<'a>, EvalError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.overload(id, true, parameters.into(), result, Some(Arc::new(run)))
    }

    /// Adds a global overload with `count` parameters of one type.
    pub fn variadic(
        self,
        id: &str,
        count: usize,
        parameter: Type,
        result: Type,
        run: impl for<'a> Fn(&mut Context<'_>, &[Value<'a>]) -> Result<Value<'a>, EvalError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.overload(
            id,
            false,
            vec![parameter; count],
            result,
            Some(Arc::new(run)),
        )
    }

    /// Adds an overload that is only checked: calling it is an error.
    #[must_use]
    pub fn declared(self, id: &str, member: bool, parameters: Vec<Type>, result: Type) -> Self {
        self.overload(id, member, parameters, result, None)
    }

    /// What a call of the last added overload costs at run time; one if nothing is said.
    pub fn cost(
        mut self,
        cost: impl Fn(&[Value<'_>], &Value<'_>) -> u64 + Send + Sync + 'static,
    ) -> Self {
        if let Some(overload) = self.overloads.last_mut() {
            Arc::make_mut(overload).cost = Some(Arc::new(cost));
        }
        self
    }

    /// What a call of the last added overload is estimated to cost before evaluation.
    pub fn estimate(
        mut self,
        estimate: impl Fn(&[crate::cost::Operand]) -> crate::cost::CallEstimate + Send + Sync + 'static,
    ) -> Self {
        if let Some(overload) = self.overloads.last_mut() {
            Arc::make_mut(overload).estimate = Some(Arc::new(estimate));
        }
        self
    }

    /// Which parameter of the last added overload is a regular expression, so that a wrong one that is written out is told
    /// when the call is compiled.
    #[must_use]
    pub fn pattern(mut self, parameter: usize) -> Self {
        if let Some(overload) = self.overloads.last_mut() {
            Arc::make_mut(overload).pattern = Some(parameter);
        }
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its overloads.
    pub fn overloads(&self) -> impl Iterator<Item = &Overload> {
        self.overloads.iter().map(|overload| &**overload)
    }

    fn overload(
        mut self,
        id: &str,
        member: bool,
        parameters: Vec<Type>,
        result: Type,
        run: Option<Arc<Run>>,
    ) -> Self {
        let used = parameters
            .iter()
            .chain([&result])
            .map(type_parameters)
            .max()
            .unwrap_or(0);
        self.overloads.push(Arc::new(Overload {
            id: id.into(),
            member,
            parameters,
            result,
            type_parameters: used,
            run,
            cost: None,
            estimate: None,
            pattern: None,
        }));
        self
    }
}

/// How many type parameters a type uses, counted from `A`.
fn type_parameters(ty: &Type) -> u8 {
    match ty {
        Type::Param(index) => index + 1,
        Type::List(list) => type_parameters(&list.element),
        Type::Map(map) => type_parameters(&map.key).max(type_parameters(&map.value)),
        Type::Optional(inner) | Type::Wrapper(inner) | Type::Type(Some(inner)) => {
            type_parameters(inner)
        }
        Type::Opaque(opaque) => opaque
            .parameters
            .iter()
            .map(type_parameters)
            .max()
            .unwrap_or(0),
        _ => 0,
    }
}

/// Functions, macros and types that belong together.
#[derive(Clone, Debug, Default)]
pub struct Library {
    pub(crate) name: &'static str,
    pub(crate) functions: Vec<Function>,
    pub(crate) macros: Vec<Macro>,
    pub(crate) types: Vec<Type>,
}

impl Library {
    /// An empty library.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a function.
    #[must_use]
    pub fn function(mut self, function: Function) -> Self {
        self.functions.push(function);
        self
    }

    /// Adds a macro.
    #[must_use]
    pub fn macro_rule(mut self, rule: Macro) -> Self {
        self.macros.push(rule);
        self
    }

    /// Adds macros.
    pub(crate) fn macro_rules(mut self, rules: Vec<Macro>) -> Self {
        self.macros.extend(rules);
        self
    }

    /// Adds a type that expressions may name: `net.IP`.
    #[must_use]
    pub fn named_type(mut self, ty: Type) -> Self {
        self.types.push(ty);
        self
    }

    /// The functions of the library.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }
}
