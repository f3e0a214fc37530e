//! The evaluator: programs to values, with every step paid for.
//!
//! Evaluation walks the program's nodes. Values borrow from the data and from the program; errors are
//! results like any other, which `&&` and `||` may absorb. [`Limits`] bound cost, sizes and work; what
//! crosses them ends evaluation at once.

mod attribute;
mod comprehension;
mod data;
mod operators;

use std::sync::Arc;

use serde_json::Value as Json;

use self::attribute::{Cached, Place};
use crate::activation::Activation;
use crate::ast::Name;
use crate::cost::{self, SELECT_AND_IDENT};
use crate::env::Overload;
use crate::error::{ErrorKind, EvalError};
use crate::library::well_known;
use crate::program;
use crate::program::node::{
    Bind, Call, Conditional, Intrinsic, MapEntry, Matches, Node, OptionalMap, PLACE_SLOTS, Struct,
    StructKind,
};
use crate::regex::{Regex, RegexCache};
use crate::types::Type;
use crate::value::{List, MapBuilder, Object, Record, Value, Work};

/// What one evaluation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Cost in Kubernetes' units, see [`cost`](crate::cost).
    pub cost: u64,
    /// Length of any string or bytes value that is made.
    pub bytes_max: usize,
    /// Elements of any list or map that is made.
    pub elements_max: usize,
    /// Values visited by comparing, copying and formatting. Bounds the time of what cost does not see.
    pub work: u64,
    /// Whether `has()` costs one, as by default in cel-go; Kubernetes counts it as free.
    pub presence_test_has_cost: bool,
}

impl Limits {
    /// Kubernetes' budget for all rules of an object, and sizes no honest expression reaches.
    pub const DEFAULT: Self = Self {
        cost: 10_000_000,
        bytes_max: 16 << 20,
        elements_max: 1_000_000,
        work: 20_000_000,
        presence_test_has_cost: false,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The result of an evaluation and what it cost.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The value or the error.
    pub result: Result<Value<'a>, EvalError>,
    /// The cost until then.
    pub cost: u64,
}

/// What functions of libraries may use of the running evaluation.
pub struct Context<'c> {
    pub(crate) limits: &'c Limits,
    pub(crate) work: Work,
    regexes: &'c RegexCache,
    interrupted: Option<&'c dyn Fn() -> bool>,
}

impl Context<'_> {
    /// A compiled regular expression in RE2's syntax, from the environment's cache.
    pub fn regex(&mut self, pattern: &str) -> Result<Regex, EvalError> {
        self.regexes.get(pattern)
    }

    /// Fails if a string or bytes value of this length may not be made.
    pub fn check_bytes(&self, length: usize) -> Result<(), EvalError> {
        if length > self.limits.bytes_max {
            return Err(EvalError::too_large(
                "the length of a string",
                self.limits.bytes_max,
            ));
        }
        Ok(())
    }

    /// Fails if a list or map of this size may not be made.
    pub fn check_elements(&mut self, count: usize) -> Result<(), EvalError> {
        if count > self.limits.elements_max {
            return Err(EvalError::too_large(
                "the size of a list",
                self.limits.elements_max,
            ));
        }
        self.work.take(count as u64)
    }

    /// Pays for visiting this many values.
    pub fn visit(&mut self, values: usize) -> Result<(), EvalError> {
        self.work.take(values as u64)
    }

    /// Pays for walking over a value's text.
    pub fn visit_text(&mut self, value: &Value<'_>) -> Result<(), EvalError> {
        match value {
            Value::String(text) => self.work.take_bytes(text.len()),
            Value::Bytes(bytes) => self.work.take_bytes(bytes.len()),
            _ => Ok(()),
        }
    }

    /// CEL's `==`.
    pub fn equal(&mut self, a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
        crate::value::equal(a, b, &mut self.work)
    }

    fn check_interrupt(&self) -> Result<(), EvalError> {
        if self.interrupted.is_some_and(|interrupted| interrupted()) {
            return Err(EvalError::new(
                ErrorKind::Interrupted,
                "operation interrupted",
            ));
        }
        Ok(())
    }
}

