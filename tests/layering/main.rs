//! The house: which layer may use which, no circle of imports among modules, and where unsafe code may stand. This test
//! reads the sources.
mod functions;
mod imports;
mod methods;
#[path = "../sources/mod.rs"]
mod sources;

use imports::{
    circle, imports, is_in, layer_of, module_at, modules, modules_for_tests, modules_with_tests, without_macros,
};
use sources::rust_files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A layer, the layers it may use, and words it must not contain. What lies in none, at the root of `src`, is for all
/// of them, and uses none.
struct Layer {
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static str],
    c: C,
}

/// Layers in which the compiler refuses unsafe code; that of `shm_safe!` alone is allowed, where it stands.
const PURE_ROOTS: [&str; 4] = ["cluster", "presence", "pua", "sip"];

/// What a layer has to do with C.
#[derive(PartialEq)]
enum C {
    /// Nothing: no unsafe code.
    None,
    /// Types of C are named there, and functions of C are called.
    Speaks,
}

const PURE: &[&str] = &["unsafe ", "libc::", "SystemTime", "Instant::now"];

/// Lowest first.
const LAYERS: [Layer; 12] = [
    Layer { name: "sys", uses: &[], never: &[], c: C::Speaks },
    Layer { name: "reference", uses: &[], never: PURE, c: C::None },
    Layer { name: "sip", uses: &[], never: PURE, c: C::None },
    Layer { name: "cluster", uses: &[], never: PURE, c: C::None },
    Layer { name: "presence", uses: &["reference", "sip", "cluster"], never: PURE, c: C::None },
    Layer { name: "pua", uses: &["reference", "sip"], never: PURE, c: C::None },
    Layer { name: "host", uses: &["sys", "reference"], never: &[], c: C::Speaks },
    Layer { name: "callbacks", uses: &["sys", "sip", "presence", "pua", "host"], never: &[], c: C::Speaks },
    Layer { name: "common", uses: &["reference", "sip", "presence", "host"], never: &[], c: C::None },
    Layer {
        name: "server",
        uses: &["reference", "sip", "cluster", "presence", "host", "callbacks", "common"],
        never: &[],
        c: C::None,
    },
    Layer { name: "agent", uses: &["reference", "sip", "pua", "host", "callbacks", "common"], never: &[], c: C::None },
    Layer {
        name: "abi",
        uses: &[
            "reference",
            "sys",
            "sip",
            "cluster",
            "presence",
            "pua",
            "host",
            "callbacks",
            "common",
            "server",
            "agent",
        ],
        never: &[],
        c: C::Speaks,
    },
];

/// The layer of a module; `None` for what every layer may use.
fn layer(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == layer_of(module))
}

