//! Finds the tokens that are constants of an `IN`. They are counted separately from the other
//! tokens of a clause, because they do not nest.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::error::{CompileError, Pos, code};
use super::limits::{LIST_MAX, LISTS_MAX};

/// The role of a token.
pub(super) enum Item {
    /// Any other token.
    None,
    /// A constant of a list, or the comma between two.
    Constant,
    /// The constant that exceeds this bound.
    TooMany(usize),
}

/// The state while going through the tokens.
#[derive(Default)]
pub(super) struct Lists {
    after_in: bool,
    depth: usize,
    /// The open lists: the depth of each, and how many constants it has so far.
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
        LIST_MAX => format!("an IN may have at most {LIST_MAX} constants"),
        _ => format!("the INs of a clause may have at most {LISTS_MAX} constants together"),
    };
    CompileError::new(code::TOO_LONG, pos, message).suggest(
        "Keep the users in a manual segment, or split the list into several segments, and write segment('tag')",
    )
}
