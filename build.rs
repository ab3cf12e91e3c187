//! Reads the host's headers with the host's own flags (bindgen), compiles the C shims with the same flags, writes the
//! header of our entry points (cbindgen), and refuses what cannot work.
use std::{
    env, fs, panic,
    path::{Path, PathBuf},
    process,
};

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    println!("cargo:warning={message}");
    process::exit(1)
}

/// The server that will load the modules, as `scripts/kamailio_host.py` finds it: program and source, and the flags
/// with which a module is that server's own.
struct Host {
    headers: PathBuf,
    flags: Vec<String>,
    /// `libsrdb1`, which database drivers share with us; newer servers have it inside their own program.
    database_library: Option<PathBuf>,
}

impl Host {
    fn find(root: &Path) -> Host {
        for name in ["BIN", "SRC", "SRC_VERSION", "BUILD", "MODULES", "LIBS"] {
            println!("cargo:rerun-if-env-changed=KAMAILIO_{name}");
        }
        let script = root.join("scripts/kamailio_host.py");
        println!("cargo:rerun-if-changed={}", script.display());
        // `scripts/build.sh` writes it again when another server is meant.
        println!("cargo:rerun-if-changed={}", root.join("target/host/facts").display());
        let asked = process::Command::new("python3").arg(&script).arg("facts").output();
        let output = asked.unwrap_or_else(|e| fail(&format!("python3 cannot be run ({e}): install python3")));
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            fail(text.trim().trim_start_matches("error: "));
        }
        let facts = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = |name: &str| -> Vec<String> {
            facts
                .lines()
                .filter_map(|line| line.split_once('\t'))
                .filter(|(key, value)| *key == name && !value.is_empty())
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        for name in ["binary", "configuration"] {
            all(name).iter().for_each(|path| println!("cargo:rerun-if-changed={path}"));
        }
        // `HOST_VERSION` of the crate.
        println!("cargo:rustc-env=KAMAILIO_VERSIONVAL={}", all("value").concat());
        let one = |name: &str| all(name).pop().map(PathBuf::from);
        Host {
            headers: one("headers").unwrap_or_else(|| fail("no headers of Kamailio: run `make setup`")),
            flags: all("flag"),
            database_library: one("database_library"),
        }
    }

    /// Links the database library by the folder it is installed in.
    fn link_database_library(&self) {
        let Some(library) = &self.database_library else { return };
        println!("cargo:rustc-cdylib-link-arg={}", library.display());
        if let Some(folder) = library.parent() {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,{}", folder.display());
        }
    }
}

/// Where the headers of libxml2 are, as `pkg-config` says.
fn xml_includes() -> Vec<String> {
    let asked = process::Command::new("pkg-config").args(["--cflags-only-I", "libxml-2.0"]).output();
    match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("-I").map(str::to_string))
            .collect(),
        _ => fail("pkg-config knows no libxml-2.0: install libxml2-dev and pkg-config"),
    }
}

/// The structures that other people's modules hand to us or get from us.
const SHARED: [&str; 12] = [
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
    "param_export",
];

/// What the server's lock method makes of `gen_lock_t`, which is part of structures that modules share.
const LOCKS: &str = r#"
#include <pthread.h>
#include <semaphore.h>
#include "core/locking.h"
#if defined(USE_FUTEX)
#define KR_LOCK int
#elif defined(FAST_LOCK)
#define KR_LOCK fl_lock_t
#elif defined(USE_PTHREAD_MUTEX)
#define KR_LOCK pthread_mutex_t
#elif defined(USE_POSIX_SEM)
#define KR_LOCK sem_t
#else
#define KR_LOCK int
#endif
_Static_assert(sizeof(gen_lock_t) == sizeof(KR_LOCK), "gen_lock_t is not what the server's lock method makes of it");
"#;

