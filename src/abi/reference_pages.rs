//! The reference pages of both modules: written by `make docs`, and compared with the tables by the tests.
use crate::abi::{gauges, presence, pua};
use crate::common::counters;
use crate::reference::function::Function;
use crate::reference::page;
use crate::{presence as server, pua as agent};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn statistics(group: &'static CStr) -> String {
    let all = counters::described(group).chain(gauges::described(group));
    let text = |text: &'static CStr| text.to_str().expect("a text in ASCII");
    page::statistics(all.map(|(name, help)| (text(name).to_string(), text(help))))
}

fn presence_page() -> String {
    page::page(
        include_str!("../reference/presence.md"),
        &[
            ("parameters", page::parameters("presence", server::config::PARAMETERS)),
            ("functions", page::functions(presence::functions::FUNCTIONS)),
            ("variables", page::named(presence::functions::VARIABLES)),
            ("event_routes", page::named(presence::functions::EVENT_ROUTES)),
            ("commands", page::commands(presence::commands::COMMANDS.iter().map(|(command, _)| command))),
            ("statistics", statistics(c"presence")),
        ],
    )
}

fn pua_page() -> String {
    page::page(
        include_str!("../reference/pua.md"),
        &[
            ("parameters", page::parameters("pua", agent::config::PARAMETERS)),
            ("functions", page::functions(pua::functions::FUNCTIONS)),
            ("commands", page::commands(pua::commands::COMMANDS.iter().map(|(command, _)| command))),
            ("statistics", statistics(c"pua")),
        ],
    )
}

/// The pages in `docs` are what the tables say; with `WRITE_REFERENCE` in the environment they are written.
#[test]
fn pages_say_what_the_tables_say() {
    for (name, page) in [("presence.md", presence_page()), ("pua.md", pua_page())] {
        let path = root().join("docs").join(name);
        if std::env::var_os("WRITE_REFERENCE").is_some() {
            std::fs::write(&path, &page).expect("a page that can be written");
        }
        let written = std::fs::read_to_string(&path).expect("a readable page");
        assert!(written == page, "docs/{name} is not what the tables say: run make docs");
    }
}

/// Each entry of `cmd_export_t` in the glue: name, number of arguments, routes.
fn in_the_glue(module: &str) -> BTreeSet<(String, usize, String)> {
    let path = root().join(format!("kamailio-glue/{module}_mod.c"));
    let source = std::fs::read_to_string(path).expect("the glue");
    let rows = source.lines().filter(|line| line.contains("(cmd_function)script_"));
    let cells = rows.map(|line| line.trim().trim_matches(['{', '}', ',']).split(", ").collect::<Vec<_>>());
    cells.map(|row| (row[0].trim_matches('"').into(), row[2].parse().expect("a number"), row[5].into())).collect()
}

fn described(functions: &[Function]) -> BTreeSet<(String, usize, String)> {
    let rows = functions.iter().flat_map(|function| function.arities.iter().map(move |arity| (function, *arity)));
    rows.map(|(function, arity)| (function.name().to_string(), arity, function.routes.to_string())).collect()
}

#[test]
fn functions_are_those_of_the_glue() {
    assert_eq!(in_the_glue("presence"), described(presence::functions::FUNCTIONS));
    assert_eq!(in_the_glue("pua"), described(pua::functions::FUNCTIONS));
}

#[test]
fn every_entry_is_complete() {
    for entry in server::config::PARAMETERS.iter().chain(agent::config::PARAMETERS) {
        let ignored = entry.section.starts_with("Accepted");
        assert!(entry.text.trim().ends_with('.'), "{:?} has no sentence", entry.name);
        assert!(ignored || !entry.example.is_empty(), "{:?} has no example", entry.name);
    }
    for (command, _) in presence::commands::COMMANDS.iter().chain(pua::commands::COMMANDS) {
        assert!(command.text.trim().ends_with('.'), "{:?} has no sentence", command.name);
    }
}
