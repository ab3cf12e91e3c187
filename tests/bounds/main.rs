//! The table of bounds in docs/operations.md: each row has tests that drive it to its bound, the numbers that it names
//! are those of the sources, and each constant of the sources that bounds something has a row.
mod numbers;
#[path = "../sources/mod.rs"]
mod sources;

use sources::{root, rust_files};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Constants whose names sound like bounds and that bound nothing that grows, and why.
const NO_BOUNDS: &[(&str, &str)] = &[
    ("abi/presence/start.rs TIMEOUT_PERIOD", "how often a timer runs"),
    ("cluster/text64.rs LONGEST", "the digits of a number of 64 bits"),
    ("cluster/unsettled.rs FIRST_WAIT", "the least wait, which is in the row of the longest"),
    ("common/database.rs FIRST_WAIT", "the least wait, which is in the row of the tries"),
    ("common/ids.rs LONGEST_ID", "the room that an id of ours is given at first"),
    ("common/metrics/codes.rs TIMEOUT", "the place of a label"),
    ("host/dmq.rs LONGEST_URI", "room for what dmq writes: an address of an IP socket, at most 60 bytes"),
    ("presence/replication/stock_subscription.rs LONGEST", "tells a duration from a time"),
    ("server/tables/judgements.rs FIRST_WAIT", "the least wait, which is in the row of the longest"),
    ("server/notifications/outstanding.rs LONGEST_WAIT", "made of other constants, 100 ms in whole periods"),
    ("server/notifications/pacing.rs MOST_ANSWERS", "100 ms, in the answers that earn them"),
    ("sip/branch.rs LONGEST", "the length of a branch of ours"),
    ("sip/packed.rs LONGEST", "what the type of an end can count"),
    ("time/intervals.rs MAX", "the last moment that its type can hold"),
];

/// What rows.txt says of a row.
#[derive(Default)]
struct Bound {
    /// The first cell of the row, or how it begins.
    row: &'static str,
    /// The constants behind its numbers: the file below `src` and the name, with the unit of a plain number that is a
    /// time; and the number as the row writes it.
    constants: Vec<(&'static str, &'static str)>,
    /// The tests that drive it.
    tests: Vec<&'static str>,
    /// Why it has none.
    untested: &'static str,
}

/// The entries of rows.txt.
fn bounds() -> Vec<Bound> {
    let mut bounds: Vec<Bound> = Vec::new();
    for line in include_str!("rows.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(row) = line.strip_prefix("- ") {
            bounds.push(Bound { row, ..Bound::default() });
            continue;
        }
        let bound = bounds.last_mut().expect("a row comes first");
        let text = line.strip_prefix("  ").unwrap_or_else(|| panic!("{line}"));
        if let Some(constant) = text.strip_prefix("= ") {
            bound.constants.push(constant.split_once(": ").expect("a constant and its number"));
        } else if let Some(why) = text.strip_prefix("! ") {
            bound.untested = why;
        } else {
            bound.tests.push(text);
        }
    }
    bounds
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table in the documents: all cells of each.
fn rows() -> Vec<String> {
    let text = text_of(&root().join("docs/operations.md"));
    let section = text.split("\n## Bounds\n").nth(1).expect("the section").split("\n## ").next().unwrap_or_default();
    let rows: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| line.trim_start_matches("| ").to_string())
        .collect();
    assert!(rows.len() > 100, "only {}", rows.len());
    rows
}

/// The row that an entry means: there is one that begins so.
fn row_of<'r>(rows: &'r [String], bound: &Bound) -> Result<&'r String, String> {
    let is_meant = |row: &&String| match bound.row.strip_suffix("...") {
        Some(beginning) => row.starts_with(beginning),
        None => row.split(" | ").next() == Some(bound.row),
    };
    let found: Vec<&String> = rows.iter().filter(is_meant).collect();
    match found[..] {
        [row] => Ok(row),
        _ => Err(format!("{:?} stands for {} rows", bound.row, found.len())),
    }
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn each_row_has_tests_and_each_entry_a_row() {
    let rows = rows();
    let mut complaints = Vec::new();
    let mut entries: BTreeMap<&String, usize> = BTreeMap::new();
    let bounds = bounds();
    for bound in &bounds {
        match row_of(&rows, bound) {
            Ok(row) => *entries.entry(row).or_default() += 1,
            Err(why) => complaints.push(why),
        }
        if bound.tests.is_empty() == bound.untested.is_empty() {
            complaints.push(format!("{:?} has to name tests, or else why it has none", bound.row));
        }
    }
    complaints.extend(rows.iter().filter_map(|row| match entries.get(row).copied().unwrap_or_default() {
        1 => None,
        count => Some(format!("{count} entries for the row {row:?}")),
    }));
    assert_none(&complaints);
}

