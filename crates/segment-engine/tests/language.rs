//! The language in tables: what clauses become, and which ones are refused, where and why.
//!
//! Cases are separated by empty lines: the clause, then what is expected. `UPDATE_EXPECT=1 cargo
//! test` writes what the compiler returns now, for review in the diff.
#![expect(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the tables are files")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use segment_engine::language::{CompileError, Names, compile, compile_saved, print_aggregate};
use segment_engine::plan::{Expr, Plan};

#[test]
fn accepted_clauses_have_one_spelling() {
    check("accepted.txt", |clause| match compile(clause) {
        Ok(plan) => described(&plan),
        Err(error) => format!("=> REFUSED {error}\n"),
    });
}

#[test]
fn refused_clauses_say_where_and_why() {
    check("refused.txt", |clause| match compile(clause) {
        Ok(plan) => format!("=> ACCEPTED {}\n", plan.normal_form),
        Err(error) => refusal(&error),
    });
}

/// Otherwise it would be refused only where the clause's record is read, after the clause was
/// saved.
#[test]
fn the_character_nul_is_refused_anywhere() {
    for (clause, place) in [
        ("region = 'a\0b'", (1, 12)),
        ("region = 'a'\n  AND payload->>'\0' = 'b'", (2, 18)),
        ("region = 'ä' \0", (1, 14)),
        ("\0", (1, 1)),
    ] {
        let error = compile(clause).unwrap_err();
        assert_eq!((error.code, (error.line, error.column)), ("WHERE_SYNTAX", place), "{clause:?}");
        assert!(error.message.contains("NUL"), "{error}");
    }
}

/// A segment that an earlier build saved goes on with the zone it had. Other abbreviations are
/// refused as before.
#[test]
fn a_saved_clause_may_name_a_zone_by_its_abbreviation() {
    for zone in ["CET", "EET", "MET", "WET", "EST", "MST", "HST"] {
        let clause = format!("(created_at AT TIME ZONE '{zone}')::date = DATE '2026-12-24'");
        assert_eq!(compile(&clause).unwrap_err().code, "WHERE_BAD_LITERAL", "{zone}");
        let plan = compile_saved(&clause).unwrap();
        assert!(plan.normal_form.contains(&format!("AT TIME ZONE '{zone}'")), "{}", plan.normal_form);
    }
    for zone in ["Europe/Paris", "UTC", "EST5EDT", "Etc/GMT+5", "GMT"] {
        let clause = format!("(created_at AT TIME ZONE '{zone}')::date = DATE '2026-12-24'");
        assert_eq!(compile_saved(&clause).unwrap(), compile(&clause).unwrap());
    }
    let clause = "created_at AT TIME ZONE 'PST' = '2026-01-01'";
    assert_eq!(compile_saved(clause).unwrap_err().to_string(), compile(clause).unwrap_err().to_string());
}

#[test]
fn the_normal_form_compiles_to_the_same_plan() {
    for case in cases("accepted.txt") {
        let plan = compile(&case.clause).unwrap();
        let again = compile(&plan.normal_form).unwrap_or_else(|error| panic!("{}: {error}", plan.normal_form));
        assert_eq!(again, plan, "{}", case.clause);
    }
}

#[test]
fn clauses_that_differ_only_in_form_have_equal_plans() {
    for case in cases("equal.txt") {
        let mut spellings = case.clause.lines();
        let first = spellings.next().unwrap();
        let plan = compile(first).unwrap_or_else(|error| panic!("{first}: {error}"));
        for other in spellings {
            let same = compile(other).unwrap_or_else(|error| panic!("{other}: {error}"));
            assert_eq!(same, plan, "{first}\n{other}");
        }
    }
}

#[test]
fn an_empty_clause_selects_every_known_user() {
    for clause in ["", "  \n\t ", "TRUE"] {
        let plan = compile(clause).unwrap();
        assert_eq!(plan, compile("1 = 1").unwrap());
        assert_eq!(plan.normal_form, "TRUE");
    }
}

#[test]
fn every_example_of_the_reference_compiles() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/language.md");
    let text = std::fs::read_to_string(page).unwrap();
    let examples: Vec<&str> = text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 20, "only {} examples found", examples.len());
    for example in examples {
        let plan = compile(strip_comments(example).trim()).unwrap_or_else(|error| panic!("{example}\n{error}"));
        assert_eq!(compile(&plan.normal_form).unwrap(), plan, "{example}");
    }
}

fn in_list(x: &str, count: usize) -> String {
    format!("{x} IN ({})", (0..count).map(|number| format!("'k-{number}'")).collect::<Vec<_>>().join(", "))
}

