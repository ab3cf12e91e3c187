//! Methods belong to the room of their type: what other rooms do with it are functions of theirs, so that an import
//! shows who uses them.
use crate::declared_types;
use crate::imports::{modules, modules_for_tests};
use std::collections::BTreeMap;

/// The room that a module lies in: a folder of a layer, or a file beside those.
fn room(module: &str) -> Vec<&str> {
    module.split("::").take(2).collect()
}

/// The types that a source gives methods of its own. What implements a trait has the methods of that.
fn given_methods(code: &str) -> Vec<&str> {
    let headers = code.lines().filter_map(|line| line.strip_prefix("impl"));
    let named = headers.filter(|header| !header.contains(" for ")).filter_map(|header| {
        let (mut depth, mut begin) = (0, 0);
        // The parameters stand before the type.
        for (at, c) in header.char_indices() {
            depth += i32::from(c == '<') - i32::from(c == '>' && !header[..at].ends_with('-'));
            if depth == 0 {
                begin = at + c.len_utf8();
                break;
            }
        }
        let path = header[begin..].trim_start().split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next();
        path.and_then(|path| path.rsplit("::").next()).filter(|name| !name.is_empty())
    });
    named.collect()
}

#[test]
fn methods_are_given_in_the_room_of_their_type() {
    let (modules, for_tests, mut wrong, mut seen) = (modules(), modules_for_tests(), Vec::new(), 0);
    let ours = || modules.iter().filter(|(module, _)| !for_tests.has(module));
    let declared = ours().flat_map(|(module, code)| declared_types(code).map(move |name| (name, module.as_str())));
    let rooms: BTreeMap<&str, Vec<&str>> = declared.map(|(name, module)| (name, room(module))).collect();
    for (module, code) in ours() {
        for name in given_methods(code) {
            // What a macro declares is known to the module that it stands in alone.
            let Some(owner) = rooms.get(name) else { continue };
            seen += 1;
            if *owner != room(module) {
                let owner = owner.join("::");
                wrong.push(format!("{module} gives {name} of {owner} methods: let them be functions of {module}"));
            }
        }
    }
    assert!(seen > 400, "only {seen} implementations were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_check_of_methods_sees() {
    let code = "
impl A {
impl<'m, T: Fn(u8) -> u8> B<'m, T> {
impl crate::server::shared::C {
impl D for E {
fn f() -> impl Fn() {
    ";
    assert_eq!(given_methods(code), ["A", "B", "C"]);
    assert_eq!(room("server::operator::drain"), room("server::operator"));
    assert_ne!(room("agent::exporter"), room("agent::context"));
}
