//! The rules of this repository that no compiler checks. A rule that fails says what to do; there is no list of exceptions.
#![expect(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ports::ErrorCode;
use serde_json::Value;

/// `.rs` files: one idea each.
const FILE_LINES_MAX: usize = 500;
/// From the line of `fn` to its closing brace: a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// `ARCHITECTURE.md` is read in one sitting; its lines have 100 columns.
const ARCHITECTURE_LINES_MAX: usize = 280;

/// Which of our crates each may depend on, tests included. ARCHITECTURE.md gives the reasons.
const EDGES: [(&str, &[&str]); 11] = [
    ("segment-engine", &[]),
    ("ports", &["segment-engine"]),
    ("ports-testkit", &["ports", "segment-engine"]),
    ("adapters", &["ports", "ports-testkit", "segment-engine"]),
    ("uss-http", &["ports", "segment-engine"]),
    ("ingestion-api", &["ports", "ports-testkit", "segment-engine", "uss-http"]),
    ("configuration-api", &["ports", "ports-testkit", "segment-engine", "uss-http"]),
    ("segment-users", &["ports", "ports-testkit", "segment-engine"]),
    ("bench", &["segment-engine"]),
    ("fuzz", &["ingestion-api", "ports", "ports-testkit", "segment-engine", "uss", "uss-http"]),
    (
        "uss",
        &[
            "adapters",
            "configuration-api",
            "ingestion-api",
            "ports",
            "ports-testkit",
            "segment-engine",
            "segment-users",
            "uss-http",
        ],
    ),
];

/// Everything the engine is built of. Each is pure and synchronous as it is used here; think before you add one.
const ENGINE_IS_BUILT_OF: [&str; 13] = [
    "ethnum",
    "jiff",
    "md-5",
    "postcard",
    "regex-automata",
    "regex-syntax",
    "rustc-hash",
    "serde",
    "serde_json",
    "sqlparser",
    "strsim",
    "thin-vec",
    "thiserror",
];

/// Libraries that only the crates named may see: a backend has one adapter, and HTTP one edge.
const HELD: [(&str, &[&str]); 10] = [
    ("axum", &["configuration-api", "fuzz", "ingestion-api", "uss", "uss-http"]),
    ("tower-http", &["configuration-api", "ingestion-api", "uss-http"]),
    ("fjall", &["adapters"]),
    // `uss import` reads Parquet with it, and the bench compares with it; no service sees it.
    ("duckdb", &["adapters", "bench", "uss"]),
    ("libsqlite3-sys", &["adapters"]),
    ("sea-orm", &["adapters"]),
    ("sea-orm-migration", &["adapters"]),
    ("reqwest", &["adapters", "bench", "uss"]),
    ("clap", &["uss"]),
    ("figment", &["uss"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Fails with all that was found, since one is seldom alone.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

struct Dependency {
    from: String,
    to: String,
    /// Only for tests and examples.
    dev: bool,
}

fn dependencies() -> (BTreeSet<String>, Vec<Dependency>) {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect();
    let all = packages.iter().flat_map(|package| {
        package["dependencies"].as_array().unwrap().iter().map(|dependency| Dependency {
            from: package["name"].as_str().unwrap().to_owned(),
            to: dependency["name"].as_str().unwrap().to_owned(),
            dev: dependency["kind"] == "dev",
        })
    });
    (ours, all.collect())
}

#[test]
fn our_crates_depend_inwards_only() {
    let (ours, dependencies) = dependencies();
    let edges: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut found: Vec<String> = ours
        .iter()
        .filter(|name| !edges.contains_key(name.as_str()))
        .map(|name| format!("the crate {name} is new: say in EDGES and in ARCHITECTURE.md what it may depend on"))
        .collect();
    for Dependency { from, to, .. } in dependencies.iter().filter(|dependency| ours.contains(&dependency.to)) {
        if edges.get(from.as_str()).is_some_and(|allowed| !allowed.contains(&to.as_str())) {
            found.push(format!("{from} must not depend on {to}: see the map in ARCHITECTURE.md"));
        }
    }
    let shipped = dependencies.iter().filter(|dependency| dependency.to == "ports-testkit" && !dependency.dev);
    // All of `fuzz` is for tests.
    let shipped = shipped.filter(|dependency| dependency.from != "fuzz");
    found
        .extend(shipped.map(|Dependency { from, .. }| format!("{from}: ports-testkit is for tests: a dev-dependency")));
    none(found);
}

#[test]
fn the_engine_stays_pure_and_backends_stay_in_their_adapters() {
    let (ours, dependencies) = dependencies();
    let mut found = Vec::new();
    for Dependency { from, to, dev } in dependencies.iter().filter(|dependency| !ours.contains(&dependency.to)) {
        if from == "segment-engine" && !dev && !ENGINE_IS_BUILT_OF.contains(&to.as_str()) {
            found.push(format!(
                "segment-engine must not depend on {to}: it has no I/O, clock, chance, threads or async"
            ));
        }
        if let Some((_, holders)) = HELD.iter().find(|(held, _)| held == to)
            && !holders.contains(&from.as_str())
        {
            found.push(format!("{from} must not depend on {to}: only {} may", holders.join(", ")));
        }
    }
    none(found);
}

/// Files with this ending below a folder of the repository; nothing that is built, fetched or hidden.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn rust_files() -> impl Iterator<Item = PathBuf> {
    ["crates", "bench", "fuzz"].into_iter().flat_map(|folder| files(folder, "rs"))
}

#[test]
fn files_hold_one_idea() {
    let long = rust_files().filter_map(|path| {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}: split it", shown(&path)))
    });
    none(long.collect());
}

#[test]
fn functions_fit_a_screen() {
    let mut found = Vec::new();
    for path in rust_files().filter(|path| !is_test_file(path)) {
        for (line, name, lines) in functions(&fs::read_to_string(&path).unwrap()) {
            if lines > FUNCTION_LINES_MAX {
                let (place, most) = (shown(&path), FUNCTION_LINES_MAX);
                found.push(format!("{place}:{line}: fn {name} has {lines} lines, at most {most}: split it"));
            }
        }
    }
    none(found);
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The functions of a file that rustfmt has formatted: where each starts, its name, and how many lines it has. A function ends
/// at the first closing brace with its own indent. Modules under `#[cfg(test)]` are left out.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let closing = |from: usize| {
        let end = format!("{}}}", " ".repeat(indent(lines[from])));
        (from..lines.len()).find(|at| lines[*at] == end).unwrap_or(from)
    };
    let mut functions = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        if line == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|next| next.ends_with('{')) {
            at = closing(at + 1);
        } else if let Some(name) = function_name(line)
            && !line.ends_with('}')
            && !is_declaration(&lines[at..])
        {
            functions.push((at + 1, name.to_owned(), closing(at) - at + 1));
        }
        at += 1;
    }
    functions
}

