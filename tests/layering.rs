//! The arrows between the layers go one way (see the crate's documentation); this test reads the sources.
use std::{fs, path::Path};

/// A layer and what it must not name.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "sip",
        &[
            "crate::host",
            "crate::sys",
            "crate::bridge",
            "crate::abi",
            "crate::presence",
            "crate::pua",
            "unsafe ",
            "libc::",
        ],
    ),
    (
        "presence",
        &[
            "crate::host",
            "crate::sys",
            "crate::bridge",
            "crate::abi",
            "crate::pua",
            "unsafe ",
            "libc::",
            "SystemTime",
            "Instant::now",
        ],
    ),
    (
        "pua",
        &[
            "crate::host",
            "crate::sys",
            "crate::bridge",
            "crate::abi",
            "crate::presence",
            "unsafe ",
            "libc::",
            "SystemTime",
            "Instant::now",
        ],
    ),
    ("host", &["crate::bridge", "crate::abi", "crate::presence", "crate::pua", "crate::sip"]),
];

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut wrong, mut read) = (Vec::new(), 0);
    for (layer, forbidden) in FORBIDDEN {
        let mut files = Vec::new();
        sources(&src.join(layer), &mut files);
        files.push(src.join(format!("{layer}.rs")));
        for file in files.iter().filter(|file| file.exists()) {
            read += 1;
            for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                wrong.extend(
                    forbidden
                        .iter()
                        .filter(|word| code.contains(**word))
                        .map(|word| format!("{}:{}: {layer} must not use {word}", file.display(), number + 1)),
                );
            }
        }
    }
    assert!(read > 20, "only {read} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_at_the_edge() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src.join("bridge"), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("callbacks.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let count =
            text.lines().filter(|line| line.split("//").next().is_some_and(|code| code.contains("unsafe "))).count();
        let allowed = if file.ends_with("world.rs") { 2 } else { 0 };
        assert!(count <= allowed, "{} has {count} lines with unsafe code", file.display());
    }
}

/// Every function that C calls is written with the macro that keeps a panic inside.
#[test]
fn every_c_entry_is_guarded() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
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
            // The body begins after the signature's last line; its first statement is the macro with the function's name.
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