/// Checks that were added after a segment was saved must not stop the partitions that have it.
#[test]
fn a_saved_clause_goes_on() {
    for (clause, same) in [
        ("country = 'DE' OR 'NO'", "country = 'DE'"),
        ("activity_type = 'x' OR 'Y'", "count(*) > 0"),
        ("country = 'DE' OR 'AT'", ""),
    ] {
        assert_eq!(compile(clause).unwrap_err().code, "WHERE_NOT_BOOLEAN", "{clause}");
        match same {
            "" => assert_eq!(compile_saved(clause).unwrap_err().code, "WHERE_BAD_LITERAL", "{clause}"),
            same => assert_eq!(compile_saved(clause).unwrap(), compile(same).unwrap(), "{clause}"),
        }
    }
    let patterns = (5..20).map(|count| format!(r"url ~ '\w{{{count}}}'")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(compile(&patterns).unwrap_err().code, "WHERE_TOO_MANY_PATTERNS");
    assert!(compile_saved(&patterns).is_ok());
}

/// A long list costs no more than its length: copies share it, and it is searched by an index.
#[test]
fn copies_share_a_long_list_and_its_constants_are_found() {
    let plan = compile(&in_list("region", 10_000)).unwrap();
    let list = |plan: &Plan| {
        let mut found = None;
        plan.aggregates[0].filter.as_ref().unwrap().walk(&mut |node| {
            if let Expr::InList(_, list) = node {
                found = Some(list.clone());
            }
        });
        found.unwrap()
    };
    assert_eq!(list(&plan).as_ptr(), list(&plan.clone()).as_ptr());
    assert_eq!(list(&plan).holds_text("k-7777"), Some(true));
    assert_eq!(list(&plan).holds_text("k-10000"), Some(false));
    assert_eq!(compile(&plan.normal_form).unwrap(), plan);
}

#[test]
fn bounds_are_errors_and_never_a_stack_overflow() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1 = 1{}", open.repeat(n), close.repeat(n));
    let cases = [
        (nested("(", ")", 3_000), "WHERE_TOO_DEEP"),
        (nested("NOT ", "", 3_000), "WHERE_TOO_DEEP"),
        (format!("{}1 = 1", "- ".repeat(2_000)), "WHERE_TOO_DEEP"),
        (format!("1{} = 1", " + 1".repeat(2_500)), "WHERE_TOO_DEEP"),
        (format!("region{} = ''", "::text".repeat(2_500)), "WHERE_TOO_DEEP"),
        (format!("payload{}->>'a' = ''", "->'a'".repeat(2_500)), "WHERE_TOO_DEEP"),
        (format!("region = '{}'", "x".repeat(600_000)), "WHERE_TOO_LONG"),
        (vec!["region = 'x'"; 2_500].join(" OR "), "WHERE_TOO_LONG"),
        (vec!["region = 'x'"; 1_200].join(" OR "), ""),
        (nested("NOT 1 = 1 + 2 * -(", ")", 1_000), "WHERE_TOO_DEEP"),
        (nested("(", ")", 24), ""),
        (nested("CASE WHEN TRUE THEN ", " ELSE TRUE END", 500), "WHERE_TOO_DEEP"),
        (in_list("region", 10_000), ""),
        (in_list("region", 10_001), "WHERE_TOO_LONG"),
        (format!("{} OR {}", in_list("region", 10_000), in_list("url", 10_000)), ""),
        (format!("{} OR {} OR id IN ('1')", in_list("region", 10_000), in_list("url", 10_000)), "WHERE_TOO_LONG"),
        (format!("order_total IN ({})", (0..10_000).map(|i| format!("-{i}.5")).collect::<Vec<_>>().join(",")), ""),
        (format!("region IN ({})", vec!["upper('x')"; 2_500].join(", ")), "WHERE_TOO_LONG"),
        (format!("TRUE IN ({})", vec!["TRUE OR TRUE"; 3_000].join(" OR ")), "WHERE_TOO_LONG"),
        (format!("region = {} 'x'", "'x' || ".repeat(99)), "WHERE_TOO_DEEP"),
        (format!("region = {} 'x'", "'x' || ".repeat(98)), ""),
        (
            (0..100).map(|i| format!("count(*) FILTER (WHERE url = '{i}') > 0")).collect::<Vec<_>>().join(" AND "),
            "WHERE_TOO_MANY_AGGREGATES",
        ),
        ((0..60).map(|i| format!("url ~ '{i}'")).collect::<Vec<_>>().join(" AND "), "WHERE_TOO_MANY_PATTERNS"),
        (format!("url ~ '{}'", "a".repeat(1_001)), "WHERE_BAD_PATTERN"),
        (format!("funnel(INTERVAL '1 day'{}) > 0", ", region = 'x'".repeat(16)), ""),
        (format!("funnel(INTERVAL '1 day'{}) > 0", ", region = 'x'".repeat(17)), "WHERE_TOO_MANY_STEPS"),
        (format!("funnel(INTERVAL '1 day', {}, url = '/') > 0", ["segment('a') OR url = '/'"; 5].join(", ")), ""),
        (
            format!(
                "funnel(INTERVAL '1 day', {}) > 0",
                (0..5).map(|i| format!("segment('{i}')")).collect::<Vec<_>>().join(", ")
            ),
            "WHERE_TOO_MANY_USER_TERMS",
        ),
    ];
    for (clause, code) in cases {
        let got = compile(&clause).map_or_else(|error| error.code, |_| "");
        assert_eq!(got, code, "{}…", &clause[..60]);
    }
}

