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
