//! The house: which layer may use which, no circle of imports among modules, and where unsafe code may stand. This test
//! reads the sources.
mod sources;

use sources::{root, rust_files};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A layer, the layers it may use, and words it must not contain.
struct Layer {
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
}

const PURE: &[&str] = &["unsafe ", "libc::", "SystemTime", "Instant::now"];

/// Modules at the root that every layer may use: macros, guards, and kinds of time.
const ROOT: [&str; 6] = ["lib", "caught", "fault_point", "scoped_value", "shm_safe", "time"];

/// Lowest first.
const LAYERS: [Layer; 11] = [
    Layer { name: "sys", uses: &[], never: &[] },
    Layer { name: "reference", uses: &[], never: PURE },
    Layer { name: "sip", uses: &[], never: PURE },
    Layer { name: "cluster", uses: &[], never: PURE },
    Layer { name: "presence", uses: &["reference", "sip", "cluster"], never: PURE },
    Layer { name: "pua", uses: &["reference", "sip"], never: PURE },
    Layer { name: "host", uses: &["sys", "reference"], never: &[] },
    Layer { name: "common", uses: &["reference", "sip", "presence", "host"], never: &[] },
    Layer { name: "server", uses: &["reference", "sip", "cluster", "presence", "host", "common"], never: &[] },
    Layer { name: "agent", uses: &["reference", "sip", "pua", "host", "common"], never: &[] },
    Layer {
        name: "abi",
        uses: &["reference", "sys", "sip", "cluster", "presence", "pua", "host", "common", "server", "agent"],
        never: &[],
    },
];

/// Modules that call C functions of other modules: they name the host's types as `host` does.
fn is_edge(module: &str) -> bool {
    matches!(layer_of(module), "sys" | "host" | "abi") || module.ends_with("::callbacks")
}

fn src() -> PathBuf {
    root().join("src")
}