fn function_name(line: &str) -> Option<&str> {
    const BEFORE: [&str; 7] = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "default"];
    let mut words = line.split(' ');
    let is_function = words.find(|word| !BEFORE.contains(word)) == Some("fn");
    words.next().filter(|_| is_function)?.split(['(', '<']).next()
}

/// A method without a body: its signature ends with a semicolon before any brace opens a body.
fn is_declaration(lines: &[&str]) -> bool {
    let end = lines.iter().find(|line| line.ends_with('{') || line.ends_with(';'));
    end.is_some_and(|line| line.ends_with(';'))
}

#[test]
fn the_measure_of_functions_measures() {
    let text = "\
impl A {
    fn one(&self);

    pub(crate) async fn two<T>(
        a: T,
    ) -> B {
        if a {
        }
    }
}

#[cfg(test)]
mod tests {
    fn three() {
    }
}

const fn four() {}
fn five() {
}
";
    assert_eq!(functions(text), [(4, "two".to_owned(), 6), (19, "five".to_owned(), 2)]);
}

fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let top = top.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    top.chain(files("docs", "md")).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut found = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let gone_paths = quoted_paths(&text).into_iter().filter(|path| !root().join(path).exists());
        let gone_links = links(&text).into_iter().filter(|link| !folder.join(link).exists());
        for gone in gone_paths.chain(gone_links) {
            found.push(format!("{}: {gone} does not exist (any more): correct it", shown(&document)));
        }
    }
    none(found);
}

#[test]
fn files_named_in_module_comments_exist() {
    let mut found = Vec::new();
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let comment: String =
            text.lines().filter_map(|line| line.strip_prefix("//!")).map(|line| format!("{line}\n")).collect();
        let folder = file.parent().unwrap();
        let src = file.ancestors().find(|above| above.join("Cargo.toml").exists()).unwrap().join("src");
        let bases = [&root(), &root().join("crates"), folder, src.parent().unwrap(), &src];
        let exists = |path: &str| bases.iter().any(|base| base.join(path).exists());
        for gone in quoted_files(&comment).into_iter().filter(|path| !exists(path)) {
            found.push(format!("{}: {gone} does not exist (any more): correct it", shown(&file)));
        }
        for gone in links(&comment).into_iter().filter(|link| link.contains('.') && !folder.join(link).exists()) {
            found.push(format!("{}: the link to {gone} leads nowhere", shown(&file)));
        }
    }
    none(found);
}

