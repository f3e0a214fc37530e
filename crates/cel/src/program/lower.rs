//! Syntax tree to program.

use std::sync::{Arc, OnceLock};

use super::fold::{constant, fold, intrinsic};
use super::node::{
    Attribute, Base, Binary, Bind, Call, Chain, Conditional, Declared, Loop, MapEntry, Matches,
    NO_SLOT, Node, OptionalMap, PLACE_SLOTS, Qualifier, QualifierKind, Struct, StructKind,
};
use crate::ast::{
    Ast, BinaryOperator, Comprehension, ExprId, ExprKind, FieldItem, ListItem, Literal, MapItem,
    Name, UnaryOperator,
};
use crate::check::{Checked, Resolution};
use crate::env::{Env, Overload};
use crate::error::{CompileError, ErrorKind, EvalError, Issue};
use crate::library::well_known;
use crate::source::Span;
use crate::types::Type;
use crate::value::Value;

/// How deep programs nest. Evaluation calls itself once per level, so this bounds its stack. The parser's limit
/// does not suffice: chains of calls nest without parentheses.
const DEPTH_MAX: usize = 300;

/// How many overloads and names an expression without checker may leave open.
const CANDIDATES_MAX: usize = 64;

type Lowered = Result<Node, Issue>;

pub(super) struct Lowering<'e> {
    env: &'e Env,
    ast: &'e Ast,
    checked: Option<&'e Checked>,
    locals: Vec<Name>,
    slots: usize,
    depth: usize,
    /// What the place slots are for: a variable, or a field behind another slot.
    places: Vec<(u8, Name)>,
}

impl<'e> Lowering<'e> {
    /// The root node and the number of slots for local variables.
    pub fn run(
        env: &'e Env,
        ast: &'e Ast,
        checked: Option<&'e Checked>,
    ) -> Result<(Node, usize), CompileError> {
        let mut lowering = Lowering {
            env,
            ast,
            checked,
            locals: Vec::new(),
            slots: 0,
            depth: 0,
            places: Vec::new(),
        };
        match lowering.node(ast.root()) {
            Ok(root) => Ok((root, lowering.slots)),
            Err(issue) => Err(CompileError::new(&ast.source, vec![issue])),
        }
    }

