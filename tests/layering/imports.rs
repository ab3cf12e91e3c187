//! The modules of the crate, and what each imports.
use crate::functions::enclosed;
use crate::sources::{root, rust_files};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn src() -> PathBuf {
    root().join("src")
}

/// The path of the module in a file of `src` (`server::tables`).
pub(crate) fn module_at(path: &Path) -> String {
    let inside = path.strip_prefix(src()).expect("a file of src").with_extension("");
    inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("::")
}

/// Modules that are declared for tests alone, with `#[cfg(test)]`; those in their folders are, too.
pub(crate) fn modules_for_tests() -> ForTests {
    let mut found = BTreeSet::new();
    for file in rust_files() {
        let parent = module_at(&file);
        let text = fs::read_to_string(&file).expect("a readable source");
        let mut is_for_tests = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name);
            match name {
                Some(name) if is_for_tests && parent == "lib" => _ = found.insert(name.to_owned()),
                Some(name) if is_for_tests => _ = found.insert(format!("{parent}::{name}")),
                _ => {}
            }
            is_for_tests = line == "#[cfg(test)]" || is_for_tests && line.starts_with("#[");
        }
    }
    ForTests(found)
}

/// The modules that are declared for tests alone.
pub(crate) struct ForTests(BTreeSet<String>);

impl ForTests {
    /// Whether a module is one of them, or lies in the folder of one.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.0.iter().any(|found| is_in(module, found))
    }
}

/// Whether a module is this one, or lies in its folder.
pub(crate) fn is_in(module: &str, folder: &str) -> bool {
    module.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every module of the crate: its path (`server::tables`) and its text without comments and tests.
pub(crate) fn modules() -> BTreeMap<String, String> {
    modules_until(|text| text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()))
}

/// The same with their tests.
pub(crate) fn modules_with_tests() -> BTreeMap<String, String> {
    modules_until(str::len)
}

fn modules_until(end: impl Fn(&str) -> usize) -> BTreeMap<String, String> {
    let files = rust_files();
    let code = |path: &Path| {
        let text = fs::read_to_string(path).expect("a readable source");
        let end = end(&text);
        let without = |line: &str| line.split("//").next().unwrap_or_default().to_string();
        without_exports(&text[..end].lines().map(without).collect::<Vec<_>>().join("\n"))
    };
    files.iter().map(|path| (module_at(path), code(path))).collect()
}

/// A source without what it hands on of the modules in its folder: it shows them, and need not use them.
fn without_exports(code: &str) -> String {
    let mut parts = code.split_inclusive(';').collect::<Vec<_>>();
    let is_export = |part: &&str| {
        let statement = part.trim_start();
        let path =
            ["pub use ", "pub(crate) use ", "pub(super) use "].iter().find_map(|word| statement.strip_prefix(word));
        path.is_some_and(|path| !path.starts_with("crate::") && !path.starts_with("super::"))
    };
    parts.retain(|part| !is_export(part));
    parts.concat()
}

pub(crate) fn layer_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// A source without its macros: what they write belongs to the modules that use them.
pub(crate) fn without_macros(code: &str) -> String {
    let mut text = code.to_owned();
    while let Some(at) = text.find("macro_rules!") {
        let open = at + text[at..].find('{').expect("a macro has a body");
        let body = enclosed(&text[open..], '{', '}').len();
        text.replace_range(at..open + body, "");
    }
    text
}

/// Which module `path` (`server::tables::Tables`) names: the longest that exists.
fn target<'m>(modules: &'m BTreeMap<String, String>, path: &str) -> Option<&'m str> {
    let parts: Vec<&str> = path.split("::").collect();
    (1..=parts.len()).rev().find_map(|n| modules.get_key_value(&parts[..n].join("::"))).map(|(name, _)| name.as_str())
}

/// `a::{b, c::d}` as `a::b`, `a::c::d`.
fn flatten(tree: &str) -> Vec<String> {
    let Some(open) = tree.find('{') else { return vec![tree.split(" as ").next().unwrap_or(tree).trim().to_string()] };
    let close = tree.rfind('}').unwrap_or(tree.len());
    let (prefix, inner) = (&tree[..open], &tree[open + 1..close]);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(flatten).map(|path| format!("{prefix}{path}")).collect()
}

/// The trees of the `use` statements of a source.
fn uses(code: &str) -> Vec<&str> {
    let mut trees = Vec::new();
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let begin = ["use ", "pub use ", "pub(crate) use "].iter().find(|word| line.trim_start().starts_with(**word));
        if let Some(word) = begin {
            let rest = &code[at + indent + word.len()..];
            trees.push(rest.split(';').next().unwrap_or(rest));
        }
        at += line.len();
    }
    trees
}

/// The modules that each module names, by `use` or by a path in its code.
pub(crate) fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, code) in modules {
        let parent = module.rsplit_once("::").map(|(parent, _)| parent).unwrap_or_default();
        let absolute = |path: &str| {
            let path = path.split_whitespace().collect::<String>();
            if let Some(rest) = path.strip_prefix("crate::") {
                Some(rest.to_string())
            } else if let Some(rest) = path.strip_prefix("super::") {
                Some(format!("{parent}::{rest}").trim_start_matches("::").to_string())
            } else {
                let inside = format!("{module}::{}", path.strip_prefix("self::").unwrap_or(&path));
                target(modules, &inside).filter(|found| *found != module).map(str::to_string)
            }
        };
        let mut paths = Vec::new();
        paths.extend(uses(code).iter().flat_map(|tree| flatten(tree)));
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        paths.extend(code.split(|c| !is_path(c)).filter(|word| word.contains("::")).map(str::to_string));
        let named = paths.iter().filter_map(|path| absolute(path)).filter_map(|path| target(modules, &path));
        arrows.entry(module).or_default().extend(named.filter(|other| *other != module));
    }
    arrows
}

/// A circle through `start`, if there is one.
pub(crate) fn circle<'m>(arrows: &BTreeMap<&'m str, BTreeSet<&'m str>>, start: &'m str) -> Option<Vec<&'m str>> {
    let mut paths = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        for next in arrows.get(path[path.len() - 1]).into_iter().flatten() {
            if *next == start {
                return Some(path);
            }
            if seen.insert(*next) {
                paths.push(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}