/// Every module of the crate: its path (`server::tables`) and its text without comments and tests.
fn modules() -> BTreeMap<String, String> {
    let files = rust_files();
    let name = |path: &Path| {
        let inside = path.strip_prefix(src()).expect("a file of src").with_extension("");
        inside.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("::")
    };
    let code = |path: &Path| {
        let text = fs::read_to_string(path).expect("a readable source");
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let without = |line: &str| line.split("//").next().unwrap_or_default().to_string();
        without_exports(&text[..end].lines().map(without).collect::<Vec<_>>().join("\n"))
    };
    files.iter().map(|path| (name(path), code(path))).collect()
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

fn layer_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
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
fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
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

#[test]
fn layers_use_what_is_below_them() {
    let modules = modules();
    assert!(modules.len() > 100, "only {} modules were read", modules.len());
    let mut wrong = Vec::new();
    for (module, targets) in imports(&modules) {
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == layer_of(module)) else { continue };
        let allowed = |other: &str| {
            other == layer.name
                || layer.uses.contains(&other)
                || ROOT.contains(&other)
                || other == "sys" && is_edge(module)
        };
        wrong.extend(targets.iter().filter(|t| !allowed(layer_of(t))).map(|t| format!("{module} must not use {t}")));
        let code = &modules[module];
        wrong.extend(
            layer.never.iter().filter(|word| code.contains(**word)).map(|word| format!("{module} contains {word:?}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A circle through `start`, if there is one.
fn circle<'m>(arrows: &BTreeMap<&'m str, BTreeSet<&'m str>>, start: &'m str) -> Option<Vec<&'m str>> {
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

#[test]
fn modules_do_not_import_in_circles() {
    let modules = modules();
    let arrows = imports(&modules);
    let circles: Vec<String> =
        arrows.keys().filter_map(|module| circle(&arrows, module)).map(|path| path.join(" -> ")).collect();
    assert!(circles.is_empty(), "{} modules are in circles:\n{}", circles.len(), circles.join("\n"));
}

/// Modules that look at the storage modes: the settings, what follows from them as a whole, and the choice of the
/// stores.
const LOOK_AT_MODES: [&str; 5] =
    ["presence::config", "presence::consistency", "presence::effective", "presence::modes", "server::storage"];

/// Where it is known when rows are written: the stores, and what a database takes.
const ROWS_BELONG_TO: [&str; 4] =
    ["server::subscriptions", "server::publications", "server::storage", "presence::row_limits"];

#[test]
fn storage_modes_are_looked_at_once() {
    let modules = modules();
    let names = |code: &str| code.contains("SubscriptionMode") || code.contains("PublicationMode");
    let looking = modules.iter().filter(|(_, code)| names(code)).map(|(module, _)| module.as_str());
    let (known, wrong): (Vec<&str>, Vec<&str>) = looking.partition(|module| LOOK_AT_MODES.contains(module));
    assert_eq!(known.len(), LOOK_AT_MODES.len(), "only {known:?} look at the storage modes");
    let outside: Vec<&str> = wrong.into_iter().filter(|module| !module.starts_with("presence::testing")).collect();
    assert!(outside.is_empty(), "the store is chosen in server::storage; these look at its mode: {outside:?}");
    let is_store = |module: &str| ROWS_BELONG_TO.iter().any(|room| module.starts_with(room));
    let asks =
        |code: &str| ["SubscriptionRows", "PublicationRows", ".row_timing("].iter().any(|word| code.contains(word));
    let outside: Vec<&String> =
        modules.iter().filter(|(module, code)| !is_store(module) && asks(code)).map(|(module, _)| module).collect();
    assert!(outside.is_empty(), "a store is asked what it does, not when it writes rows, in {outside:?}");
    let names = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "Mode");
    let of_agent = |module: &str| module != "pua::config" && !module.ends_with("_tests") && !module.contains("testing");
    let looking: Vec<&String> = modules.iter().filter(|(m, code)| of_agent(m) && names(code)).map(|(m, _)| m).collect();
    assert_eq!(looking, ["agent::storage"], "the store of records is chosen in agent::storage alone");
}

/// The types that a source declares: its own, those of its tests, and those of `row_columns!`. What a trait or an
/// implementation of one calls a type stands inside of it, and has the trait's meaning.
fn declared_types(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).filter_map(|line| {
        let declaration = line.trim_start();
        let is_inside = declaration.len() < line.len();
        let declaration = ["pub(crate) ", "pub(super) ", "pub "]
            .iter()
            .find_map(|word| declaration.strip_prefix(word))
            .unwrap_or(declaration);
        let (kind, rest) = declaration.strip_prefix("unsafe ").unwrap_or(declaration).split_once(' ')?;
        let is_type = matches!(kind, "struct" | "enum" | "trait" | "union") || kind == "type" && !is_inside;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| is_type && !name.is_empty())
    })
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut files_of = BTreeMap::<String, BTreeSet<String>>::new();
    for file in rust_files() {
        let inside = file.strip_prefix(src()).expect("a file of src").to_string_lossy().into_owned();
        // What stands for another part in tests has its name.
        if matches!(inside.as_str(), "host/fake.rs" | "sys.rs") || inside.contains("testing") {
            continue;
        }
        for name in declared_types(&fs::read_to_string(&file).expect("a readable source")) {
            files_of.entry(name.to_owned()).or_default().insert(inside.clone());
        }
    }
    assert!(files_of.len() > 600, "only {} types were read", files_of.len());
    let twice: Vec<_> = files_of.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "these names have two meanings, a type is named for what sets it apart: {twice:?}");
}

