//! Text to syntax tree: an operator-precedence parser with limits.
//!
//! Nesting is counted wherever the parser calls itself and ends in an error at
//! [`ParseLimits::depth_max`], so no input can exhaust the stack. Chains of operators, selections and calls
//! are loops and may be as long as the source allows.

mod lexer;
mod literal;
pub(crate) mod macros;
mod primary;

use std::collections::HashSet;
use std::sync::Arc;

use self::lexer::{Lexer, Symbol, Token, TokenKind};
use self::macros::MacroTable;
use crate::ast::{Ast, BinaryOperator, Expr, ExprId, ExprKind, Literal, Name, UnaryOperator};
use crate::error::{CompileError, Issue};
use crate::source::Span;

/// What an expression starts with, in the words of cel-go's grammar.
const EXPRESSION_START: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// How large an expression may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLimits {
    /// Length of the source in characters; cel-go's default.
    pub source_chars_max: usize,
    /// Nesting of parentheses, arguments, literals and macros; cel-go's default.
    pub depth_max: usize,
}

impl ParseLimits {
    /// The limits cel-go and Kubernetes use.
    pub const DEFAULT: Self = Self {
        source_chars_max: 100_000,
        depth_max: 250,
    };
}

/// Words that cannot be identifiers: the four that stand for something, then those kept for later.
pub const RESERVED_WORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The words kept for later; the lexer knows the others.
const RESERVED: &[&str] = RESERVED_WORDS.split_at(4).1;

/// Parses `source`, expanding the macros of `macros`.
pub(crate) fn parse(
    source: &str,
    macros: &MacroTable,
    qualified_functions: &Arc<HashSet<Name>>,
    limits: ParseLimits,
) -> Result<Ast, CompileError> {
    if source.len() > limits.source_chars_max {
        let chars = source.chars().count();
        if chars > limits.source_chars_max {
            let message = format!(
                "expression code point size exceeds limit: size: {chars}, limit {}",
                limits.source_chars_max
            );
            return Err(CompileError::new(
                &Arc::from(""),
                vec![Issue::new(Span::default(), message)],
            ));
        }
    }
    let text: Arc<str> = Arc::from(source);
    let fail = |issue: Box<Issue>| CompileError::new(&text, vec![*issue]);
    let mut parser = Parser::new(source, macros, limits).map_err(fail)?;
    let root = parser
        .expression()
        .and_then(|root| parser.expect_end().map(|()| root));
    match root {
        Ok(root) => Ok(Ast::new(
            text,
            parser.nodes,
            root,
            Arc::clone(qualified_functions),
        )),
        Err(issue) => Err(fail(issue)),
    }
}

struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token,
    previous_end: u32,
    nodes: Vec<Expr>,
    operands: Vec<ExprId>,
    pending: Vec<Pending>,
    macros: &'s MacroTable,
    limits: ParseLimits,
    depth: usize,
}

/// Boxed, because every level of nesting keeps a few of these on the stack.
type Parsed<T> = Result<T, Box<Issue>>;

/// An infix operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    Binary(BinaryOperator),
    And,
    Or,
}

