//! The table of fault points in CONTRIBUTING.md: each guard that holds something others wait for is in it, each point
//! that it names is in the sources, and each point of the sources is named there.
mod sources;

use sources::{root, rust_files};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Guards that nobody outside of their own process can miss, and why.
const EXEMPT: [(&str, &str); 11] = [
    ("RefusalLog", "it writes a line of the log"),
    ("MemoryAgain", "it is part of the faults"),
    ("Speaker", "the name in log lines of this process; the next entry sets it anew"),
    ("SpareBlocks", "private memory that is used again"),
    ("PkgBlock", "private memory"),
    ("PkgStr", "private memory"),
    ("Routes", "private memory"),
    ("SqliteConnection", "a connection that lives as long as its process"),
    ("Link", "a connection that lives as long as its process"),
    ("AppendOnlyList", "it lives as long as the server"),
    ("HeldSignals", "signals wait while the main process forks, before there are requests"),
];

/// The sources without their tests.
fn sources() -> Vec<String> {
    let files = rust_files().into_iter().filter(|path| !path.ends_with("tests.rs")).collect::<Vec<_>>();
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a readable source");
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        text[..end].to_string()
    };
    files.iter().map(code).collect()
}

/// The rows of the table: the cells between the bars.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let section = text.split("## Fault points").nth(1).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

/// What stands in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_guard_is_in_the_table_or_needs_no_point() {
    let sources = sources();
    let guards: BTreeSet<&str> = sources
        .iter()
        .flat_map(|text| text.split("Drop for ").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next())
        .collect();
    assert!(guards.len() > 20, "only {guards:?}");
    let rows = rows();
    let named: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let exempt: BTreeSet<&str> = EXEMPT.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = guards.iter().filter(|guard| !named.contains(*guard) && !exempt.contains(*guard)).collect();
    assert!(missing.is_empty(), "guards without a row in CONTRIBUTING.md, \"Fault points\": {missing:?}");
    let gone: Vec<_> = named.union(&exempt).filter(|name| !guards.contains(*name)).collect();
    assert!(gone.is_empty(), "no guard has these names any more: {gone:?}");
    let twice: Vec<_> = named.intersection(&exempt).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_point_is_in_the_table_and_in_the_sources() {
    let sources = sources();
    let points: BTreeSet<String> = sources
        .iter()
        .flat_map(|text| text.split("fault_point!(").skip(1))
        .filter_map(|rest| rest.split('"').nth(1))
        .map(str::to_string)
        .collect();
    let rows = rows();
    let named: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row[2])).map(str::to_string).collect();
    let unnamed: Vec<_> = points.difference(&named).collect();
    assert!(unnamed.is_empty(), "points that the table does not name: {unnamed:?}");
    let gone: Vec<_> = named.difference(&points).filter(|name| !name.starts_with("lock-")).collect();
    assert!(gone.is_empty(), "points that are nowhere: {gone:?}");
    for row in &rows {
        for test in row[4].split(", ") {
            let file = test.split("::").next().unwrap_or_default();
            assert!(root().join("tests").join(file).exists(), "{row:?} names no test");
        }
    }
}
