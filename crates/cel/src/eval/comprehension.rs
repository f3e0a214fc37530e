//! Comprehensions: the macros over lists and maps. Each is a loop of its own; results grow in place, so all are
//! linear in their input. What a turn costs follows from the fold cel-go expands the macro to.

use super::{Evaluated, Evaluator, Local};
use crate::ast::ComprehensionKind;
use crate::cost::{self, SELECT_AND_IDENT};
use crate::error::EvalError;
use crate::program::node::Loop;
use crate::types::Type;
use crate::value::{List, Map, MapBuilder, Value};

/// Turns between two looks at the interrupt; Kubernetes' value.
const INTERRUPT_CHECK_FREQUENCY: u64 = 100;

impl<'a> Evaluator<'a, '_> {
    pub(super) fn comprehension(&mut self, inner: &'a Loop) -> Evaluated<'a> {
        let range = self.eval(&inner.range)?;
        let slot = inner.slot as usize;
        self.locals.truncate(slot);
        let result = match &range {
            Value::List(list) => self.over_list(inner, list),
            Value::Map(map) => self.over_map(inner, map),
            Value::Object(object) => match object.as_json() {
                Some(json) => self.over_map(inner, &Map::json(json)),
                None => Err(EvalError::no_such_overload()),
            },
            _ => Err(EvalError::no_such_overload()),
        };
        self.locals.truncate(slot);
        result.map_err(|error| error.at(inner.span))
    }

    fn over_list(&mut self, inner: &'a Loop, list: &List<'a>) -> Evaluated<'a> {
        let mut fold = Fold::new(inner, list.len(), self)?;
        let key = |index: usize| {
            inner
                .two_variables
                .then_some(Local::Value(Value::Int(index as i64)))
        };
        if let Some((array, ty)) = list.data() {
            for (index, json) in array.iter().enumerate() {
                let element = match ty {
                    None | Some(Type::Dyn) => Local::Json(json),
                    Some(ty) => Local::Typed(json, ty),
                };
                if fold.turn(self, key(index), element)?.is_break() {
                    break;
                }
            }
            return fold.finish(self);
        }
        for (index, element) in list.iter().enumerate() {
            if fold
                .turn(self, key(index), Local::Value(element?))?
                .is_break()
            {
                break;
            }
        }
        fold.finish(self)
    }

    fn over_map(&mut self, inner: &'a Loop, map: &Map<'a>) -> Evaluated<'a> {
        let mut fold = Fold::new(inner, map.len(), self)?;
        for (key, value) in map.entries() {
            let turn = if inner.two_variables {
                fold.turn(self, Some(Local::Value(key)), Local::Value(value?))?
            } else {
                fold.turn(self, None, Local::Value(key))?
            };
            if turn.is_break() {
                break;
            }
        }
        fold.finish(self)
    }
}

/// The state of a running comprehension.
struct Fold<'a> {
    inner: &'a Loop,
    turns: u64,
    /// `all`, `exists`: what was decided.
    decided: bool,
    /// `all`, `exists`: an error that a later element may absorb.
    failed: Option<EvalError>,
    /// `exists_one`: how many.
    count: u64,
    elements: Vec<Value<'a>>,
    entries: MapBuilder<'a>,
}

type Turn = Result<std::ops::ControlFlow<()>, EvalError>;
const CONTINUE: Turn = Ok(std::ops::ControlFlow::Continue(()));
const BREAK: Turn = Ok(std::ops::ControlFlow::Break(()));

impl<'a> Fold<'a> {
    fn new(
        inner: &'a Loop,
        size: usize,
        evaluator: &mut Evaluator<'a, '_>,
    ) -> Result<Self, EvalError> {
        evaluator.charge(match inner.kind {
            ComprehensionKind::Map | ComprehensionKind::Filter => cost::LIST_CREATE,
            ComprehensionKind::TransformMap | ComprehensionKind::TransformMapEntry => {
                cost::MAP_CREATE
            }
            _ => 0,
        })?;
        // A filter may drop most elements: make room for all only if they are few.
        let room = match inner.kind {
            ComprehensionKind::Map => size.min(1024),
            ComprehensionKind::Filter => size.min(16),
            _ => 0,
        };
        Ok(Self {
            inner,
            turns: 0,
            decided: false,
            failed: None,
            count: 0,
            elements: Vec::with_capacity(room),
            entries: MapBuilder::default(),
        })
    }

