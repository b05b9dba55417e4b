//! From text to parse tree: checks bounds and tokens first, then parses one expression with nothing
//! after it.

use sqlparser::ast::{Expr as Ast, Spanned};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::error::{CompileError, Pos, code};
use super::limits::{DEPTH_MAX, LENGTH_MAX, NESTING_MAX, TOKENS_MAX};
use super::lists::{Item, Lists, too_many_constants};
use super::look_alikes::look_alike;

/// The limit of the parser's own recursion. A level of nesting costs one step per binding strength
/// (OR, AND, NOT, IS, comparison, BETWEEN, sum, product, sign) and one for the parenthesis, so that
/// [`NESTING_MAX`] is reached first. In places the parser reports its own limit as a syntax error,
/// which would mislead.
const PARSER_RECURSION_MAX: usize = 10 * NESTING_MAX;

/// Parses a clause; `None` if it is empty.
pub(super) fn parse(text: &str) -> Result<Option<Ast>, CompileError> {
    if text.chars().count() > LENGTH_MAX {
        return Err(CompileError::new(
            code::TOO_LONG,
            Pos::START,
            format!("the clause is longer than {LENGTH_MAX} characters"),
        )
        .suggest("Split it into several segments and combine them with segment('tag')"));
    }
    if let Some((before, _)) = text.split_once('\0') {
        // No text of an event can have this character, and a record with it would be refused after
        // the clause was saved.
        return Err(CompileError::new(
            code::SYNTAX,
            end_of(before),
            "the clause contains the character NUL, which no text can contain",
        )
        .suggest("Remove it"));
    }
    if let Some(error) = look_alike(text) {
        return Err(error);
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|error| {
        CompileError::new(code::SYNTAX, pos_of(error.location).unwrap_or(Pos::START), lower_first(&error.message))
    })?;
    let tokens = checked(tokens)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(PARSER_RECURSION_MAX)
        .with_tokens_with_locations(tokens);
    let tree = parser.parse_expr().map_err(|error| parse_error(error, text))?;
    let rest = parser.peek_token_ref();
    if rest.token != Token::EOF {
        let message = format!("the clause should end here, but goes on with {}", rest.token);
        let pos = pos_of(rest.span.start).unwrap_or(Pos::START);
        return Err(CompileError::new(code::SYNTAX, pos, message).suggest_maybe(hint_for_rest(&rest.token)));
    }
    Ok(Some(tree))
}

/// Returns where an expression begins, or `outer` if the parser did not keep the position. It walks
/// down the left side, because the parser computes its own spans from all parts, recursively.
pub(super) fn start_of(tree: &Ast, outer: Pos) -> Pos {
    let mut leftmost = tree;
    let span = loop {
        leftmost = match leftmost {
            Ast::BinaryOp { left: inner, .. }
            | Ast::IsDistinctFrom(inner, _)
            | Ast::IsNotDistinctFrom(inner, _)
            | Ast::Nested(inner)
            | Ast::IsNull(inner)
            | Ast::IsNotNull(inner)
            | Ast::IsTrue(inner)
            | Ast::IsNotTrue(inner)
            | Ast::IsFalse(inner)
            | Ast::IsNotFalse(inner)
            | Ast::IsUnknown(inner)
            | Ast::IsNotUnknown(inner)
            | Ast::UnaryOp { expr: inner, .. }
            | Ast::Cast { expr: inner, .. }
            | Ast::Extract { expr: inner, .. }
            | Ast::InList { expr: inner, .. }
            | Ast::Between { expr: inner, .. }
            | Ast::Like { expr: inner, .. }
            | Ast::ILike { expr: inner, .. }
            | Ast::Trim { expr: inner, .. }
            | Ast::Substring { expr: inner, .. }
            | Ast::Position { expr: inner, .. }
            | Ast::SimilarTo { expr: inner, .. }
            | Ast::AtTimeZone { timestamp: inner, .. } => inner,
            Ast::Function(call) => break call.name.span(),
            Ast::Case { case_token, .. } => break case_token.0.span,
            Ast::Identifier(_) | Ast::CompoundIdentifier(_) | Ast::Value(_) | Ast::TypedString(_) => {
                break leftmost.span();
            }
            Ast::Interval(interval) => &interval.value,
            _ => return outer,
        };
    };
    pos_of(span.start).unwrap_or(outer)
}