/// Whether a file has a test of this name: `name`, or `table::name` for a row of a table of tests.
fn has_test(file: &str, text: &str, name: &str) -> bool {
    if file.ends_with(".py") {
        return name.starts_with("test_") && text.contains(&format!("\ndef {name}("));
    }
    if let Some((table, row)) = name.split_once("::") {
        let rows = text.split(&format!("table! {{ {table}:")).nth(1).and_then(|rest| rest.split("\n}").next());
        return rows.is_some_and(|rows| rows.contains(&format!(" {row} =>")));
    }
    if text.contains(&format!("table! {{ {name}:")) {
        return true;
    }
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let attributes = before.rsplit('\n').skip(1).map(str::trim);
    attributes.take_while(|line| line.starts_with("#[") || line.starts_with("//")).any(|line| line == "#[test]")
}

#[test]
fn tests_that_are_named_exist() {
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut complaints = Vec::new();
    for test in bounds().iter().flat_map(|bound| &bound.tests) {
        let (file, name) = test.split_once("::").expect("file::test");
        let folder = if file.starts_with("test_") || file.starts_with("simulation/") { "tests" } else { "src" };
        let path = root().join(folder).join(file);
        let text = texts.entry(path).or_insert_with_key(|path| fs::read_to_string(path).unwrap_or_default());
        if !has_test(file, text, name) {
            complaints.push(format!("there is no test {test}"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn numbers_of_the_documents_are_those_of_the_sources() {
    let rows = rows();
    let mut complaints = Vec::new();
    for bound in &bounds() {
        let Ok(row) = row_of(&rows, bound) else { continue };
        for (constant, documented) in &bound.constants {
            let (file, name) = constant.split_once(' ').expect("file and name");
            let (name, unit) = name.split_once(' ').unwrap_or((name, ""));
            let text = text_of(&root().join("src").join(file));
            let (value, said) = (numbers::constant(&text, name, unit), numbers::documented(documented));
            if value != said || said.is_err() {
                complaints.push(format!("{constant} is {value:?}, and {documented:?} is {said:?}: {}", bound.row));
            }
            if !numbers::says(row, documented) {
                complaints.push(format!("{documented:?} is not in the row {row:?}"));
            }
        }
    }
    assert_none(&complaints);
}

/// The constants of the sources, without their tests, whose names say that they bound something: file and name.
fn bounding_constants() -> BTreeSet<String> {
    const WORDS: [&str; 17] = [
        "MOST", "MAX", "LONGEST", "LARGEST", "LIMIT", "TRIES", "KEPT", "KNOWN", "WINDOW", "BATCH", "PLACES", "TRIED",
        "TIMEOUT", "RESERVE", "BURST", "WAIT", "FULL",
    ];
    let files = rust_files();
    let mut found = BTreeSet::new();
    for path in files.iter().filter(|path| !path.components().any(|part| part.as_os_str() == "testing")) {
        let text = text_of(path);
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for rest in text.split("const ").skip(1) {
            let Some((name, rest)) = rest.split_once(": ") else { continue };
            let is_number = ["usize", "u8", "u16", "u32", "u64", "i32", "i64", "Seconds", "Millis", "Micros", "c_int"]
                .iter()
                .any(|kind| rest.starts_with(&format!("{kind} = ")));
            if is_number && name.split('_').any(|word| WORDS.contains(&word)) {
                let file = path.strip_prefix(root().join("src")).expect("a source").display();
                found.insert(format!("{file} {name}"));
            }
        }
    }
    assert!(found.len() > 100, "only {}", found.len());
    found
}

#[test]
fn each_constant_that_bounds_something_has_a_row() {
    let found = bounding_constants();
    let named: BTreeSet<String> = bounds()
        .iter()
        .flat_map(|bound| &bound.constants)
        .map(|(constant, _)| constant.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let none: BTreeSet<String> = NO_BOUNDS.iter().map(|(constant, _)| (*constant).to_string()).collect();
    let mut complaints: Vec<String> = found
        .difference(&named)
        .filter(|constant| !none.contains(*constant))
        .map(|constant| format!("src/{constant} has no row in docs/operations.md"))
        .collect();
    complaints.extend(none.difference(&found).map(|constant| format!("src/{constant} is not there any more")));
    complaints.extend(none.intersection(&named).map(|constant| format!("src/{constant} has a row")));
    let says_nothing = found.iter().filter(|constant| constant.ends_with(" MOST"));
    complaints.extend(says_nothing.map(|constant| format!("src/{constant} does not say of what")));
    assert_none(&complaints);
}
