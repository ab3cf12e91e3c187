//! Which function of which module a pointer leads to.
use std::ffi::{CStr, c_void};

/// Whether the function at an address is the one called `name` in the module file `module`.
pub fn is(address: usize, module: &str, name: &CStr) -> bool {
    let function = address as *const c_void;
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `dladdr` takes any address, and fills the structure.
    let is_known = unsafe { libc::dladdr(function, &mut found) } != 0;
    if !is_known || found.dli_sname.is_null() || found.dli_fname.is_null() {
        return false;
    }
    // SAFETY: the names end with a NUL and live as long as the module is loaded, which is for ever.
    let text = |name| unsafe { CStr::from_ptr(name) };
    text(found.dli_sname) == name
        && std::ptr::eq(found.dli_saddr, function)
        && text(found.dli_fname).to_bytes().ends_with(module.as_bytes())
}
