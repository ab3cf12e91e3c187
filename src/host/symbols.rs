//! Which function of which module a pointer leads to.
use std::ffi::{CStr, c_void};

/// Whether the function at an address is the one called `name` in the module file `module`.
pub fn is(address: usize, module: &str, name: &CStr) -> bool {
    let function = address as *const c_void;
    // SAFETY: the structure is filled by `dladdr`, whose strings live as long as the module is loaded, which is for
    // ever.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(function, &mut found) == 0 || found.dli_sname.is_null() || found.dli_fname.is_null() {
            return false;
        }
        let file = CStr::from_ptr(found.dli_fname).to_bytes();
        CStr::from_ptr(found.dli_sname) == name
            && std::ptr::eq(found.dli_saddr, function)
            && file.ends_with(module.as_bytes())
    }
}
