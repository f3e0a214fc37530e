//! Primary expressions: literals, names, calls, lists, maps and structs.

use super::lexer::{Symbol, TokenKind};
use super::macros::Expander;
use super::{EXPRESSION_START, Parsed, Parser, RESERVED, literal};
use crate::ast::{ExprId, ExprKind, FieldItem, ListItem, Literal, MapItem, Name};
use crate::error::Issue;
use crate::source::Span;

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Parsed<ExprId> {
        let start = self.token.span.start;
        match self.token.kind {
            TokenKind::Int | TokenKind::Uint | TokenKind::Double => {
                let literal = self.number(false)?;
                Ok(self.push(start, start, literal))
            }
            TokenKind::String | TokenKind::Bytes => self.text_literal(),
            TokenKind::Identifier => self.identifier(start, false),
            TokenKind::Symbol(Symbol::Dot) => {
                self.advance()?;
                if self.token.kind != TokenKind::Identifier {
                    return Err(Box::new(self.unexpected("a name")));
                }
                self.identifier(start, true)
            }
            TokenKind::Symbol(Symbol::LeftParen) => self.parenthesized(),
            TokenKind::Symbol(Symbol::LeftBracket) => self.list(start),
            TokenKind::Symbol(Symbol::LeftBrace) => self.map(start),
            _ => Err(Box::new(self.unexpected(EXPRESSION_START))),
        }
    }

    fn parenthesized(&mut self) -> Parsed<ExprId> {
        self.advance()?;
        let inner = self.expression()?;
        self.expect(Symbol::RightParen, "')'")?;
        Ok(inner)
    }

    fn text_literal(&mut self) -> Parsed<ExprId> {
        let token = self.advance()?;
        let text = self.text(token.span);
        let literal = if token.kind == TokenKind::Bytes {
            literal::bytes(text).map(|bytes| Literal::Bytes(bytes.into()))
        } else {
            literal::string(text).map(|string| Literal::String(string.into()))
        };
        let literal = literal.map_err(|message| Box::new(Issue::new(token.span, message)))?;
        Ok(self.push(
            token.span.start,
            token.span.start,
            ExprKind::Literal(literal),
        ))
    }

    fn identifier(&mut self, start: u32, global: bool) -> Parsed<ExprId> {
        let token = self.advance()?;
        let text = self.text(token.span);
        let literal = match text {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            "null" => Some(Literal::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return Ok(self.push(start, start, ExprKind::Literal(literal)));
        }
        if text == "in" || RESERVED.contains(&text) {
            return Err(Box::new(Issue::new(
                token.span,
                format!("reserved identifier: {text}"),
            )));
        }
        if self.at(Symbol::LeftParen) {
            let function = if global {
                format!(".{text}").into()
            } else {
                Name::from(text)
            };
            return self.call(start, function, None);
        }
        Ok(self.push(
            start,
            start,
            ExprKind::Ident {
                name: text.into(),
                global,
            },
        ))
    }

    pub(super) fn call(
        &mut self,
        start: u32,
        function: Name,
        target: Option<ExprId>,
    ) -> Parsed<ExprId> {
        let anchor = self.expect(Symbol::LeftParen, "'('")?.span.start;
        let mut arguments = Vec::new();
        if !self.accept(Symbol::RightParen)? {
            loop {
                arguments.push(self.expression()?);
                if !self.accept(Symbol::Comma)? {
                    break;
                }
            }
            self.expect(Symbol::RightParen, "',' or ')'")?;
        }
        self.expand(start, anchor, function, target, arguments)
    }

    /// A call, or what a macro makes of it.
    fn expand(
        &mut self,
        start: u32,
        anchor: u32,
        function: Name,
        target: Option<ExprId>,
        arguments: Vec<ExprId>,
    ) -> Parsed<ExprId> {
        if let Some(entry) = self
            .macros
            .find(&function, arguments.len(), target.is_some())
        {
            let span = Span {
                start,
                end: self.previous_end,
            };
            let mut expander = Expander {
                nodes: &mut self.nodes,
                span,
                anchor,
            };
            if let Some(expanded) =
                (entry.expand)(&mut expander, target, &arguments).map_err(Box::new)?
            {
                return Ok(expanded);
            }
        }
        let arguments = arguments.into_boxed_slice();
        Ok(self.push(
            start,
            anchor,
            ExprKind::Call {
                function,
                target,
                arguments,
            },
        ))
    }

    fn list(&mut self, start: u32) -> Parsed<ExprId> {
        self.advance()?;
        let mut items = Vec::new();
        while !self.accept(Symbol::RightBracket)? {
            let optional = self.accept(Symbol::Question)?;
            let value = self.expression()?;
            items.push(ListItem { value, optional });
            if !self.accept(Symbol::Comma)? {
                self.expect(Symbol::RightBracket, "',' or ']'")?;
                break;
            }
        }
        Ok(self.push(start, start, ExprKind::List(items.into_boxed_slice())))
    }

    fn map(&mut self, start: u32) -> Parsed<ExprId> {
        self.advance()?;
        let mut items = Vec::new();
        while !self.accept(Symbol::RightBrace)? {
            let optional = self.accept(Symbol::Question)?;
            let key = self.expression()?;
            self.expect(Symbol::Colon, "':' behind the key")?;
            let value = self.expression()?;
            items.push(MapItem {
                key,
                value,
                optional,
            });
            if !self.accept(Symbol::Comma)? {
                self.expect(Symbol::RightBrace, "',' or '}'")?;
                break;
            }
        }
        Ok(self.push(start, start, ExprKind::Map(items.into_boxed_slice())))
    }

    pub(super) fn structure(&mut self, start: u32, name: Name) -> Parsed<ExprId> {
        let anchor = self.advance()?.span.start;
        let mut fields = Vec::new();
        while !self.accept(Symbol::RightBrace)? {
            let optional = self.accept(Symbol::Question)?;
            let span = self.token.span;
            let field = self.field_name()?;
            self.expect(Symbol::Colon, "':' behind the field name")?;
            let value = self.expression()?;
            fields.push(FieldItem {
                field,
                span,
                value,
                optional,
            });
            if !self.accept(Symbol::Comma)? {
                self.expect(Symbol::RightBrace, "',' or '}'")?;
                break;
            }
        }
        Ok(self.push(
            start,
            anchor,
            ExprKind::Struct {
                name,
                fields: fields.into_boxed_slice(),
            },
        ))
    }
}
