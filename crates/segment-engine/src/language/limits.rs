//! The named bounds of a where clause: they keep compiling, and every state a clause can ask for, small.

/// Characters of a clause: 10,000 constants of an `IN` may each be as long as a UUID.
pub const LENGTH_MAX: usize = 524_288;
/// Tokens of a clause, the constants of `IN` lists apart. Also bounds chains of AND and OR, and with them the height of the
/// parse tree.
pub const TOKENS_MAX: usize = 6_000;
/// Constants of one `IN`. They are searched by halves, and kept once for all partitions.
pub const LIST_MAX: usize = 10_000;
/// Constants in the `IN` lists of a clause together.
pub const LISTS_MAX: usize = 20_000;
/// Nested parentheses.
pub const NESTING_MAX: usize = 24;
/// Height of an expression, and operators in a row; chains of AND and OR are not counted, since they are made flat.
pub const DEPTH_MAX: usize = 100;
/// Different aggregates of a clause, as written.
pub const AGGREGATES_MAX: usize = 64;
/// Different aggregates of a plan, after those with user-scope terms have been split.
pub const LEAVES_MAX: usize = 512;
/// User-scope terms inside one aggregate: each triples its leaves.
pub const USER_TERMS_MAX: usize = 4;
/// Steps of a funnel: each is evaluated for every event, and is a bit of the mask that is kept of it.
pub const FUNNEL_STEPS_MAX: usize = 16;
/// Patterns (`LIKE`, `~`) of a clause.
pub const PATTERNS_MAX: usize = 50;
/// Characters of a pattern.
pub const PATTERN_LENGTH_MAX: usize = 1_000;
/// Bytes that the different patterns of a clause take together once compiled. A single one is bounded by
/// [`PATTERN_PROGRAM_BYTES_MAX`](crate::plan::PATTERN_PROGRAM_BYTES_MAX); fifty of that size in each of many segments would
/// fill the memory of the machine.
pub const PATTERNS_BYTES_MAX: usize = 4 << 20;
/// Characters of a clause up to which an error may repeat a part of it: printing a parse tree recurses.
pub const QUOTED_LENGTH_MAX: usize = 2_000;
/// Different segments a clause may name.
pub const SEGMENTS_MAX: usize = 32;
/// Levels of lists and objects in constant JSON: each makes the generated SQL deeper.
pub(super) const JSON_DEPTH_MAX: usize = 8;
