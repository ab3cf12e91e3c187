//! The pure layers alone, for the fuzz targets (`fuzz/`): nothing of Kamailio is needed to build them.
#![allow(missing_docs, dead_code)]
#[macro_use]
pub mod reference;
pub mod cluster;
pub mod presence;
pub mod pua;
pub mod shm_safe;
pub mod sip;
pub mod time;

/// The edge to C strings, with the host's `str`.
#[path = "host/bytes.rs"]
pub mod bytes;
pub mod sys {
    #[allow(non_camel_case_types)]
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct _str {
        pub s: *mut libc::c_char,
        pub len: i32,
    }
}

/// The host that these layers are built for: any will do.
pub const HOST_VERSION: u32 = 5_006_003;

/// Panics, and what they have said; there is no log to write it to.
pub mod caught {
    pub fn text(panic: &(dyn std::any::Any + Send)) -> String {
        panic.downcast_ref::<&str>().map(|text| (*text).to_string()).unwrap_or_default()
    }

    /// What `work` comes to.
    ///
    /// # Errors
    ///
    /// Fails with what a panic in it has said.
    pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| text(&*panic))
    }
}

use presence::event_package::{Package, Packages};

/// Two registered packages.
pub fn packages() -> Packages {
    let named = |name| Package::plain(name, b"application/xml");
    Packages(vec![named(b"presence"), named(b"dialog;sla")])
}