    fn resolution(&self, id: ExprId) -> Option<&'e Resolution> {
        self.checked.map(|checked| &checked.resolutions[id.index()])
    }

    fn span(&self, id: ExprId) -> Span {
        self.ast.node(id).anchor_span()
    }

    fn node(&mut self, id: ExprId) -> Lowered {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Issue::new(
                self.span(id),
                format!("the expression nests deeper than {DEPTH_MAX} levels"),
            ));
        }
        let node = self.lower(id)?;
        self.depth -= 1;
        Ok(fold(node))
    }

    fn nodes(&mut self, ids: &[ExprId]) -> Result<Box<[Node]>, Issue> {
        ids.iter().map(|id| self.node(*id)).collect()
    }

    /// Every kind of node has its own function: one with all of them would take much stack per level.
    fn lower(&mut self, id: ExprId) -> Lowered {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Literal(literal) => Ok(Node::Constant(constant(literal))),
            ExprKind::Ident { .. }
            | ExprKind::Select { .. }
            | ExprKind::Has { .. }
            | ExprKind::Index { .. } => self.attribute(id),
            ExprKind::Call {
                function,
                target,
                arguments,
            } => self.call(id, function, *target, arguments),
            ExprKind::Unary(operator, operand) => self.unary(id, *operator, *operand),
            ExprKind::Binary(operator, left, right) => self.binary(id, *operator, *left, *right),
            ExprKind::And(operands) => self.nodes(operands).map(Node::And),
            ExprKind::Or(operands) => self.nodes(operands).map(Node::Or),
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            } => self.conditional(id, *condition, *then, *otherwise),
            ExprKind::List(items) => self.list(items),
            ExprKind::Map(items) => self.map(items),
            ExprKind::Struct { name, fields } => self.structure(id, name, fields),
            ExprKind::Comprehension(inner) => self.comprehension(inner, id),
            ExprKind::Bind {
                variable,
                init,
                body,
            } => self.bind(variable, *init, *body),
            ExprKind::OptionalMap { .. } => self.optional_map(id),
        }
    }

    fn unary(&mut self, id: ExprId, operator: UnaryOperator, operand: ExprId) -> Lowered {
        let inner = Box::new((self.node(operand)?, self.span(id)));
        Ok(match operator {
            UnaryOperator::Not => Node::Not(inner),
            UnaryOperator::Negate => Node::Negate(inner),
        })
    }

    fn conditional(
        &mut self,
        id: ExprId,
        condition: ExprId,
        then: ExprId,
        otherwise: ExprId,
    ) -> Lowered {
        let condition = self.node(condition)?;
        let (then, otherwise) = (self.node(then)?, self.node(otherwise)?);
        Ok(Node::Conditional(Box::new(Conditional {
            condition,
            then,
            otherwise,
            span: self.span(id),
        })))
    }

    fn list(&mut self, items: &[ListItem]) -> Lowered {
        let lowered: Result<_, Issue> = items
            .iter()
            .map(|item| Ok((self.node(item.value)?, item.optional)))
            .collect();
        lowered.map(Node::List)
    }

    fn map(&mut self, items: &[MapItem]) -> Lowered {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let (key, value) = (self.node(item.key)?, self.node(item.value)?);
            entries.push(MapEntry {
                key,
                value,
                optional: item.optional,
                span: self.span(item.key),
            });
        }
        Ok(Node::Map(entries.into()))
    }

    fn bind(&mut self, variable: &Name, init: ExprId, body: ExprId) -> Lowered {
        let init = self.node(init)?;
        let slot = self.push_local(variable);
        let body = self.node(body)?;
        self.locals.pop();
        Ok(Node::Bind(Box::new(Bind { slot, init, body })))
    }

    fn optional_map(&mut self, id: ExprId) -> Lowered {
        let ast = self.ast;
        let ExprKind::OptionalMap {
            target,
            variable,
            body,
            flat,
        } = &ast.node(id).kind
        else {
            return Ok(Node::Constant(Value::Null));
        };
        let target = self.node(*target)?;
        let slot = self.push_local(variable);
        let body = self.node(*body)?;
        self.locals.pop();
        Ok(Node::OptionalMap(Box::new(OptionalMap {
            target,
            slot,
            body,
            flat: *flat,
            span: self.span(id),
        })))
    }

    fn push_local(&mut self, name: &Name) -> u32 {
        self.locals.push(Arc::clone(name));
        self.slots = self.slots.max(self.locals.len());
        self.locals.len() as u32 - 1
    }

    fn comprehension(&mut self, inner: &Comprehension, id: ExprId) -> Lowered {
        let span = self.span(id);
        let range = self.node(inner.range)?;
        let outer = self.locals.len();
        let slot = self.push_local(&inner.first);
        if let Some(second) = &inner.second {
            self.push_local(second);
        }
        let filter = inner.filter.map(|filter| self.node(filter)).transpose()?;
        let body = self.node(inner.body)?;
        self.locals.truncate(outer);
        let two_variables = inner.second.is_some();
        Ok(Node::Comprehension(Box::new(Loop {
            kind: inner.kind,
            range,
            slot,
            two_variables,
            filter,
            body,
            span,
        })))
    }

    /// Comparisons are nodes of their own, sums and products chains of any length.
    fn binary(
        &mut self,
        id: ExprId,
        operator: BinaryOperator,
        left: ExprId,
        right: ExprId,
    ) -> Lowered {
        if !is_arithmetic(operator) {
            let (left, right) = (self.node(left)?, self.node(right)?);
            return Ok(Node::Compare(Box::new(Binary {
                operator,
                left,
                right,
                span: self.span(id),
            })));
        }
        let mut steps = vec![(operator, right, self.span(id))];
        let mut first = left;
        while let ExprKind::Binary(operator, left, right) = &self.ast.node(first).kind
            && is_arithmetic(*operator)
        {
            steps.push((*operator, *right, self.span(first)));
            first = *left;
        }
        let first = self.node(first)?;
        let rest = steps
            .into_iter()
            .rev()
            .map(|(operator, right, span)| Ok((operator, self.node(right)?, span)))
            .collect::<Result<_, Issue>>()?;
        Ok(Node::Chain(Box::new(Chain { first, rest })))
    }

    /// A chain of selections and indexes down to what it starts from.
    fn attribute(&mut self, id: ExprId) -> Lowered {
        let ast = self.ast;
        let mut qualifiers = Vec::new();
        let mut at = id;
        let test = matches!(ast.node(id).kind, ExprKind::Has { .. });
        let base = loop {
            let span = self.span(at);
            if let Some(found) = self.named(at) {
                match found {
                    Ok(base) => break base,
                    Err(node) if qualifiers.is_empty() => return Ok(node),
                    Err(node) => break Base::Value(node),
                }
            }
            let node = &ast.node(at).kind;
            let (operand, kind, optional) = match node {
                ExprKind::Select {
                    operand,
                    field,
                    optional,
                }
                | ExprKind::Has {
                    operand,
                    field,
                    optional,
                } => (*operand, QualifierKind::Field(Arc::clone(field)), *optional),
                ExprKind::Index {
                    operand,
                    index,
                    optional,
                } => {
                    let kind = match &ast.node(*index).kind {
                        ExprKind::Literal(Literal::String(key)) => {
                            QualifierKind::Constant(Value::string(Arc::clone(key)))
                        }
                        ExprKind::Literal(literal) => QualifierKind::Constant(constant(literal)),
                        _ => QualifierKind::Dynamic(self.node(*index)?),
                    };
                    (*operand, kind, *optional)
                }
                ExprKind::Ident { .. } => break self.unresolved(at, &qualifiers),
                _ => break Base::Value(self.node(at)?),
            };
            qualifiers.push(Qualifier {
                kind,
                optional,
                cache: NO_SLOT,
                declared: self.declared(operand, node),
                span,
            });
            at = operand;
        };
        qualifiers.reverse();
        let mut base = base;
        if let Base::Variable(name, slot) = &mut base {
            *slot = self.place_slot(NO_SLOT, name);
            self.assign_places(*slot, &mut qualifiers);
        }
        let is_plain = |qualifier: &Qualifier| {
            let constant = match &qualifier.kind {
                QualifierKind::Field(_) => true,
                QualifierKind::Constant(key) => matches!(key, Value::Int(_) | Value::String(_)),
                QualifierKind::Dynamic(_) => false,
            };
            constant && !qualifier.optional
        };
        let is_plain =
            matches!(base, Base::Variable(..) | Base::Local(_)) && qualifiers.iter().all(is_plain);
        Ok(Node::Attribute(Box::new(Attribute {
            base,
            qualifiers: qualifiers.into(),
            test,
            is_plain,
            span: ast.node(at).span,
        })))
    }

    /// The declaration of the field a selection reads, if its operand is an object.
    fn declared(&self, operand: ExprId, node: &ExprKind) -> Option<Box<Declared>> {
        let (ExprKind::Select { field, .. } | ExprKind::Has { field, .. }) = node else {
            return None;
        };
        let Type::Object(object) = self.checked?.type_of(operand) else {
            return None;
        };
        let found = object.find(field)?.clone();
        Some(Box::new(Declared {
            object: Arc::clone(object),
            field: found,
        }))
    }

    /// Gives the fields that follow a variable their slots.
    fn assign_places(&mut self, mut parent: u8, qualifiers: &mut [Qualifier]) {
        for qualifier in qualifiers {
            let QualifierKind::Field(field) = &qualifier.kind else {
                return;
            };
            if qualifier.optional || parent == NO_SLOT {
                return;
            }
            parent = self.place_slot(parent, field);
            qualifier.cache = parent;
        }
    }

    /// The slot of a variable, or of a field behind another slot; the first few that come get one.
    fn place_slot(&mut self, parent: u8, name: &Name) -> u8 {
        let known = self
            .places
            .iter()
            .position(|(at, known)| *at == parent && known == name);
        match known {
            Some(slot) => slot as u8,
            None if self.places.len() < PLACE_SLOTS => {
                self.places.push((parent, Arc::clone(name)));
                self.places.len() as u8 - 1
            }
            None => NO_SLOT,
        }
    }

    /// What a node names, if it names something: a variable, or a constant as the error.
    fn named(&self, id: ExprId) -> Option<Result<Base, Node>> {
        if let ExprKind::Ident {
            name,
            global: false,
        } = &self.ast.node(id).kind
            && let Some(slot) = self.locals.iter().rposition(|local| local == name)
        {
            return Some(Ok(Base::Local(slot as u32)));
        }
        match self.resolution(id)? {
            Resolution::Variable(name) => Some(Ok(Base::Variable(Arc::clone(name), NO_SLOT))),
            Resolution::Type(ty) => Some(Err(Node::of_type(ty))),
            Resolution::Null => Some(Err(Node::Constant(Value::Null))),
            _ => None,
        }
    }

    /// An unchecked name: which variable it is turns out while evaluating. `qualifiers` are those above it, the
    /// innermost last.
    fn unresolved(&self, id: ExprId, qualifiers: &[Qualifier]) -> Base {
        let ExprKind::Ident { name, global } = &self.ast.node(id).kind else {
            return Base::Candidates([].into());
        };
        let mut full = if *global {
            format!(".{name}")
        } else {
            name.to_string()
        };
        let mut names = vec![(full.clone(), 0)];
        for (taken, qualifier) in qualifiers.iter().rev().enumerate() {
            match &qualifier.kind {
                QualifierKind::Field(field) if !qualifier.optional && taken < 8 => {
                    full = format!("{full}.{field}");
                    names.push((full.clone(), taken + 1));
                }
                _ => break,
            }
        }
        let mut candidates = Vec::new();
        for (name, taken) in names.into_iter().rev() {
            candidates.extend(
                self.env
                    .candidates(&name)
                    .into_iter()
                    .map(|candidate| (candidate, taken)),
            );
        }
        candidates.truncate(CANDIDATES_MAX);
        Base::Candidates(candidates.into())
    }

    fn call(
        &mut self,
        id: ExprId,
        name: &Name,
        target: Option<ExprId>,
        arguments: &[ExprId],
    ) -> Lowered {
        let span = self.span(id);
        let (overloads, qualified): (Vec<Arc<Overload>>, bool) = match self.resolution(id) {
            Some(Resolution::Function {
                overloads,
                qualified,
            }) => (overloads.clone(), *qualified),
            _ => {
                if let Some(found) = self.find_unchecked(name, target, arguments.len()) {
                    found
                } else {
                    let message = format!("no such overload: unbound function '{name}'");
                    let error = EvalError::new(ErrorKind::NoSuchOverload, message).at(span);
                    return Ok(Node::Fail(Box::new(error)));
                }
            }
        };
        let mut nodes = Vec::with_capacity(arguments.len() + 1);
        if let Some(target) = target.filter(|_| !qualified) {
            nodes.push(self.node(target)?);
        }
        for argument in arguments {
            nodes.push(self.node(*argument)?);
        }
        let position = overloads.iter().find_map(|overload| overload.pattern);
        let pattern = position
            .and_then(|position| nodes.get(position))
            .and_then(|pattern| pattern.constant().and_then(Value::as_str).map(Name::from));
        if let (Some(position), Some(pattern)) = (position, &pattern)
            && let Err(error) = crate::regex::validate(pattern)
        {
            // The receiver, if there is one, is no argument.
            let argument = (position + arguments.len()).checked_sub(nodes.len());
            let at = argument
                .and_then(|argument| arguments.get(argument))
                .map_or(span, |pattern| self.ast.node(*pattern).span);
            let message = format!("invalid {name} argument");
            return Err(Issue::new(at, message).with_hint(Some(error.to_string())));
        }
        if &**name == "matches"
            && nodes.len() == 2
            && let Some(pattern) = pattern
            && let Some(target) = nodes.drain(..).next()
        {
            return Ok(Node::Matches(Box::new(Matches {
                target,
                pattern,
                regex: OnceLock::new(),
                span,
            })));
        }
        let call = Call {
            name: Arc::clone(name),
            overloads: overloads.into_boxed_slice(),
            arguments: nodes.into_boxed_slice(),
            span,
        };
        Ok(match intrinsic(&call) {
            Some(intrinsic) => Node::Intrinsic(Box::new((intrinsic, call))),
            None => Node::Call(Box::new(call)),
        })
    }

    /// The overloads an unchecked call may mean, by name and number of arguments.
    fn find_unchecked(
        &self,
        name: &str,
        target: Option<ExprId>,
        count: usize,
    ) -> Option<(Vec<Arc<Overload>>, bool)> {
        if let Some(target) = target
            && let Some(prefix) = self.qualifier(target)
        {
            let candidates = self.env.candidates(&format!("{prefix}.{name}"));
            if let Some(function) = candidates
                .iter()
                .find_map(|name| self.env.function_arc(name))
            {
                return Some((function.overloads.clone(), true));
            }
        }
        let candidates = self.env.candidates(name);
        let function = candidates
            .iter()
            .find_map(|name| self.env.function_arc(name))?;
        let member = target.is_some();
        let parameters = count + usize::from(member);
        let fits = |overload: &&Arc<Overload>| {
            overload.member == member && overload.parameters.len() == parameters
        };
        Some((
            function.overloads.iter().filter(fits).cloned().collect(),
            false,
        ))
    }

    fn qualifier(&self, id: ExprId) -> Option<String> {
        let mut parts = Vec::new();
        let mut at = id;
        loop {
            match &self.ast.node(at).kind {
                ExprKind::Select {
                    operand,
                    field,
                    optional: false,
                } if parts.len() < 8 => {
                    parts.push(&**field);
                    at = *operand;
                }
                ExprKind::Ident {
                    name,
                    global: false,
                } if !self.locals.contains(name) => {
                    parts.push(name);
                    parts.reverse();
                    return Some(parts.join("."));
                }
                _ => return None,
            }
        }
    }

    fn structure(&mut self, id: ExprId, name: &Name, fields: &[FieldItem]) -> Lowered {
        let span = self.span(id);
        let kind = match self.resolution(id) {
            Some(Resolution::Struct(Type::Object(object))) => {
                StructKind::Object(Arc::clone(object))
            }
            Some(Resolution::Struct(other)) => StructKind::WellKnown(other.name().into()),
            _ => {
                let candidates = self.env.candidates(name);
                let found = candidates.iter().find_map(|name| {
                    if well_known::message_type(name).is_some() {
                        return Some(StructKind::WellKnown(Arc::clone(name)));
                    }
                    match self.env.find_type(name) {
                        Some(Type::Object(object)) => Some(StructKind::Object(object)),
                        _ => None,
                    }
                });
                match found {
                    Some(kind) => kind,
                    None => {
                        return Ok(Node::Fail(Box::new(
                            EvalError::other(format!("unknown type: {name}")).at(span),
                        )));
                    }
                }
            }
        };
        let fields = fields
            .iter()
            .map(|field| {
                Ok((
                    Arc::clone(&field.field),
                    self.node(field.value)?,
                    field.optional,
                ))
            })
            .collect::<Result<_, Issue>>()?;
        Ok(Node::Struct(Box::new(Struct { kind, fields, span })))
    }
}

fn is_arithmetic(operator: BinaryOperator) -> bool {
    matches!(
        operator,
        BinaryOperator::Add
            | BinaryOperator::Subtract
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
    )
}
