//! Reads the host's headers with the host's own flags (bindgen), compiles the C shims with the same flags, writes the
//! header of our entry points (cbindgen), and refuses what cannot work.
use std::{env, fs, path::PathBuf, process};

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    println!("cargo:warning={message}");
    process::exit(1)
}

/// The unpacked, configured source of the host: `KAMAILIO_SRC`, or what `scripts/setup.sh` left in `target/host`.
fn host_source(root: &std::path::Path) -> PathBuf {
    println!("cargo:rerun-if-env-changed=KAMAILIO_SRC");
    let path = match env::var_os("KAMAILIO_SRC") {
        Some(path) => PathBuf::from(path),
        None => root.join("target/host/current"),
    };
    let path = fs::canonicalize(&path).unwrap_or(path);
    if !path.join("src/core/sr_module.h").exists() {
        fail(&format!(
            "no Kamailio source in {}: run `make setup`, or set KAMAILIO_SRC to an unpacked source tree",
            path.display()
        ));
    }
    if !path.join("src/config.mak").exists() {
        fail(&format!("{} is not configured: run `make cfg` in it", path.display()));
    }
    path
}

/// Splits a make variable as a shell would, keeping quoted parts together.
fn shell_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut open) = (Vec::new(), String::new(), None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                open = true;
            }
            (None, c) if c.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (None, c) => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// `C_DEFS` and `CC_PMUTEX_OPTS` of the host: exactly the flags that decide struct layouts.
fn host_flags(source: &std::path::Path) -> Vec<String> {
    let mak = fs::read_to_string(source.join("src/config.mak")).unwrap_or_else(|e| fail(&format!("config.mak: {e}")));
    let mut flags = Vec::new();
    for line in mak.lines() {
        for name in ["C_DEFS=", "CC_PMUTEX_OPTS="] {
            if let Some(value) = line.strip_prefix(name) {
                flags.extend(shell_words(&value.replace("\\\"", "\"")));
            }
        }
    }
    if !flags.iter().any(|f| f.starts_with("-DVERSIONVAL=")) {
        fail("config.mak has no C_DEFS with VERSIONVAL: run `make cfg` in the Kamailio source again");
    }
    flags
}

/// The host's database library, which database drivers share with us, linked by the folder it is installed in. Newer hosts
/// have it inside their own binary.
fn link_host_library(flags: &[String]) {
    let version = flags.iter().find_map(|flag| flag.strip_prefix("-DVERSIONVAL=")).and_then(|v| v.parse::<u32>().ok());
    println!("cargo:rerun-if-env-changed=KAMAILIO_LIBS");
    let folders: Vec<PathBuf> = match env::var_os("KAMAILIO_LIBS") {
        Some(folder) => vec![folder.into()],
        None => fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("kamailio"))
            .chain(["/usr/lib/kamailio", "/usr/local/lib64/kamailio", "/usr/local/lib/kamailio"].map(PathBuf::from))
            .collect(),
    };
    let Some(folder) = folders.iter().find(|folder| folder.join("libsrdb1.so.1").exists()) else {
        if version >= Some(6_000_000) {
            return;
        }
        fail("no libsrdb1.so.1 of Kamailio found: install Kamailio, or set KAMAILIO_LIBS to its library folder");
    };
    println!("cargo:rustc-cdylib-link-arg={}", folder.join("libsrdb1.so.1").display());
    println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,{}", folder.display());
}

/// Where the headers of libxml2 are, as `pkg-config` says.
fn xml_includes() -> Vec<String> {
    let asked = process::Command::new("pkg-config").args(["--cflags-only-I", "libxml-2.0"]).output();
    match asked {
        Ok(told) if told.status.success() => String::from_utf8_lossy(&told.stdout)
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("-I").map(str::to_string))
            .collect(),
        _ => fail("pkg-config knows no libxml-2.0: install libxml2-dev and pkg-config"),
    }
}

/// The structures that other people's modules hand to us or get from us.
const SHARED: [&str; 13] = [
    "presence_api",
    "pres_ev",
    "subscription",
    "subs_entry",
    "presentity",
    "pua_api",
    "ua_pres",
    "publ_info",
    "subs_info",
    "libxml_api",
    "_str",
    "kr_presence_params",
    "kr_pua_params",
];