#[test]
fn what_the_check_of_names_sees() {
    let code = "
pub(crate) struct A<T>(T);
enum B { C }
type D = u8; // struct E
pub unsafe trait F {
    type G;
    struct H;
}
row_columns! {
    enum I { J = \"j\" }
}
fn enumerate(k: struct_l) {}
";
    assert_eq!(declared_types(code).collect::<Vec<_>>(), ["A", "B", "D", "F", "H", "I"]);
}

#[test]
fn unsafe_code_stays_at_the_edge() {
    let modules = modules();
    let inside = modules.iter().filter(|(module, _)| !is_edge(module) && !ROOT.contains(&module.as_str()));
    let wrong: Vec<&String> = inside.filter(|(_, code)| code.contains("unsafe ")).map(|(module, _)| module).collect();
    assert!(wrong.is_empty(), "unsafe code outside of sys, host, abi and callbacks: {wrong:?}");
}

#[test]
fn every_c_entry_is_guarded() {
    let files = rust_files();
    let (mut wrong, mut entries) = (Vec::new(), 0);
    for file in files.iter().filter(|file| !file.ends_with("host/fake.rs") && !file.ends_with("sys.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        for (at, line) in code.iter().enumerate() {
            // A type of a function has no name.
            let Some(rest) = line.split("extern \"C\" fn ").nth(1) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.is_empty() {
                continue;
            }
            entries += 1;
            // The body begins after the signature's last line; its first statement is the macro with the function's
            // name.
            let body = code[at..].iter().position(|line| line.trim_end().ends_with('{')).map(|begin| at + begin + 1);
            let first = body.and_then(|begin| code.get(begin)).map(|line| line.trim()).unwrap_or_default();
            if !first.starts_with(&format!("entry!({name},")) {
                wrong.push(format!("{}:{}: {name} is not guarded: {first}", file.display(), at + 1));
            }
        }
    }
    assert!(entries > 80, "only {entries} entries were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A function as it is written: its name, what stands before `fn`, its parameters, its result, its body.
struct Function<'t> {
    name: &'t str,
    is_unsafe: bool,
    generics: &'t str,
    parameters: String,
    result: &'t str,
    body: &'t str,
}

/// The text from `open` to the bracket that closes it.
fn enclosed(text: &str, open: char, close: char) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == open) - i32::from(c == close && !text[..at].ends_with('-'));
        if depth == 0 {
            return &text[..at + c.len_utf8()];
        }
    }
    text
}

/// The functions with a body in a source, nested ones included.
fn functions(code: &str) -> Vec<Function<'_>> {
    let starts = code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric()));
    let read = |(at, _): (usize, &str)| {
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        let rest = &code[at + 3..];
        let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?];
        let rest = &rest[name.len()..];
        // A type of a function has no name, and what has no body is declared elsewhere.
        let generics = if rest.starts_with('<') { enclosed(rest, '<', '>') } else { "" };
        let rest = &rest[generics.len()..];
        let parameters = if name.is_empty() || !rest.starts_with('(') { return None } else { enclosed(rest, '(', ')') };
        let rest = &rest[parameters.len()..];
        let result = &rest[..rest.find(['{', ';'])?];
        let body = enclosed(&rest[result.len()..], '{', '}');
        let is_unsafe = code[line..at].contains("unsafe ");
        Some(Function { name, is_unsafe, generics, parameters: without_functions(parameters), result, body })
    };
    starts.filter_map(read).collect()
}

/// Parameters without the types of functions among them: to call one is unsafe by itself.
fn without_functions(parameters: &str) -> String {
    let mut text = parameters.to_string();
    while let Some(at) = ["fn(", "FnOnce(", "FnMut(", "Fn("].iter().filter_map(|word| text.find(word)).min() {
        let open = at + text[at..].find('(').unwrap_or_default();
        let inner = enclosed(&text[open..], '(', ')').len();
        text.replace_range(at..open + inner, "");
    }
    text
}