proptest! {
    /// The compiler returns for any text, and it can print and read again what it accepts.
    #[test]
    fn any_mixture_of_words_is_accepted_or_refused(words in proptest::collection::vec(0..WORDS.len(), 0..14)) {
        let clause: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        let clause = clause.join(" ");
        match compile(&clause) {
            Ok(plan) => prop_assert_eq!(compile(&plan.normal_form).map_err(|error| error.to_string()), Ok(plan)),
            Err(error) => {
                prop_assert!(error.code.starts_with("WHERE_"));
                prop_assert!(error.line >= 1 && error.column >= 1);
            }
        }
    }
}

const WORDS: &[&str] = &[
    "region",
    "=",
    "'x'",
    "AND",
    "OR",
    "NOT",
    "(",
    ")",
    "count(*)",
    ">",
    "3",
    "FILTER",
    "(WHERE",
    "created_at",
    ">=",
    "now()",
    "-",
    "INTERVAL '7 days'",
    "payload->>'a'",
    "IS NULL",
    "traits->>'plan'",
    "::int",
    "IN",
    ",",
    "BETWEEN",
    "sum(order_total)",
    "funnel(INTERVAL '1 day',",
    "+",
    "*",
    "/",
    "1.5",
    "NULL",
    "TRUE",
    "CASE WHEN",
    "THEN",
    "ELSE",
    "END",
    "coalesce(",
    "segment('a')",
    "users.created_at",
    "max(created_at)",
    "date_trunc('day', now())",
    "LIKE",
    "~",
    "::date",
    "lower(",
    "extract(dow FROM now())",
    "AT TIME ZONE 'Europe/Berlin'",
    "IS NOT DISTINCT FROM",
    "IS TRUE",
    "<",
    "||",
    "trim(",
    "ESCAPE '!'",
    "to_timestamp(",
    "split_part(",
    "order_total",
];

struct Case {
    comment: String,
    clause: String,
    expected: String,
}

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/language").join(name)
}

fn cases(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(table(name)).unwrap();
    let cases: Vec<Case> = text.trim().split("\n\n").map(read_case).collect();
    assert!(!cases.is_empty());
    cases
}

fn read_case(block: &str) -> Case {
    let mut case = Case { comment: String::new(), clause: String::new(), expected: String::new() };
    for line in block.lines() {
        let part = match line {
            _ if !case.expected.is_empty() || line.starts_with("=>") => &mut case.expected,
            _ if line.starts_with('#') => &mut case.comment,
            _ => &mut case.clause,
        };
        part.push_str(line);
        part.push('\n');
    }
    case.clause.truncate(case.clause.trim_end().len());
    case
}

fn check(name: &str, actual: impl Fn(&str) -> String) {
    let cases = cases(name);
    let found: Vec<String> = cases.iter().map(|case| actual(&case.clause)).collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let blocks = cases.iter().zip(&found);
        let blocks: Vec<String> =
            blocks.map(|(case, found)| format!("{}{}\n{found}", case.comment, case.clause)).collect();
        std::fs::write(table(name), blocks.join("\n")).unwrap();
    }
    for (case, found) in cases.iter().zip(&found) {
        assert_eq!(found, &case.expected, "{}", case.clause);
    }
}

/// Returns the normal form, and the aggregates if conditions on the user were taken out of them.
fn described(plan: &Plan) -> String {
    let mut text = format!("=> {}\n", plan.normal_form);
    if plan.formula.any(&|part| matches!(part, Expr::AggregateBy { .. })) {
        let names = Names { aggregates: &plan.aggregates, segments: &plan.segments };
        for aggregate in &plan.aggregates {
            writeln!(text, "   {}", print_aggregate(aggregate, &names)).unwrap();
        }
    }
    text
}

fn refusal(error: &CompileError) -> String {
    let mut text = format!("=> {} {}:{} {}\n", error.code, error.line, error.column, error.message);
    if let Some(suggestion) = &error.suggestion {
        writeln!(text, "   {suggestion}").unwrap();
    }
    text
}

fn strip_comments(example: &str) -> String {
    let lines = example.lines().filter(|line| !line.trim_start().starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}