/// Backticked names of source files, scripts and documents, without those that have a placeholder.
fn quoted_files(text: &str) -> Vec<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    let files = spans.filter(|span| [".rs", ".md", ".sh", ".toml"].iter().any(|ending| span.ends_with(ending)));
    files.filter(|span| !["NAME", "*", " "].iter().any(|mark| span.contains(mark))).collect()
}

/// Backticked paths into the repository. One with a placeholder (`NAME`, `NNNN`, `*`) names no one file.
fn quoted_paths(text: &str) -> Vec<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    let paths = spans
        .filter(|span| ["crates/", "docs/", "scripts/", "bench/", "fuzz/"].iter().any(|top| span.starts_with(top)));
    let paths = paths.filter(|span| !["NAME", "NNNN", "*", " ", "\n"].iter().any(|mark| span.contains(mark)));
    paths.map(|span| span.split(':').next().unwrap_or(span)).collect()
}

/// Links to files, relative to the document.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.contains('\n'));
    files.map(|target| target.split('#').next().unwrap_or(target)).collect()
}

#[test]
fn the_architecture_is_read_in_one_sitting_and_names_every_crate() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md has {lines} lines, at most {ARCHITECTURE_LINES_MAX}");
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        let name = folder.unwrap().file_name().to_string_lossy().into_owned();
        assert!(text.contains(&format!("`crates/{name}`")), "ARCHITECTURE.md: the map lacks crates/{name}");
    }
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let reference = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split(['`', '{']).next()).collect();
    let texts: Vec<String> = rust_files()
        .filter(|path| !is_test_file(path) && path.components().any(|part| part.as_os_str() == "src"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut emitted = BTreeSet::new();
    for text in &texts {
        for call in ["counter!(", "gauge!(", "histogram!("] {
            // The first text of the call, after a target if it has one.
            let texts = text.split(call).skip(1).map(|rest| rest.split('"').skip(1).step_by(2));
            emitted.extend(texts.filter_map(|mut texts| texts.find(|text| text.starts_with("uss_"))));
        }
    }
    assert_eq!(documented, emitted, "left: docs/reference/metrics.md, right: the code");
}

/// Codes stand in backticks. One of a single word (`INTERNAL`) cannot be told from other words, so it is only looked for.
#[test]
fn every_error_code_is_documented_and_every_documented_code_exists() {
    let reference = fs::read_to_string(root().join("docs/reference/http-api.md")).unwrap();
    let is_code = |span: &str| {
        span.contains('_') && !span.starts_with("USS_") && span.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let spans: BTreeSet<&str> = reference.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
    let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    let lacks = codes.difference(&spans).map(|code| format!("docs/reference/http-api.md lacks {code}"));
    let unknown = spans.difference(&codes).filter(|span| is_code(span));
    let unknown = unknown.map(|span| format!("docs/reference/http-api.md names {span}, which is not an ErrorCode"));
    none(lacks.chain(unknown).collect());
}

/// A code is named by its constant, so that no spelling is invented beside `ErrorCode`.
#[test]
fn services_name_error_codes_by_their_constants() {
    const SERVICES: [&str; 6] = ["ports", "adapters", "http", "ingestion-api", "configuration-api", "segment-users"];
    let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    let mut found = Vec::new();
    for path in SERVICES.iter().flat_map(|name| files(&format!("crates/{name}/src"), "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_exempt = is_test_file(&path) || path.ends_with("error_code.rs");
        for literal in code.split('"').skip(1).filter(|literal| !is_exempt && codes.contains(literal)) {
            found.push(format!("{}: \"{literal}\": use ErrorCode", shown(&path)));
        }
    }
    none(found);
}

#[test]
fn every_setting_is_documented() {
    let reference = fs::read_to_string(root().join("docs/reference/settings.md")).unwrap();
    let defaults = fs::read_to_string(root().join("crates/uss/defaults.toml")).unwrap();
    let settings = defaults.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let missing = settings.filter(|(name, _)| !reference.contains(&format!("| `{name}` |")));
    none(missing.map(|(name, _)| format!("docs/reference/settings.md lacks {name}")).collect());
}

#[test]
fn every_route_is_documented() {
    let reference = fs::read_to_string(root().join("docs/reference/http-api.md")).unwrap();
    let mut missing = Vec::new();
    for path in rust_files().filter(|path| !is_test_file(path)) {
        let text = fs::read_to_string(&path).unwrap();
        let routes = text.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        for route in routes.filter_map(|rest| rest.split('"').next()) {
            if !reference.contains(&format!("{route}`")) {
                missing.push(format!("docs/reference/http-api.md lacks {route}"));
            }
        }
    }
    none(missing);
}