/// A caller owes nothing to a safe function: it neither reads what a pointer of its caller leads to, nor returns a
/// reference with a lifetime that no argument has.
#[test]
fn safe_functions_take_no_pointer_and_promise_no_lifetime() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (module, code) in modules().iter().filter(|(module, _)| !matches!(module.as_str(), "host::fake" | "pure")) {
        for function in functions(code) {
            seen += 1;
            if function.is_unsafe || !function.body.contains("unsafe ") {
                continue;
            }
            let raw = ["*const ", "*mut ", "NonNull<", ": str_t", ": _str", "sys::_str"];
            if raw.iter().any(|word| function.parameters.contains(word)) {
                wrong.push(format!("{module}::{} is safe and works with a raw pointer", function.name));
            }
            let lifetimes = function.generics.split(['<', '>', ',', ':', ' ']).filter(|word| word.starts_with('\''));
            let unbound = |life: &&str| function.result.contains(*life) && !function.parameters.contains(*life);
            if let Some(life) = lifetimes.filter(|life| *life != "'static").find(unbound) {
                wrong.push(format!("{module}::{} is safe and makes up the lifetime {life}", function.name));
            }
        }
    }
    for (module, code) in modules() {
        for lasting in ["SipMsg", "Completed", "TmReply", "Struct"].map(|name| format!("{name}<'static>")) {
            if code.contains(&lasting) {
                wrong.push(format!("{module} keeps a {lasting}: what lives as long as a call carries its lifetime"));
            }
        }
    }
    assert!(seen > 2_000, "only {seen} functions were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_check_of_pointers_sees() {
    let code = "
        pub fn a(raw: *mut u8) { unsafe { *raw } }
        pub unsafe fn b(raw: *mut u8) { unsafe { *raw } }
        fn c<'a, T: Fn(*mut u8)>(call: T, is: unsafe extern \"C\" fn(*mut u8) -> i32) -> &'a [u8] { unsafe { x() } }
        type D = fn(*mut u8);
    ";
    let found = functions(code);
    let names: Vec<(&str, bool)> = found.iter().map(|function| (function.name, function.is_unsafe)).collect();
    assert_eq!(names, [("a", false), ("b", true), ("c", false)]);
    assert_eq!(found[0].parameters, "(raw: *mut u8)");
    assert!(!found[2].parameters.contains('*') && found[2].generics.contains("'a") && found[2].result.contains("'a"));
    assert!(found[2].body.contains("unsafe "));
}

/// The lines of a documentation comment and of attributes directly above `at`.
fn documentation(text: &str, at: usize) -> impl Iterator<Item = &str> {
    let lines = text[..at].trim_end_matches(' ').lines().rev().map(str::trim);
    lines.take_while(|line| line.starts_with("///") || line.starts_with("#["))
}

/// What the function at `at` returns; empty for nothing.
fn result_of(text: &str, at: usize) -> &str {
    let rest = text[at..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    let rest = &rest[if rest.starts_with('<') { enclosed(rest, '<', '>').len() } else { 0 }..];
    let rest = &rest[if rest.starts_with('(') { enclosed(rest, '(', ')').len() } else { 0 }..];
    rest[..rest.find(['{', ';']).unwrap_or_default()].trim()
}

/// Functions that others call and that return a `Result`: those that are documented, and the names of the others.
fn fallible_functions(text: &str) -> (usize, Vec<&str>) {
    let (mut documented, mut silent) = (0, Vec::new());
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        let is_public = ["pub fn ", "pub(crate) fn ", "pub(super) fn ", "pub unsafe fn ", "pub(crate) unsafe fn "]
            .iter()
            .find(|words| line.trim_start().starts_with(**words));
        if let Some(words) = is_public {
            let start = begin + line.len() - line.trim_start().len();
            let name = start + words.len();
            let result = result_of(text, name).trim_start_matches("->").trim_start();
            let kind = result.split('<').next().unwrap_or_default();
            if kind == "Result" || kind.ends_with("::Result") {
                match documentation(text, start).any(|line| line == "/// # Errors") {
                    true => documented += 1,
                    false => silent.push(text[name..].split(['(', '<']).next().unwrap_or_default()),
                }
            }
        }
        begin += line.len();
    }
    (documented, silent)
}