fn pos_of(location: Location) -> Option<Pos> {
    (location.line > 0).then_some(Pos { line: location.line, column: location.column })
}

/// Drops white space. Refuses comments, tokens that the language does not use, and clauses that are
/// too long or too deep.
fn checked(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, CompileError> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut open: Vec<Pos> = Vec::new();
    let mut depth = Depth::default();
    let (mut lists, mut words) = (Lists::default(), 0);
    let mut tokens = tokens.into_iter().flat_map(apart).filter(|token| !is_blank(&token.token)).peekable();
    while let Some(token) = tokens.next() {
        let pos = pos_of(token.span.start).unwrap_or(Pos::START);
        if depth.after(&token.token) > NESTING_MAX {
            return Err(too_deep(pos));
        }
        if depth.operators > DEPTH_MAX {
            return Err(CompileError::new(code::TOO_DEEP, pos, format!("more than {DEPTH_MAX} operators in a row"))
                .suggest("Write it in fewer steps, or split the clause with segment('tag')"));
        }
        match &token.token {
            Token::LParen => open.push(pos),
            Token::RParen if open.pop().is_none() => {
                return Err(CompileError::new(code::SYNTAX, pos, "this ) closes nothing"));
            }
            // Before a text or a parenthesis a question mark is the operator of jsonb; elsewhere it
            // is a parameter.
            Token::Question
                if matches!(
                    tokens.peek().map(|next| &next.token),
                    Some(Token::SingleQuotedString(_) | Token::LParen)
                ) => {}
            other => refuse_token(other, pos)?,
        }
        match lists.after(&token.token) {
            Item::None => words += 1,
            Item::Constant => {}
            Item::TooMany(max) => return Err(too_many_constants(max, pos)),
        }
        if words > TOKENS_MAX {
            return Err(CompileError::new(code::TOO_LONG, pos, format!("the clause has more than {TOKENS_MAX} words"))
                .suggest("Split it into several segments and combine them with segment('tag')"));
        }
        kept.push(token);
    }
    match open.pop() {
        Some(pos) => Err(CompileError::new(code::SYNTAX, pos, "this ( is never closed")),
        None => Ok(kept),
    }
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::EOF | Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab))
}

/// Splits a sign from an arrow before it: the tokenizer takes `->-` and `->>-` as custom operators.
fn apart(token: TokenWithSpan) -> Vec<TokenWithSpan> {
    let arrow = match &token.token {
        Token::CustomBinaryOperator(operator) if operator == "->-" => Token::Arrow,
        Token::CustomBinaryOperator(operator) if operator == "->>-" => Token::LongArrow,
        _ => return vec![token],
    };
    let mut sign = token.span;
    sign.start.column = sign.end.column.saturating_sub(1);
    vec![TokenWithSpan { token: arrow, span: token.span }, TokenWithSpan { token: Token::Minus, span: sign }]
}

/// How deep the parser will recurse, and how high the tree will be. The parser recurses into
/// parentheses, `CASE`, signs and `NOT`, and each operator after the first adds a level to the
/// tree.
#[derive(Default)]
struct Depth {
    parentheses: usize,
    cases: usize,
    prefixes: usize,
    operators: usize,
}

impl Depth {
    fn after(&mut self, token: &Token) -> usize {
        self.prefixes = match token {
            Token::Plus | Token::Minus => self.prefixes + 1,
            Token::Word(word) if matches!(word.keyword, Keyword::NOT | Keyword::INTERVAL) => self.prefixes + 1,
            Token::LParen | Token::LBracket => self.prefixes,
            _ => 0,
        };
        self.operators = match token {
            Token::Comma | Token::LParen | Token::LBracket => 0,
            Token::Word(word) if matches!(word.keyword, Keyword::AND | Keyword::OR) => 0,
            Token::Word(word) if matches!(word.keyword, Keyword::AT | Keyword::IS | Keyword::IN) => self.operators + 1,
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket => {
                self.operators
            }
            _ => self.operators + 1,
        };
        match token {
            Token::LParen | Token::LBracket => self.parentheses += 1,
            Token::RParen | Token::RBracket => self.parentheses = self.parentheses.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::CASE => self.cases += 1,
            Token::Word(word) if word.keyword == Keyword::END => self.cases = self.cases.saturating_sub(1),
            _ => {}
        }
        self.parentheses + self.cases + self.prefixes
    }
}

