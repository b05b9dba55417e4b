//! The named bounds of a where clause. They limit what compiling costs, and what a clause can keep
//! per user.

/// Characters of a clause: an `IN` may have 10,000 constants, each as long as a UUID.
pub(super) const LENGTH_MAX: usize = 524_288;
/// Tokens of a clause, without the constants of `IN` lists. This also bounds chains of AND and OR,
/// and so the height of the parse tree.
pub(super) const TOKENS_MAX: usize = 6_000;
/// Constants of one `IN`. They are found by binary search, and all partitions share them.
pub(super) const LIST_MAX: usize = 10_000;
/// Constants of all `IN` lists of a clause together.
pub(super) const LISTS_MAX: usize = 20_000;
/// Nested parentheses.
pub(super) const NESTING_MAX: usize = 24;
/// Height of an expression, and operators in a row. Chains of AND and OR are flat, and do not
/// count.
pub(super) const DEPTH_MAX: usize = 100;
/// Different aggregates of a clause, as written.
pub(super) const AGGREGATES_MAX: usize = 64;
/// Different aggregates of a plan, after those with conditions on the user are split.
pub(super) const PLAN_AGGREGATES_MAX: usize = 512;
/// Conditions on the user inside one aggregate: each triples the number of aggregates.
pub(super) const USER_TERMS_MAX: usize = 4;
/// Steps of a funnel: each is evaluated for every event, and is a bit of the mask that is kept of
/// the event.
pub(super) const FUNNEL_STEPS_MAX: usize = 16;
/// Patterns (`LIKE`, `~`) of a clause.
pub(super) const PATTERNS_MAX: usize = 50;
/// Characters of a pattern.
pub(super) const PATTERN_LENGTH_MAX: usize = 1_000;
/// Bytes of all different compiled patterns of a clause together.
/// [`PATTERN_PROGRAM_BYTES_MAX`](crate::plan::PATTERN_PROGRAM_BYTES_MAX) bounds a single one, but
/// fifty of that size in each of many segments would fill the memory.
pub(super) const PATTERNS_BYTES_MAX: usize = 4 << 20;
/// Errors repeat parts of a clause only up to this many characters, because printing a parse tree
/// recurses.
pub(super) const QUOTED_LENGTH_MAX: usize = 2_000;
/// Different segments that a clause may name.
pub(super) const SEGMENTS_MAX: usize = 32;
/// Levels of lists and objects in constant JSON: each nests the generated SQL deeper.
pub(super) const JSON_DEPTH_MAX: usize = 8;