#[test]
fn layers_use_what_is_below_them() {
    let modules = modules();
    assert!(modules.len() > 100, "only {} modules were read", modules.len());
    let mut wrong = Vec::new();
    let bare = modules.iter().map(|(module, code)| (module.clone(), without_macros(code))).collect();
    for (module, targets) in imports(&bare).iter().filter(|(module, _)| layer(module).is_none()) {
        let layers = targets.iter().filter(|target| layer(target).is_some());
        wrong.extend(layers.map(|target| format!("{module} is for all layers, and must not use {target}")));
    }
    // What a layer must not use its tests must not use either.
    let with_tests = modules_with_tests();
    for (module, targets) in imports(&with_tests) {
        let Some(layer) = layer(module) else { continue };
        let allowed = |other: &str| {
            other == layer.name || layer.uses.contains(&other) || !LAYERS.iter().any(|layer| layer.name == other)
        };
        wrong.extend(targets.iter().filter(|t| !allowed(layer_of(t))).map(|t| format!("{module} must not use {t}")));
        let code = &modules[module];
        wrong.extend(
            layer.never.iter().filter(|word| code.contains(**word)).map(|word| format!("{module} contains {word:?}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rooms of the server, lowest first: each uses those before it alone.
const ROOMS: [&str; 23] = [
    "settings",
    "nodes",
    "tables",
    "history",
    "packages",
    "notifications",
    "shared",
    "announcing",
    "work",
    "subscriptions",
    "publications",
    "authorizations",
    "stores",
    "inventory",
    "context",
    "judging",
    "operator",
    "cluster",
    "notify",
    "ports",
    "housekeeping",
    "storage",
    "opening",
];

/// The room of the server that a module lies in.
fn room_of_server(module: &str) -> Option<&str> {
    module.strip_prefix("server::").and_then(|inside| inside.split("::").next())
}

/// A test stands in the highest room that it needs.
#[test]
fn rooms_use_what_is_below_them() {
    let (modules, mut wrong) = (modules_with_tests(), Vec::new());
    let there: BTreeSet<&str> = modules.keys().filter_map(|module| room_of_server(module)).collect();
    assert_eq!(there, BTreeSet::from(ROOMS), "each room has its place in the list");
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    for (module, targets) in &imports(&modules) {
        let Some(room) = room_of_server(module) else { continue };
        let above =
            targets.iter().filter(|target| room_of_server(target).is_some_and(|other| place(other) > place(room)));
        wrong.extend(above.map(|target| format!("{module} must not use {target}, which is above it")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rooms of presence that are named for a thing: the room's own file says what it is, those in its folder what is
/// done with it.
const THINGS: [&str; 6] = ["event_package", "subscription", "publication", "authorization", "notification", "winfo"];

/// What a thing is needs nothing of the server around it, so that the ports can speak of it.
#[test]
fn things_of_presence_stand_below_its_ports() {
    let modules = modules();
    let arrows = imports(&modules);
    let mut wrong = Vec::new();
    for thing in THINGS.map(|thing| format!("presence::{thing}")) {
        let folder = format!("{thing}::");
        assert!(modules.keys().any(|module| module.starts_with(&folder)), "{thing} is no room");
        let uses = arrows.get(thing.as_str()).into_iter().flatten();
        wrong.extend(uses.filter(|used| is_in(used, "presence::ports")).map(|used| format!("{thing} uses {used}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_do_not_import_in_circles() {
    let modules = modules();
    let arrows = imports(&modules);
    let circles: Vec<String> =
        arrows.keys().filter_map(|module| circle(&arrows, module)).map(|path| path.join(" -> ")).collect();
    assert!(circles.is_empty(), "{} modules are in circles:\n{}", circles.len(), circles.join("\n"));
}

/// A storage mode, the settings that it is one of, and the room where the stores are chosen by it.
struct StorageMode {
    name: &'static str,
    settings: &'static str,
    choice: &'static str,
}

const STORAGE_MODES: [StorageMode; 3] = [
    StorageMode { name: "SubscriptionMode", settings: "presence::config", choice: "server::storage" },
    StorageMode { name: "PublicationMode", settings: "presence::config", choice: "server::storage" },
    StorageMode { name: "Mode", settings: "pua::config", choice: "agent::storage" },
];

/// Whether a source has this word in it.
fn names(code: &str, name: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

#[test]
fn storage_modes_are_looked_at_once() {
    let (modules, for_tests) = (modules(), modules_for_tests());
    for mode in STORAGE_MODES {
        let looking = modules.iter().filter(|(module, code)| names(code, mode.name) && !for_tests.has(module));
        let (chosen, outside): (Vec<&str>, Vec<&str>) = looking
            .map(|(module, _)| module.as_str())
            .filter(|module| !is_in(module, mode.settings))
            .partition(|module| is_in(module, mode.choice));
        assert!(!chosen.is_empty(), "nothing is chosen by {} in {}", mode.name, mode.choice);
        assert!(outside.is_empty(), "the store is chosen in {}; these look at its mode: {outside:?}", mode.choice);
    }
}

/// The stores say when they write rows, each kind in the room that its trait is declared in. Others ask what a store
/// does.
#[test]
fn the_rooms_of_the_stores_alone_know_when_rows_are_written() {
    let (modules, for_tests) = (modules(), modules_for_tests());
    let room = |module: &str| module.split("::").take(2).collect::<Vec<_>>().join("::");
    let declaring = modules.iter().filter(|(_, code)| code.contains("fn row_timing(&self) -> SubscriptionRows;"));
    let declaring = declaring.chain(modules.iter().filter(|(_, code)| code.contains("fn row_timing(&self) -> Pub")));
    let rooms: BTreeSet<String> = declaring.map(|(module, _)| room(module)).collect();
    assert_eq!(rooms.len(), 2, "the rooms of the stores: {rooms:?}");
    let is_declared = |code: &str| code.contains("enum SubscriptionRows") || code.contains("enum PublicationRows");
    let asks =
        |code: &str| names(code, "SubscriptionRows") || names(code, "PublicationRows") || code.contains(".row_timing(");
    let others = modules.iter().filter(|(module, code)| !rooms.contains(&room(module)) && !is_declared(code));
    let outside: Vec<&String> =
        others.filter(|(module, code)| asks(code) && !for_tests.has(module)).map(|(module, _)| module).collect();
    assert!(outside.is_empty(), "a store is asked what it does, not when it writes rows, in {outside:?}");
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
    let (for_tests, mut files_of) = (modules_for_tests(), BTreeMap::<String, BTreeSet<String>>::new());
    // The names in `sys` are those of C. What stands for another part in tests has its name.
    let modules = rust_files().into_iter().map(|file| (module_at(&file), file));
    for (module, file) in modules.filter(|(module, _)| layer_of(module) != "sys" && !for_tests.has(module)) {
        for name in declared_types(&fs::read_to_string(&file).expect("a readable source")) {
            files_of.entry(name.to_owned()).or_default().insert(module.clone());
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
    let inside = modules.iter().filter(|(module, _)| layer(module).is_none_or(|layer| layer.c == C::None));
    // The macro that has the compiler look at each field writes `unsafe impl` where it is used.
    let wrong: Vec<&String> = inside
        .filter(|(module, code)| *module != "shm_safe" && (code.contains("unsafe ") || code.contains("(unsafe_code")))
        .map(|(module, _)| module)
        .filter(|module| !PURE_ROOTS.contains(&module.as_str()))
        .collect();
    assert!(wrong.is_empty(), "unsafe code outside of the layers that speak with C: {wrong:?}");
    for root in PURE_ROOTS {
        let code = &modules[root];
        assert!(code.contains("#![deny(unsafe_code)]") && code.matches("unsafe").count() == 1, "{root}");
    }
}

/// What sorts, selects, counts or walks through what is stored.
const SELECTING: [&str; 8] =
    [".sort", ".dedup", ".retain(", "HashMap", "HashSet", ".shards()", ".nth_shard(", "until_failed"];

/// An entry turns its arguments into types, calls one function of a room, and turns the result back.
#[test]
fn entries_sort_and_select_nothing() {
    let modules = modules();
    let entries = modules.iter().filter(|(module, _)| layer_of(module) == "abi");
    let wrong: Vec<String> = entries
        .flat_map(|(module, code)| SELECTING.iter().filter(|word| code.contains(**word)).map(move |w| (module, w)))
        .map(|(module, word)| format!("{module} contains {word:?}: let a room of server or agent do that"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_c_entry_is_guarded() {
    let (files, for_tests) = (rust_files(), modules_for_tests());
    let (mut wrong, mut entries) = (Vec::new(), 0);
    // What `sys` declares is called, and what stands for the host in tests is called by tests.
    let is_ours = |module: &str| layer_of(module) != "sys" && !for_tests.has(module);
    for file in files.iter().filter(|file| is_ours(&module_at(file))) {
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

#[test]
fn what_lives_in_shared_memory_is_looked_at_by_the_compiler() {
    let modules = modules();
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
            let is_context = code.contains("struct Context<");
            match implemented {
                None | Some("Deref") if is_context => _ = own.insert(module.clone()),
                Some(_) if is_in(module, "server::ports") => ports += 1,
                None => wrong.push(format!("{module} gives a context methods: let them be functions of {module}")),
                Some(of) => {
                    wrong.push(format!("{module} implements {of} for a context: that belongs into the room of ports"))
                }
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