/// A C file in which the compiler of the host asserts the sizes and offsets that Rust was given: bindgen's own
/// assertions hold for Rust, these for the modules that were built with the host.
fn layouts(bindings: &str) -> String {
    let mut out = String::from("#include \"bindings.h\"\n#include <stddef.h>\n");
    out += LOCKS;
    let mut seen = std::collections::BTreeSet::new();
    let mut assert = |name: &str, what: &str, value: &str| {
        if SHARED.contains(&name) {
            seen.insert(name.to_owned());
            out += &format!("_Static_assert({what} == {value}, \"struct {name} is not what Rust takes it for\");\n");
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

/// bindgen panics where libclang cannot be loaded.
fn generate(bindings: bindgen::Builder) -> bindgen::Bindings {
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(panic::AssertUnwindSafe(|| bindings.generate()));
    drop(panic::take_hook());
    match made {
        Ok(Ok(bindings)) => bindings,
        // The compiler's own headers, without which none of the host's can be read.
        Ok(Err(error)) if error.to_string().contains("'stddef.h' file not found") => {
            fail("libclang is there without its headers: install libclang-dev")
        }
        Ok(Err(error)) => fail(&format!("bindgen cannot read the host's headers: {error}")),
        Err(_) => fail("libclang cannot be loaded: install libclang-dev, or name its folder with LIBCLANG_PATH=DIR"),
    }
}

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    if env::var("CARGO_CFG_PANIC").as_deref() == Ok("abort") {
        fail("panic=abort would end the whole server with one process: build with panic=unwind");
    }
    let host = Host::find(&root);
    host.link_database_library();
    for file in ["include", "kamailio-glue/shim", "src/abi", "cbindgen.toml"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let text = bindings(&root, &host);
    fs::write(out.join("bindings.rs"), &text).unwrap();
    fs::write(out.join("layouts.c"), layouts(&text)).unwrap();
    compile_shim(&root, &out, &host);
    write_header(&root, &out);
}

/// What the host's headers declare, as Rust.
fn bindings(root: &Path, host: &Host) -> String {
    let include = [root.join("include"), host.headers.clone()];
    let builder = bindgen::Builder::default()
        .header(root.join("include/bindings.h").display().to_string())
        .clang_args(&host.flags)
        .clang_args(include.iter().map(|p| format!("-I{}", p.display())))
        .clang_args(xml_includes().iter().map(|folder| format!("-I{folder}")))
        .clang_arg("-w")
        .allowlist_function("kr_.*|xmlReadMemory|xmlFreeDoc|xmlDocDumpMemoryEnc|xmlDocDumpFormatMemory|xmlSetProp")
        .allowlist_function("xmlNewProp|xmlStrcasecmp|xmlNodeGetContent")
        .allowlist_type("kr_.*|presence_api|pua_api|pres_ev|subscription|subs_entry|presentity|_str|sip_msg|db.*")
        .allowlist_type("rpc.*|pv_.*|_pv_.*")
        .allowlist_type("request_method|tm_binds|uac_req|dlg|cell|tmcb_params|sl_api|event|to_body|hdr_field|sip_uri")
        .allowlist_type("ua_pres|publ_info|subs_info|libxml_api|_xml(Doc|Dtd|Node|Attr|Ns)|xmlParserOption")
        .allowlist_type("list_entry|list_entry_t|param_export|dmq_api|dmq_peer|dmq_node|peer_reponse_t")
        .allowlist_var("HDR_.*|TMCB_.*|INSERT_TYPE|UPDATE_TYPE|FAKED_REPLY|DB1_.*|OP_.*|PV_.*|L_.*|[A-Z]+_STATUS")
        .allowlist_var("METHOD_.*|PARAM_INT|PARAM_STR|DEFAULT_DB_URL|request_method_METHOD_.*")
        .layout_tests(true)
        .generate_comments(false)
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::Consts);
    generate(builder).to_string()
}

/// The host's macros and inline functions as functions, and the assertions on the layouts of its structures.
fn compile_shim(root: &Path, out: &Path, host: &Host) {
    let mut shim = cc::Build::new();
    shim.file(out.join("layouts.c"));
    for entry in fs::read_dir(root.join("kamailio-glue/shim")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "c") {
            shim.file(path);
        }
    }
    for flag in &host.flags {
        shim.flag(flag);
    }
    for folder in xml_includes() {
        shim.include(folder);
    }
    println!("cargo:rustc-link-lib=xml2");
    shim.include(root.join("include"))
        .flag("-isystem")
        .flag(host.headers.to_str().unwrap())
        .flag("-Wall")
        // A function that no header declares is called with whatever arguments: later compilers refuse it anyway.
        .flag("-Werror=implicit-function-declaration")
        .flag("-Wno-address-of-packed-member")
        .warnings(false)
        .pic(true)
        .opt_level(2);
    shim.cargo_metadata(true).compile("kr_shim");
}

/// What the glue includes: the C entries and their types.
fn write_header(root: &Path, out: &Path) {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut header = cbindgen::Builder::new().with_config(config);
    let mut entries = Vec::new();
    rust_files(&root.join("src/abi"), &mut entries);
    entries.sort();
    // Only what the glue calls by name: C entries that keep theirs.
    entries.retain(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("no_mangle")));
    for path in entries {
        header = header.with_src(path);
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

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
