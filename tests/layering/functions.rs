//! What functions promise: safe ones follow no pointer of their caller, and fallible ones say when they fail.
use crate::imports::{layer_of, module_at, modules, modules_for_tests};
use crate::sources::rust_files;
use std::fs;

/// A function as it is written: its name, what stands before `fn`, its parameters, its result, its body.
struct Function<'t> {
    name: &'t str,
    is_unsafe: bool,
    generics: &'t str,
    parameters: String,
    result: &'t str,
    body: &'t str,
}

impl Function<'_> {
    /// Whether it returns a `str` of the host that may live longer than its text. What lives for ever, and what its
    /// owner gives away, do not.
    fn returns_a_bare_str(&self) -> bool {
        let mut words = self.result.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '*'));
        let is_pointer = ["*mut ", "*const ", "&"].iter().any(|word| self.result.contains(word));
        let is_bare = words.any(|word| matches!(word, "_str" | "str_t")) && !is_pointer;
        let parameters = self.parameters.trim_matches(['(', ')']).split(',').map(str::trim);
        let lasts = |parameter: &str| matches!(parameter, "" | "self") || parameter.contains("&'static ");
        is_bare && !parameters.into_iter().all(lasts)
    }
}

/// The text from `open` to the bracket that closes it.
pub(crate) fn enclosed(text: &str, open: char, close: char) -> &str {
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

/// The layers whose functions are read beside the RFCs.
const READ_BY_NOUN: [&str; 6] = ["cluster", "presence", "callbacks", "common", "server", "abi"];

#[test]
fn functions_have_a_noun_in_their_names() {
    let (modules, for_tests, mut wrong) = (modules(), modules_for_tests(), Vec::new());
    let read = modules.iter().filter(|(module, _)| READ_BY_NOUN.contains(&layer_of(module)) && !for_tests.has(module));
    for (module, code) in read {
        let bare = functions(code).into_iter().map(|f| f.name).filter(|name| matches!(*name, "of" | "has"));
        wrong.extend(bare.map(|name| format!("{module}: `{name}` does not say of what")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A caller owes nothing to a safe function: it neither reads what a pointer of its caller leads to, nor returns a
/// reference with a lifetime that no argument has.
#[test]
fn safe_functions_take_no_pointer_and_promise_no_lifetime() {
    let (for_tests, mut wrong, mut seen) = (modules_for_tests(), Vec::new(), 0);
    // What stands for the host in tests has the signatures of C.
    let is_stand_in = |module: &str| layer_of(module) == "host" && for_tests.has(module);
    for (module, code) in modules().iter().filter(|(module, _)| !is_stand_in(module)) {
        for function in functions(code) {
            seen += 1;
            if !function.is_unsafe && function.returns_a_bare_str() {
                wrong.push(format!("{module}::{} is safe and returns a `str` without its lifetime", function.name));
            }
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
        fn e(text: &[u8]) -> sys::_str { lend(text).unbound() }
        fn f(text: Vec<u8>) -> Option<str_t> { kept(text) }
        fn g(text: &'static [u8]) -> sys::_str { lend(text).unbound() }
        fn h(self) -> sys::_str { self.text }
        fn i(&self) -> *mut sys::_str { self.0 }
    ";
    let found = functions(code);
    let names: Vec<(&str, bool)> = found.iter().map(|function| (function.name, function.is_unsafe)).collect();
    assert_eq!(names[..3], [("a", false), ("b", true), ("c", false)]);
    let bare: Vec<&str> = found.iter().filter(|f| f.returns_a_bare_str()).map(|f| f.name).collect();
    assert_eq!(bare, ["e", "f"]);
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
    let (files, for_tests, mut documented, mut wrong) = (rust_files(), modules_for_tests(), 0, Vec::new());
    for file in files.iter().filter(|file| !for_tests.has(&module_at(file))) {
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