/// What a local variable holds.
enum Local<'a> {
    Value(Value<'a>),
    /// An element of data that is not looked at yet.
    Json(&'a Json),
    /// The same with its declared type.
    Typed(&'a Json, &'a Type),
    /// Not evaluated yet: bindings are, when first read.
    Pending(&'a Node),
    Failed(EvalError),
}

pub(crate) struct Evaluator<'a, 'c> {
    program: &'a program::Inner,
    activation: &'a Activation<'a>,
    locals: Vec<Local<'a>>,
    context: Context<'c>,
    cost: u64,
    has_unknowns: bool,
    places: [Cached<'a>; PLACE_SLOTS],
}

type Evaluated<'a> = Result<Value<'a>, EvalError>;

impl<'a, 'c> Evaluator<'a, 'c> {
    pub fn new(
        program: &'a program::Inner,
        activation: &'a Activation<'a>,
        limits: &'c Limits,
        interrupted: Option<&'c dyn Fn() -> bool>,
    ) -> Self
    where
        'a: 'c,
    {
        let context = Context {
            limits,
            work: Work::new(limits.work),
            regexes: program.env().regexes(),
            interrupted,
        };
        Self {
            program,
            activation,
            locals: Vec::with_capacity(program.slots),
            context,
            cost: 0,
            has_unknowns: activation.has_unknowns(),
            places: [Cached::Empty; PLACE_SLOTS],
        }
    }

    pub fn run(mut self) -> Outcome<'a> {
        let program = self.program;
        let result = self.eval(&program.root);
        Outcome {
            result,
            cost: self.cost,
        }
    }

    #[inline]
    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.context.limits.cost {
            return Err(cost_exceeded());
        }
        Ok(())
    }

    pub(crate) fn eval(&mut self, node: &'a Node) -> Evaluated<'a> {
        match node {
            Node::Constant(value) => Ok(value.reborrow()),
            Node::Folded(folded) => {
                self.charge(folded.1)?;
                Ok(folded.0.reborrow())
            }
            Node::Attribute(attribute) => self.attribute(attribute, SELECT_AND_IDENT),
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Compare(_) | Node::Matches(_) => {
                self.truth(node).map(Value::Bool)
            }
            Node::Negate(inner) => self.negate(&inner.0, inner.1),
            Node::Conditional(inner) => self.conditional(inner),
            Node::Chain(chain) => self.chain(chain),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct(literal) => self.structure(literal),
            Node::Call(call) => self.call(call),
            Node::Intrinsic(inner) => self.intrinsic(inner.0, &inner.1),
            Node::Comprehension(inner) => self.comprehension(inner),
            Node::Bind(bind) => self.bind(bind),
            Node::OptionalMap(inner) => self.optional_map(inner),
            Node::Fail(error) => Err((**error).clone()),
        }
    }

    /// Evaluates what is expected to be a truth value; anything else is an error.
    fn truth(&mut self, node: &'a Node) -> Result<bool, EvalError> {
        match node {
            Node::And(operands) => self.logical(operands, false),
            Node::Or(operands) => self.logical(operands, true),
            Node::Compare(binary) => self.compare(binary),
            Node::Matches(matches) => self.matches(matches),
            Node::Attribute(attribute) if attribute.test && !self.has_unknowns => {
                self.is_present(attribute)
            }
            Node::Intrinsic(inner) => match self.text_predicate(inner.0, &inner.1) {
                Some((holds, cost)) => self.charge(cost).map(|()| holds),
                None => match self.intrinsic(inner.0, &inner.1)? {
                    Value::Bool(value) => Ok(value),
                    _ => Err(EvalError::no_such_overload()),
                },
            },
            Node::Not(inner) => {
                let value = self.truth(&inner.0).map_err(|error| error.at(inner.1))?;
                self.charge(1)?;
                Ok(!value)
            }
            other => match self.eval(other)? {
                Value::Bool(value) => Ok(value),
                _ => Err(EvalError::no_such_overload()),
            },
        }
    }

    /// `&&` and `||` over any number of operands: one that decides wins over errors before and behind it.
    fn logical(&mut self, operands: &'a [Node], decisive: bool) -> Result<bool, EvalError> {
        let mut failed: Option<EvalError> = None;
        for operand in operands {
            match self.truth(operand) {
                Ok(value) if value == decisive => return Ok(decisive),
                Ok(_) => {}
                Err(error) if error.kind().is_final() => return Err(error),
                Err(error) => {
                    failed = Some(match failed {
                        Some(earlier) => earlier.merge(error),
                        None => error,
                    });
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(!decisive),
        }
    }

    fn conditional(&mut self, inner: &'a Conditional) -> Evaluated<'a> {
        let holds = self
            .truth(&inner.condition)
            .map_err(|error| error.at(inner.span))?;
        let branch = if holds { &inner.then } else { &inner.otherwise };
        match branch {
            // A branch that is an attribute is part of the conditional's own: cel-go counts its qualifiers only.
            Node::Attribute(attribute) if !attribute.is_relative() => self.attribute(attribute, 0),
            other => self.eval(other),
        }
    }

    fn list(&mut self, items: &'a [(Node, bool)]) -> Evaluated<'a> {
        let mut elements = Vec::with_capacity(items.len());
        for (node, optional) in items {
            let value = self.eval(node)?;
            if !optional {
                elements.push(value);
                continue;
            }
            match value {
                Value::Optional(Some(inner)) => elements.push((*inner).clone()),
                Value::Optional(None) => {}
                other => return Err(not_optional(&other)),
            }
        }
        self.charge(cost::LIST_CREATE)?;
        Ok(Value::List(List::from(elements)))
    }

    fn map(&mut self, entries: &'a [MapEntry]) -> Evaluated<'a> {
        let mut builder = MapBuilder::with_capacity(entries.len());
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let mut value = self.eval(&entry.value)?;
            if entry.optional {
                value = match value {
                    Value::Optional(Some(inner)) => (*inner).clone(),
                    Value::Optional(None) => continue,
                    other => return Err(not_optional(&other).at(entry.span)),
                };
            }
            builder
                .insert(key, value)
                .map_err(|error| error.at(entry.span))?;
        }
        self.charge(cost::MAP_CREATE)?;
        Ok(Value::Map(builder.build()))
    }

    fn structure(&mut self, literal: &'a Struct) -> Evaluated<'a> {
        let mut fields: Vec<(Name, Value<'a>)> = Vec::with_capacity(literal.fields.len());
        for (name, node, optional) in &literal.fields {
            let mut value = self.eval(node)?;
            if *optional {
                value = match value {
                    Value::Optional(Some(inner)) => (*inner).clone(),
                    Value::Optional(None) => continue,
                    other => return Err(not_optional(&other).at(literal.span)),
                };
            }
            fields.push((Arc::clone(name), value));
        }
        self.charge(cost::STRUCT_CREATE)?;
        match &literal.kind {
            StructKind::WellKnown(name) => {
                well_known::construct(name, &fields).map_err(|error| error.at(literal.span))
            }
            StructKind::Object(ty) => {
                for (name, _) in &fields {
                    if ty.field_type(name).is_none() {
                        return Err(EvalError::no_such_field(name).at(literal.span));
                    }
                }
                Ok(Value::Object(Object::record(Record {
                    ty: Arc::clone(ty),
                    fields,
                })))
            }
        }
    }

    fn call(&mut self, call: &'a Call) -> Evaluated<'a> {
        match &*call.arguments {
            [] => self.dispatch(call, &[]),
            [a] => {
                let values = [self.eval(a)?];
                self.dispatch(call, &values)
            }
            [a, b] => {
                let values = self.both(a, b)?;
                self.dispatch(call, &values)
            }
            [a, b, c] => {
                let [a, b] = self.both(a, b)?;
                let values = [a, b, self.eval(c)?];
                self.dispatch(call, &values)
            }
            all => {
                let values = all
                    .iter()
                    .map(|node| self.eval(node))
                    .collect::<Result<Vec<_>, _>>()?;
                self.dispatch(call, &values)
            }
        }
    }

    /// Two operands. If the first is unknown, the second is still asked what else is.
    #[inline]
    fn both(&mut self, a: &'a Node, b: &'a Node) -> Result<[Value<'a>; 2], EvalError> {
        match self.eval(a) {
            Ok(a) => Ok([a, self.eval(b)?]),
            Err(error) if error.kind() == ErrorKind::Unknown => match self.eval(b) {
                Err(other) => Err(error.merge(other)),
                Ok(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn dispatch(&mut self, call: &'a Call, values: &[Value<'a>]) -> Evaluated<'a> {
        let overload = call
            .overloads
            .iter()
            .find(|overload| accepts_all(overload, values));
        let Some(overload) = overload else {
            return Err(no_such_overload(call, values).at(call.span));
        };
        let Some(run) = &overload.run else {
            let message = format!(
                "no such overload: '{}' is declared but not implemented",
                call.name
            );
            return Err(EvalError::new(ErrorKind::NoSuchOverload, message).at(call.span));
        };
        let result = run(&mut self.context, values).map_err(|error| error.at(call.span))?;
        let cost = match &overload.cost {
            Some(cost) => cost(values, &result),
            None => 1,
        };
        self.charge(cost)?;
        Ok(result)
    }

    /// The commonest functions, without looking for an overload.
    fn intrinsic(&mut self, intrinsic: Intrinsic, call: &'a Call) -> Evaluated<'a> {
        let [first, rest @ ..] = &*call.arguments else {
            return self.dispatch(call, &[]);
        };
        if let Intrinsic::Size = intrinsic {
            let value = self.eval(first)?;
            return match &value {
                Value::String(_)
                | Value::Bytes(_)
                | Value::List(_)
                | Value::Map(_)
                | Value::Object(_) => {
                    self.charge(1)?;
                    Ok(Value::Int(cost::size(&value) as i64))
                }
                _ => self.dispatch(call, &[value]),
            };
        }
        if let Intrinsic::Text = intrinsic {
            let value = self.eval(first)?;
            return match value {
                Value::Int(_) | Value::String(_) | Value::Bool(_) => {
                    self.charge(1)?;
                    value.to_text()
                }
                other => self.dispatch(call, &[other]),
            };
        }
        let [second] = rest else {
            return self.dispatch(call, &[]);
        };
        let values = self.both(first, second)?;
        let [Value::String(text), Value::String(part)] = &values else {
            return self.dispatch(call, &values);
        };
        let (found, cost) = match intrinsic {
            Intrinsic::StartsWith => (
                text.starts_with(&**part),
                cost::traverse(cost::text_size(part)),
            ),
            Intrinsic::EndsWith => (
                text.ends_with(&**part),
                cost::traverse(cost::text_size(part)),
            ),
            _ => {
                let cost =
                    cost::traverse(cost::text_size(text)) * cost::traverse(cost::text_size(part));
                (text.contains(&**part), cost)
            }
        };
        self.charge(cost)?;
        Ok(Value::Bool(found))
    }

    /// `startsWith` and its like on a text in the data with a constant, and what all of it costs.
    fn text_predicate(&mut self, intrinsic: Intrinsic, call: &'a Call) -> Option<(bool, u64)> {
        let [
            Node::Attribute(attribute),
            Node::Constant(Value::String(part)),
        ] = &*call.arguments
        else {
            return None;
        };
        if self.has_unknowns {
            return None;
        }
        let (Json::String(text), cost) = self.scalar_data(attribute)? else {
            return None;
        };
        let part_cost = cost::traverse(cost::text_size(part));
        let (holds, own) = match intrinsic {
            Intrinsic::StartsWith => (text.starts_with(&**part), part_cost),
            Intrinsic::EndsWith => (text.ends_with(&**part), part_cost),
            Intrinsic::Contains => (
                text.contains(&**part),
                cost::traverse(cost::text_size(text)) * part_cost,
            ),
            Intrinsic::Size | Intrinsic::Text => return None,
        };
        Some((holds, cost + own))
    }

    fn matches(&mut self, inner: &'a Matches) -> Result<bool, EvalError> {
        let target = self.eval(&inner.target)?;
        let Value::String(text) = &target else {
            return Err(EvalError::no_such_overload().at(inner.span));
        };
        self.charge(cost::matches(text, &inner.pattern))?;
        let regex = inner
            .regex
            .get_or_init(|| self.context.regexes.get(&inner.pattern));
        match regex {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(error) => Err(error.clone().at(inner.span)),
        }
    }

    fn bind(&mut self, bind: &'a Bind) -> Evaluated<'a> {
        self.charge(cost::LIST_CREATE)?;
        self.locals.truncate(bind.slot as usize);
        self.locals.push(Local::Pending(&bind.init));
        let result = self.eval(&bind.body);
        self.locals.truncate(bind.slot as usize);
        result
    }

    fn optional_map(&mut self, inner: &'a OptionalMap) -> Evaluated<'a> {
        let before = self.cost;
        let target = self.eval(&inner.target)?;
        let target_cost = self.cost - before;
        self.charge(2)?;
        let content = match target {
            Value::Optional(Some(content)) => (*content).clone(),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            _ => return Err(EvalError::no_such_overload().at(inner.span)),
        };
        // cel-go's expansion evaluates the receiver twice and binds its value.
        self.charge(target_cost + 1 + cost::LIST_CREATE)?;
        self.locals.truncate(inner.slot as usize);
        self.locals.push(Local::Value(content));
        let result = self.eval(&inner.body);
        self.locals.truncate(inner.slot as usize);
        match result? {
            optional @ Value::Optional(_) if inner.flat => Ok(optional),
            _ if inner.flat => Err(EvalError::no_such_overload().at(inner.span)),
            value => Ok(Value::some(value)),
        }
    }

    /// What a local variable holds, evaluating it if it is read for the first time.
    fn local(&mut self, slot: u32) -> Result<Place<'a>, EvalError> {
        let slot = slot as usize;
        match self.locals.get(slot) {
            Some(Local::Json(json)) => Ok(Place::Json(json)),
            Some(Local::Typed(json, ty)) => Ok(Place::Typed(json, ty)),
            Some(Local::Value(value)) => Ok(Place::Value(value.clone())),
            Some(Local::Failed(error)) => Err(error.clone()),
            Some(Local::Pending(node)) => {
                let node = *node;
                self.initialize(slot, node).map(Place::Value)
            }
            None => Err(EvalError::other(
                "a local variable is read outside of its scope",
            )),
        }
    }

    /// Evaluates a binding. It sees only the slots below its own: the others are set aside.
    fn initialize(&mut self, slot: usize, node: &'a Node) -> Evaluated<'a> {
        let above = self.locals.split_off(slot + 1);
        let result = self.eval(node);
        self.locals.truncate(slot);
        self.locals.push(match &result {
            Ok(value) => Local::Value(value.clone()),
            Err(error) => Local::Failed(error.clone()),
        });
        self.locals.extend(above);
        result
    }
}

#[cold]
fn cost_exceeded() -> EvalError {
    EvalError::new(
        ErrorKind::CostLimit,
        "operation cancelled: actual cost limit exceeded",
    )
}

#[cold]
fn not_optional(value: &Value<'_>) -> EvalError {
    EvalError::invalid(format!(
        "cannot initialize optional entry from non-optional value of type {}",
        value.type_name()
    ))
}

#[cold]
fn no_such_overload(call: &Call, values: &[Value<'_>]) -> EvalError {
    let types: Vec<String> = values.iter().map(Value::type_name).collect();
    EvalError::new(
        ErrorKind::NoSuchOverload,
        format!("no such overload: {}({})", call.name, types.join(", ")),
    )
}

/// Whether the overload takes these arguments, by their run-time types.
fn accepts_all(overload: &Overload, values: &[Value<'_>]) -> bool {
    overload.parameters.len() == values.len()
        && overload
            .parameters
            .iter()
            .zip(values)
            .all(|(ty, value)| accepts(ty, value))
}

pub(crate) fn accepts(ty: &Type, value: &Value<'_>) -> bool {
    match (ty, value) {
        (Type::Dyn | Type::Any | Type::Param(_) | Type::Variable(_), _)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::List(_), Value::List(_))
        | (Type::Map(_), Value::Map(_) | Value::Object(_))
        | (Type::Optional(_), Value::Optional(_))
        | (Type::Type(_), Value::Type(_))
        | (Type::Null, Value::Null)
        | (Type::Object(_), Value::Map(_)) => true,
        (Type::Object(ty), Value::Object(object)) => ty.name() == object.object_type().name(),
        (Type::Wrapper(inner), value) => matches!(value, Value::Null) || accepts(inner, value),
        (Type::Opaque(ty), Value::Opaque(opaque)) => *ty.name == *opaque.0.type_of().name(),
        _ => false,
    }
}