/// clippy's `missing_errors_doc` looks at what is visible outside of the crate, which is little of it.
#[test]
fn functions_say_what_their_errors_mean() {
    let (files, mut documented, mut wrong) = (rust_files(), 0, Vec::new());
    let is_for_tests = |file: &Path| {
        let inside = file.strip_prefix(src()).expect("a file of src").to_string_lossy();
        ["testing", "interleavings", "fake", "sys.rs"].iter().any(|word| inside.contains(word))
    };
    for file in files.iter().filter(|file| !is_for_tests(file)) {
        let text = fs::read_to_string(file).expect("a readable source");
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let (said, silent) = fallible_functions(&text[..end]);
        documented += said;
        wrong.extend(silent.into_iter().map(|name| format!("{}: {name} has no `# Errors`", file.display())));
    }
    assert!(documented > 200, "only {documented} functions were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_check_of_errors_sees() {
    let code = "
        /// Reads.
        ///
        /// # Errors
        ///
        /// Fails.
        #[must_use]
        pub(crate) fn a<T: Fn(u8) -> u8>(call: T, is: fn(u8) -> u8) -> io::Result<()> {}
        /// Reads.
        pub fn b(of: impl Fn() -> u8) -> Result<(), ()> {}
        fn c() -> Result<(), ()> {}
        pub fn d(of: impl Fn() -> Result<(), ()>) -> u8 {}
    ";
    assert_eq!(fallible_functions(code), (1, vec!["b"]));
}

#[test]
fn what_lives_in_shared_memory_is_looked_at_by_the_compiler() {
    let modules = modules();
    let by_hand = |code: &str| code.lines().any(|line| line.starts_with("impl") && line.contains("ShmSafe for"));
    let wrong: Vec<&String> = modules
        .iter()
        .filter(|(module, code)| by_hand(code) && *module != "shm_safe" && layer_of(module) != "host")
        .map(|(module, _)| module)
        .collect();
    assert!(wrong.is_empty(), "ShmSafe is implemented by `shm_safe!`, which checks each field, not by hand: {wrong:?}");
    let checked = modules.values().map(|code| code.matches("\nshm_safe!(").count()).sum::<usize>();
    assert!(checked > 60, "only {checked} types of shared memory were found");
}

/// Implementations of the server's `Context`: the trait, or `None` for methods of its own.
fn implemented_for_a_context(code: &str) -> Vec<Option<&str>> {
    let mut found = Vec::new();
    for header in code.lines().filter(|line| line.starts_with("impl")) {
        let header = header.split('{').next().unwrap_or_default();
        let (of_what, implementor) = header.rsplit_once(" for ").map_or((None, header), |(of, to)| (Some(of), to));
        let named = implementor.trim_start_matches("impl").split(|c: char| !c.is_alphanumeric() && c != '_');
        if named.into_iter().any(|word| word == "Context") {
            found.push(of_what.map(|of| of.rsplit(' ').next().unwrap_or(of)));
        }
    }
    found
}

/// What a room does is a function of that room, so that it is found by the room's name; only what an entry from the
/// host is has methods.
#[test]
fn a_context_has_methods_of_its_own_and_ports_alone() {
    let (mut own, mut ports, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    for (module, code) in &modules() {
        for implemented in implemented_for_a_context(code) {
            let is_context = module == "server::context";
            match implemented {
                None | Some("Deref") if is_context => _ = own.insert(module.clone()),
                Some(_) if module.ends_with("::ports") => ports += 1,
                None => wrong.push(format!("{module} gives a context methods: let them be functions of {module}")),
                Some(of) => wrong.push(format!("{module} implements {of} for a context: that belongs into a ports.rs")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((own.len(), ports), (1, 9), "modules with methods of the context, and traits that it carries out");
}

#[test]
fn what_the_check_of_contexts_sees() {
    let code = "
impl<'m> Context<'m> {
impl Context<'_> {
impl Deref for Context<'_> {
impl<T> From<Context<'_>> for Whole<T> {
impl crate::presence::ports::cluster::Cluster for crate::server::context::Context<'_> {
impl ContextFree for Exchange<'_, '_> {
    ";
    let cluster = Some("crate::presence::ports::cluster::Cluster");
    assert_eq!(implemented_for_a_context(code), [None, None, Some("Deref"), cluster]);
}