    fn turn(
        &mut self,
        evaluator: &mut Evaluator<'a, '_>,
        key: Option<Local<'a>>,
        element: Local<'a>,
    ) -> Turn {
        self.turns += 1;
        if self.turns.is_multiple_of(INTERRUPT_CHECK_FREQUENCY) {
            evaluator.context.check_interrupt()?;
        }
        let inner = self.inner;
        match inner.kind {
            ComprehensionKind::All => evaluator.charge(2)?,
            ComprehensionKind::Exists => evaluator.charge(3)?,
            _ => {}
        }
        if self.decided {
            return BREAK;
        }
        let slot = inner.slot as usize;
        evaluator.locals.truncate(slot);
        evaluator.locals.extend(key);
        evaluator.locals.push(element);
        if let Some(filter) = &inner.filter
            && !evaluator.truth(filter)?
        {
            return CONTINUE;
        }
        match inner.kind {
            ComprehensionKind::All => self.decide(evaluator, false),
            ComprehensionKind::Exists => self.decide(evaluator, true),
            ComprehensionKind::ExistsOne => {
                if evaluator.truth(&inner.body)? {
                    self.count += 1;
                    evaluator.charge(SELECT_AND_IDENT + 1)?;
                }
                CONTINUE
            }
            ComprehensionKind::Filter => {
                if !evaluator.truth(&inner.body)? {
                    return CONTINUE;
                }
                evaluator.charge(2 * SELECT_AND_IDENT + cost::LIST_CREATE + 1)?;
                let element = evaluator.local(inner.slot)?.into_value()?;
                self.push(evaluator, element)
            }
            ComprehensionKind::Map => {
                let value = evaluator.eval(&inner.body)?;
                evaluator.charge(SELECT_AND_IDENT + cost::LIST_CREATE + 1)?;
                self.push(evaluator, value)
            }
            ComprehensionKind::TransformMap => {
                let value = evaluator.eval(&inner.body)?;
                evaluator.charge(2 * SELECT_AND_IDENT + 1)?;
                let key = evaluator.local(inner.slot)?.into_value()?;
                self.insert(evaluator, key, value)
            }
            ComprehensionKind::TransformMapEntry => {
                let value = evaluator.eval(&inner.body)?;
                evaluator.charge(SELECT_AND_IDENT + 1)?;
                let Value::Map(map) = value else {
                    return Err(EvalError::no_such_overload());
                };
                for (key, value) in map.entries() {
                    let _ = self.insert(evaluator, key, value?)?;
                }
                CONTINUE
            }
        }
    }

    /// One predicate of `all` and `exists`: it decides, or it is remembered if it failed.
    fn decide(&mut self, evaluator: &mut Evaluator<'a, '_>, decisive: bool) -> Turn {
        evaluator.charge(SELECT_AND_IDENT)?;
        let error = match evaluator.truth(&self.inner.body) {
            Ok(value) => {
                // The next turn's condition sees the decision and ends the loop: it is paid for there.
                self.decided = value == decisive;
                return CONTINUE;
            }
            Err(error) if error.kind().is_final() => return Err(error),
            Err(error) => error,
        };
        self.failed = Some(match self.failed.take() {
            Some(earlier) => earlier.merge(error),
            None => error,
        });
        CONTINUE
    }

    fn push(&mut self, evaluator: &mut Evaluator<'a, '_>, value: Value<'a>) -> Turn {
        if self.elements.len() >= evaluator.context.limits.elements_max {
            return Err(EvalError::too_large(
                "the size of a list",
                evaluator.context.limits.elements_max,
            ));
        }
        self.elements.push(value);
        CONTINUE
    }

    fn insert(
        &mut self,
        evaluator: &mut Evaluator<'a, '_>,
        key: Value<'a>,
        value: Value<'a>,
    ) -> Turn {
        if self.entries.len() >= evaluator.context.limits.elements_max {
            return Err(EvalError::too_large(
                "the size of a map",
                evaluator.context.limits.elements_max,
            ));
        }
        self.entries.insert(key, value)?;
        CONTINUE
    }

    fn finish(self, evaluator: &mut Evaluator<'a, '_>) -> Evaluated<'a> {
        evaluator.charge(SELECT_AND_IDENT)?;
        match self.inner.kind {
            ComprehensionKind::All | ComprehensionKind::Exists => match self.failed {
                Some(error) if !self.decided => Err(error),
                _ => Ok(Value::Bool(
                    self.decided == (self.inner.kind == ComprehensionKind::Exists),
                )),
            },
            ComprehensionKind::ExistsOne => {
                evaluator.charge(1)?;
                Ok(Value::Bool(self.count == 1))
            }
            ComprehensionKind::Filter | ComprehensionKind::Map => Ok(Value::list(self.elements)),
            ComprehensionKind::TransformMap | ComprehensionKind::TransformMapEntry => {
                Ok(Value::Map(self.entries.build()))
            }
        }
    }
}