fn too_deep(pos: Pos) -> CompileError {
    CompileError::new(code::TOO_DEEP, pos, format!("more than {NESTING_MAX} levels of nesting"))
        .suggest("Drop parentheses that are not needed, or split the clause with segment('tag')")
}

/// Refuses a token that no construct of the language uses, before parsing.
fn refuse_token(token: &Token, pos: Pos) -> Result<(), CompileError> {
    let (code, message, suggestion) = match token {
        Token::Whitespace(_) => (
            code::COMMENT,
            "comments are not kept with a segment".to_owned(),
            "Remove it; a segment has a title and a description for that",
        ),
        Token::SemiColon => {
            (code::SYNTAX, "a clause is one expression, without ;".to_owned(), "Remove everything from the ; on")
        }
        Token::Placeholder(_) | Token::Question | Token::Colon | Token::AtSign => {
            (code::PARAMETER, format!("{token}: a clause has no parameters"), "Write the value itself")
        }
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::SELECT | Keyword::EXISTS | Keyword::UNION | Keyword::TABLE => (
                code::SUBQUERY,
                format!("{}: a clause has no sub-selects and no tables", word.value),
                "Ask about the user's events with count(*) FILTER (WHERE …), about other segments with segment('tag')",
            ),
            _ => return Ok(()),
        },
        Token::Word(_)
        | Token::Number(_, false)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::RParen
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::LtEq
        | Token::Gt
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::DoubleColon
        | Token::StringConcat
        | Token::Arrow
        | Token::LongArrow
        | Token::QuestionPipe
        | Token::QuestionAnd
        | Token::AtArrow
        | Token::LBracket
        | Token::RBracket
        | Token::Tilde
        | Token::TildeAsterisk
        | Token::ExclamationMarkTilde
        | Token::ExclamationMarkTildeAsterisk => return Ok(()),
        Token::DoubleEq => (code::SYNTAX, "== is not SQL".to_owned(), "Write ="),
        Token::Overlap => (code::UNSUPPORTED, unknown(token), "Write AND"),
        Token::ExclamationMark => (code::UNSUPPORTED, unknown(token), "Write NOT, or <> between two values"),
        Token::Mod => (code::UNSUPPORTED, unknown(token), "There is no remainder"),
        Token::DoubleQuotedString(_) => (code::SYNTAX, unknown(token), "Put text in single quotes: 'text'"),
        Token::HashArrow | Token::HashLongArrow => {
            (code::UNSUPPORTED, unknown(token), "Step by step: payload->'a'->>'b'")
        }
        Token::DoubleTilde | Token::DoubleTildeAsterisk => (code::UNSUPPORTED, unknown(token), "Write LIKE or ILIKE"),
        _ => (code::UNSUPPORTED, unknown(token), "See the language reference for what a clause may contain"),
    };
    Err(CompileError::new(code, pos, message).suggest(suggestion))
}

fn unknown(token: &Token) -> String {
    format!("{token} is not part of the language")
}

fn hint_for_rest(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(_) => Some("Write a quote inside text twice: 'it''s'".to_owned()),
        Token::Word(word) => match word.keyword {
            Keyword::ORDER | Keyword::GROUP | Keyword::LIMIT | Keyword::HAVING | Keyword::FROM => {
                Some("Write only what comes after WHERE".to_owned())
            }
            _ => Some("Join conditions with AND or OR".to_owned()),
        },
        _ => None,
    }
}

/// Converts an error of the parser, which has the position at the end of its message.
fn parse_error(error: ParserError, text: &str) -> CompileError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_deep(Pos::START),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let (reason, pos) = match message.rsplit_once(" at Line: ") {
        Some((reason, place)) => (reason.to_owned(), parse_place(place).unwrap_or_else(|| end_of(text.trim_end()))),
        None => (message.clone(), end_of(text.trim_end())),
    };
    let reason = lower_first(&reason).replace("found: EOF", "found the end");
    CompileError::new(code::SYNTAX, pos, reason.replace("expected: ", "expected ").replace("found: ", "found "))
}

fn parse_place(place: &str) -> Option<Pos> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Pos { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn end_of(text: &str) -> Pos {
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    Pos { line: 1 + text.matches('\n').count() as u64, column: 1 + last_line.chars().count() as u64 }
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