/// An infix operator that waits for its right operand.
struct Pending {
    operator: Infix,
    precedence: u8,
    anchor: u32,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str, macros: &'s MacroTable, limits: ParseLimits) -> Parsed<Self> {
        let mut lexer = Lexer::new(source);
        let token = lexer.next_token().map_err(Box::new)?;
        let nodes = Vec::with_capacity(source.len() / 4 + 4);
        let (operands, pending) = (Vec::with_capacity(8), Vec::with_capacity(8));
        Ok(Self {
            source,
            lexer,
            token,
            previous_end: 0,
            nodes,
            operands,
            pending,
            macros,
            limits,
            depth: 0,
        })
    }

    fn text(&self, span: Span) -> &'s str {
        span.text(self.source)
    }

    fn advance(&mut self) -> Parsed<Token> {
        let token = self.token;
        self.previous_end = token.span.end;
        self.token = self.lexer.next_token().map_err(Box::new)?;
        Ok(token)
    }

    fn at(&self, symbol: Symbol) -> bool {
        self.token.kind == TokenKind::Symbol(symbol)
    }

    fn accept(&mut self, symbol: Symbol) -> Parsed<bool> {
        let found = self.at(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: Symbol, what: &str) -> Parsed<Token> {
        if self.at(symbol) {
            self.advance()
        } else {
            Err(Box::new(self.unexpected(what)))
        }
    }

    fn expect_end(&mut self) -> Parsed<()> {
        if self.token.kind == TokenKind::End {
            Ok(())
        } else {
            // As upstream's parser: one token too many is extraneous, more of them do not match.
            let span = self.token.span;
            let text: String = self.text(span).chars().take(40).collect();
            let alone = matches!(self.lexer.next_token(), Ok(next) if next.kind == TokenKind::End);
            let problem = if alone { "extraneous" } else { "mismatched" };
            Err(Box::new(Issue::new(
                span,
                format!("Syntax error: {problem} input '{text}' expecting <EOF>"),
            )))
        }
    }

    #[cold]
    fn unexpected(&self, expected: &str) -> Issue {
        let found = match self.token.kind {
            TokenKind::End => "'<EOF>'".to_owned(),
            _ => format!(
                "'{}'",
                self.text(self.token.span)
                    .chars()
                    .take(40)
                    .collect::<String>()
            ),
        };
        // One closing symbol alone that never comes is missing.
        let is_one = matches!(expected, "')'" | "']'" | "'}'");
        let message = if is_one && self.token.kind == TokenKind::End {
            format!("Syntax error: missing {expected} at {found}")
        } else {
            format!("Syntax error: mismatched input {found} expecting {expected}")
        };
        Issue::new(self.token.span, message)
    }

    fn push(&mut self, start: u32, anchor: u32, kind: ExprKind) -> ExprId {
        let span = Span {
            start,
            end: self.previous_end,
        };
        self.nodes.push(Expr { span, anchor, kind });
        ExprId(self.nodes.len() as u32 - 1)
    }

    fn start_of(&self, id: ExprId) -> u32 {
        self.nodes[id.index()].span.start
    }

    /// `operators ('?' operators ':' expression)?`
    fn expression(&mut self) -> Parsed<ExprId> {
        self.descend()?;
        let condition = self.operators()?;
        let result = if self.at(Symbol::Question) {
            self.conditional(condition)?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(result)
    }

    fn descend(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth <= self.limits.depth_max {
            return Ok(());
        }
        let message = format!(
            "expression recursion limit exceeded: {}",
            self.limits.depth_max
        );
        Err(Box::new(Issue::new(self.token.span, message)))
    }

    fn conditional(&mut self, condition: ExprId) -> Parsed<ExprId> {
        let anchor = self.advance()?.span.start;
        let then = self.operators()?;
        self.expect(Symbol::Colon, "':' of the conditional")?;
        let otherwise = self.expression()?;
        let start = self.start_of(condition);
        Ok(self.push(
            start,
            anchor,
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            },
        ))
    }

    /// Operands and infix operators, by precedence. Operators wait on a stack until one that binds less tightly
    /// comes, so that neither their number nor their precedence nests calls.
    fn operators(&mut self) -> Parsed<ExprId> {
        let base = self.pending.len();
        loop {
            let operand = self.unary()?;
            self.operands.push(operand);
            let Some((operator, precedence)) = self.infix() else {
                break;
            };
            while self.pending.len() > base && self.must_reduce(precedence) {
                self.reduce(base);
            }
            let anchor = self.advance()?.span.start;
            self.pending.push(Pending {
                operator,
                precedence,
                anchor,
            });
        }
        while self.pending.len() > base {
            self.reduce(base);
        }
        // Invariant: every operator took its operands, so the one pushed last is left.
        Ok(self.operands.pop().unwrap_or(ExprId(0)))
    }

    /// Whether the operator on top of the stack goes before one of this precedence. Runs of `&&` and of `||` are
    /// kept, to become one node.
    fn must_reduce(&self, precedence: u8) -> bool {
        self.pending.last().is_some_and(|top| {
            top.precedence > precedence
                || (top.precedence == precedence && matches!(top.operator, Infix::Binary(_)))
        })
    }

    /// Makes a node of the operator on top of the stack, or of the whole run of it.
    fn reduce(&mut self, base: usize) {
        let Some(top) = self.pending.pop() else {
            return;
        };
        let mut count = 2;
        let mut anchor = top.anchor;
        if let Infix::And | Infix::Or = top.operator {
            while self.pending.len() > base
                && self
                    .pending
                    .last()
                    .is_some_and(|next| next.operator == top.operator)
            {
                anchor = self.pending.pop().map_or(anchor, |next| next.anchor);
                count += 1;
            }
        }
        let operands = self
            .operands
            .split_off(self.operands.len().saturating_sub(count));
        let (Some(first), Some(last)) = (operands.first().copied(), operands.last().copied())
        else {
            return;
        };
        let kind = match top.operator {
            Infix::Binary(operator) => ExprKind::Binary(operator, first, last),
            Infix::And => ExprKind::And(operands.into_boxed_slice()),
            Infix::Or => ExprKind::Or(operands.into_boxed_slice()),
        };
        let span = Span {
            start: self.start_of(first),
            end: self.nodes[last.index()].span.end,
        };
        self.nodes.push(Expr { span, anchor, kind });
        self.operands.push(ExprId(self.nodes.len() as u32 - 1));
    }

    fn infix(&self) -> Option<(Infix, u8)> {
        let symbol = match self.token.kind {
            TokenKind::Symbol(symbol) => symbol,
            TokenKind::Identifier if self.text(self.token.span) == "in" => {
                return Some((Infix::Binary(BinaryOperator::In), 2));
            }
            _ => return None,
        };
        let (operator, precedence) = match symbol {
            Symbol::Or => return Some((Infix::Or, 0)),
            Symbol::And => return Some((Infix::And, 1)),
            Symbol::Equal => (BinaryOperator::Equal, 2),
            Symbol::NotEqual => (BinaryOperator::NotEqual, 2),
            Symbol::Less => (BinaryOperator::Less, 2),
            Symbol::LessEqual => (BinaryOperator::LessEqual, 2),
            Symbol::Greater => (BinaryOperator::Greater, 2),
            Symbol::GreaterEqual => (BinaryOperator::GreaterEqual, 2),
            Symbol::Plus => (BinaryOperator::Add, 3),
            Symbol::Minus => (BinaryOperator::Subtract, 3),
            Symbol::Star => (BinaryOperator::Multiply, 4),
            Symbol::Slash => (BinaryOperator::Divide, 4),
            Symbol::Percent => (BinaryOperator::Modulo, 4),
            _ => return None,
        };
        Some((Infix::Binary(operator), precedence))
    }

    /// `!!x`, `--x`: an even number of signs cancels out, as in cel-go.
    fn unary(&mut self) -> Parsed<ExprId> {
        let (symbol, operator) = match self.token.kind {
            TokenKind::Symbol(Symbol::Not) => (Symbol::Not, UnaryOperator::Not),
            TokenKind::Symbol(Symbol::Minus) => (Symbol::Minus, UnaryOperator::Negate),
            _ => return self.member(),
        };
        let start = self.token.span.start;
        let mut count = 0_usize;
        while self.accept(symbol)? {
            count += 1;
        }
        if count == 1
            && symbol == Symbol::Minus
            && matches!(self.token.kind, TokenKind::Int | TokenKind::Double)
        {
            let literal = self.number(true)?;
            let literal = self.push(start, start, literal);
            return self.member_of(literal);
        }
        let operand = self.member()?;
        if count.is_multiple_of(2) {
            return Ok(operand);
        }
        Ok(self.push(start, start, ExprKind::Unary(operator, operand)))
    }

    fn number(&mut self, negative: bool) -> Parsed<ExprKind> {
        let token = self.advance()?;
        let text = self.text(token.span);
        let literal = match token.kind {
            TokenKind::Int => literal::int(text, negative).map(Literal::Int),
            TokenKind::Uint => literal::uint(text).map(Literal::Uint),
            _ => literal::double(text)
                .map(|value| Literal::Double(if negative { -value } else { value })),
        };
        literal
            .map(ExprKind::Literal)
            .map_err(|message| Box::new(Issue::new(token.span, message)))
    }

    fn member(&mut self) -> Parsed<ExprId> {
        let primary = self.primary()?;
        self.member_of(primary)
    }

    /// `.field`, `.?field`, `.method(...)`, `[index]`, `[?index]`, `{field: value}` behind an operand.
    fn member_of(&mut self, mut operand: ExprId) -> Parsed<ExprId> {
        loop {
            let start = self.start_of(operand);
            if self.at(Symbol::Dot) {
                let dot = self.advance()?.span.start;
                let optional = self.accept(Symbol::Question)?;
                let field = self.field_name()?;
                operand = if !optional && self.at(Symbol::LeftParen) {
                    self.call(start, field, Some(operand))?
                } else {
                    self.push(
                        start,
                        dot,
                        ExprKind::Select {
                            operand,
                            field,
                            optional,
                        },
                    )
                };
            } else if self.at(Symbol::LeftBracket) {
                operand = self.index(start, operand)?;
            } else if self.at(Symbol::LeftBrace)
                && let Some(name) = self.qualified_name(operand)
            {
                operand = self.structure(start, name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn index(&mut self, start: u32, operand: ExprId) -> Parsed<ExprId> {
        let bracket = self.advance()?.span.start;
        let optional = self.accept(Symbol::Question)?;
        let index = self.expression()?;
        self.expect(Symbol::RightBracket, "']'")?;
        Ok(self.push(
            start,
            bracket,
            ExprKind::Index {
                operand,
                index,
                optional,
            },
        ))
    }

    /// A field or method name: identifiers, reserved words and names in backquotes.
    fn field_name(&mut self) -> Parsed<Name> {
        match self.token.kind {
            TokenKind::Identifier if self.text(self.token.span) != "in" => {
                let token = self.advance()?;
                Ok(Arc::from(self.text(token.span)))
            }
            TokenKind::Quoted => {
                let token = self.advance()?;
                Ok(Arc::from(self.text(token.span).trim_matches('`')))
            }
            // What stands in front of the missing name is what cel-go finds wrong.
            _ => Err(Box::new(Issue::new(
                self.token.span,
                "Syntax error: no viable alternative at input '.'",
            ))),
        }
    }

    /// `a.b.c` as one name, if the node is a chain of plain selections.
    fn qualified_name(&self, mut id: ExprId) -> Option<Name> {
        let mut parts: Vec<&str> = Vec::new();
        loop {
            match &self.nodes[id.index()].kind {
                ExprKind::Select {
                    operand,
                    field,
                    optional: false,
                } => {
                    parts.push(field);
                    id = *operand;
                }
                ExprKind::Ident { name, global } => {
                    parts.push(name);
                    parts.reverse();
                    let joined = parts.join(".");
                    return Some(if *global {
                        format!(".{joined}").into()
                    } else {
                        joined.into()
                    });
                }
                _ => return None,
            }
        }
    }
}