/// A C file in which the compiler of the host asserts the sizes and offsets that Rust was told: bindgen's own assertions hold
/// for Rust, these for the modules that were built with the host.
fn layouts(bindings: &str) -> String {
    let mut out = String::from("#include \"bindings.h\"\n#include <stddef.h>\n");
    let mut seen = std::collections::HashSet::new();
    let mut assert = |name: &str, what: &str, value: &str| {
        if SHARED.contains(&name) {
            seen.insert(name.to_owned());
            out += &format!("_Static_assert({what} == {value}, \"struct {name} is not what Rust was told\");\n");
        }
    };
    // bindgen breaks long assertions over lines.
    for part in bindings.replace(['\n', ' '], "").split("[\"").skip(1) {
        let Some(value) = part.split("usize];").next().and_then(|part| part.rsplit('-').next()) else { continue };
        if let Some(name) = part.strip_prefix("Sizeof").and_then(|rest| rest.split('"').next()) {
            assert(name, &format!("sizeof(struct {name})"), value);
        } else if let Some((name, field)) = part
            .strip_prefix("Offsetoffield:")
            .and_then(|rest| rest.split('"').next())
            .and_then(|rest| rest.split_once("::"))
        {
            assert(name, &format!("offsetof(struct {name}, {})", field.trim_end_matches('_')), value);
        }
    }
    if let Some(missing) = SHARED.iter().find(|name| !seen.contains(**name)) {
        fail(&format!("no layout of struct {missing} in what bindgen wrote"));
    }
    out
}

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    if env::var("CARGO_CFG_PANIC").as_deref() == Ok("abort") {
        fail("panic=abort would end the whole server with one process: build with panic=unwind");
    }
    let source = host_source(&root);
    let flags = host_flags(&source);
    link_host_library(&flags);
    for file in ["include", "kamailio-glue/shim", "src/abi", "cbindgen.toml"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed={}", source.join("src/config.mak").display());
    let include = [root.join("include"), source.join("src")];

    let bindings = bindgen::Builder::default()
        .header(root.join("include/bindings.h").display().to_string())
        .clang_args(&flags)
        .clang_args(include.iter().map(|p| format!("-I{}", p.display())))
        .clang_args(xml_includes().iter().map(|folder| format!("-I{folder}")))
        .clang_arg("-w")
        .allowlist_function("kr_.*|xmlReadMemory|xmlFreeDoc|xmlDocDumpFormatMemory|xmlSetProp|xmlNewProp|xmlStrcasecmp|xmlNodeGetContent")
        .allowlist_type("kr_.*|presence_api|pua_api|pres_ev|subscription|subs_entry|presentity|_str|sip_msg|db.*|rpc.*|pv_.*|_pv_.*")
        .allowlist_type("request_method|tm_binds|uac_req|dlg|cell|tmcb_params|sl_api|event|to_body|hdr_field|sip_uri|ua_pres|publ_info|subs_info|libxml_api|_xml(Doc|Node|Attr|Ns)|xmlParserOption|list_entry|list_entry_t|dmq_api|dmq_peer|dmq_node|peer_reponse_t")
        .allowlist_var("HDR_.*|TMCB_.*|INSERT_TYPE|UPDATE_TYPE|FAKED_REPLY|DB1_.*|OP_.*|PV_.*|L_.*|[A-Z]+_STATUS|METHOD_.*|request_method_METHOD_.*")
        .layout_tests(true)
        .generate_comments(false)
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::Consts);
    let text = bindings
        .generate()
        .unwrap_or_else(|e| fail(&format!("bindgen cannot read the host's headers: {e}")))
        .to_string();
    fs::write(out.join("bindings.rs"), &text).unwrap();
    fs::write(out.join("layouts.c"), layouts(&text)).unwrap();

    let mut shim = cc::Build::new();
    shim.file(out.join("layouts.c"));
    for entry in fs::read_dir(root.join("kamailio-glue/shim")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "c") {
            shim.file(path);
        }
    }
    for flag in &flags {
        shim.flag(flag);
    }
    for folder in xml_includes() {
        shim.include(folder);
    }
    println!("cargo:rustc-link-lib=xml2");
    shim.include(root.join("include"))
        .flag("-isystem")
        .flag(source.join("src").to_str().unwrap())
        .flag("-Wall")
        .flag("-Wno-address-of-packed-member")
        .warnings(false)
        .pic(true)
        .opt_level(2);
    shim.cargo_metadata(true).compile("kr_shim");

    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut header = cbindgen::Builder::new().with_config(config);
    for file in [
        "presence_module",
        "presence_rpc",
        "operator_rpc",
        "presence_variables",
        "status_page",
        "presence_api",
        "pua_module",
        "pua_api",
        "pua_libxml",
    ] {
        let path = root.join(format!("src/abi/{file}.rs"));
        if path.exists() {
            header = header.with_src(path);
        }
    }
    match header.generate() {
        Ok(header) => {
            header.write_to_file(out.join("kamailio_presence.h"));
            // The checked-in copy is what the glue includes; a test compares the two.
            println!("cargo:rustc-env=KR_GENERATED_HEADER={}", out.join("kamailio_presence.h").display());
        }
        Err(error) => fail(&format!("cbindgen: {error}")),
    }
}
