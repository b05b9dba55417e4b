//! Which tokens are the constants of an `IN`: they are counted apart from the words of a clause, since they make it no
//! deeper and are not resolved against each other.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::error::{CompileError, Pos, code};
use super::limits::{LIST_MAX, LISTS_MAX};

/// What a token is.
pub(super) enum Item {
    /// A word like any other.
    None,
    /// A constant of a list, or what stands between two.
    Constant,
    /// The constant that goes beyond this bound.
    TooMany(usize),
}

/// Where in lists the tokens are.
#[derive(Default)]
pub(super) struct Lists {
    after_in: bool,
    depth: usize,
    /// The lists that are open: their depth, and how many constants they have so far.
    open: Vec<(usize, usize)>,
    all: usize,
}

impl Lists {
    /// Takes the next token.
    pub(super) fn after(&mut self, token: &Token) -> Item {
        let after_in = std::mem::replace(&mut self.after_in, false);
        match token {
            Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::IN => self.after_in = true,
            Token::LParen => {
                self.depth += 1;
                if after_in {
                    self.open.push((self.depth, 1));
                    self.all += 1;
                    if self.all > LISTS_MAX {
                        return Item::TooMany(LISTS_MAX);
                    }
                }
            }
            Token::RParen => {
                self.open.pop_if(|(depth, _)| *depth == self.depth);
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        let Some((_, count)) = self.open.last_mut().filter(|(depth, _)| *depth == self.depth) else {
            return Item::None;
        };
        match token {
            Token::Comma => {
                *count += 1;
                self.all += 1;
                match (*count > LIST_MAX, self.all > LISTS_MAX) {
                    (true, _) => Item::TooMany(LIST_MAX),
                    (_, true) => Item::TooMany(LISTS_MAX),
                    _ => Item::Constant,
                }
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Minus => Item::Constant,
            Token::Word(word) if matches!(word.keyword, Keyword::DATE | Keyword::TIMESTAMP | Keyword::TIMESTAMPTZ) => {
                Item::Constant
            }
            _ => Item::None,
        }
    }
}

pub(super) fn too_many_constants(max: usize, pos: Pos) -> CompileError {
    let message = match max {
        LIST_MAX => format!("an IN may have {LIST_MAX} constants at most"),
        _ => format!("the INs of a clause may have {LISTS_MAX} constants at most"),
    };
    CompileError::new(code::TOO_LONG, pos, message).suggest(
        "Keep the users as a manual segment, or split the list into several segments, and ask with segment('tag')",
    )
}
