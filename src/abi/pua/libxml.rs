//! `bind_libxml_api`: the four look-ups in libxml2 documents that other modules share.
use crate::abi::c_types::libxml_api_t;
use crate::host::xml;
use crate::{log, sys};
use std::ffi::{CStr, c_char, c_int};

/// # Safety
/// `text` is null or NUL-terminated and lives during the call.
unsafe fn name<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: not null, and the caller's text ends with a NUL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

unsafe extern "C" fn node_by_name(
    node: *mut sys::_xmlNode,
    wanted: *const c_char,
    prefix: *const c_char,
) -> *mut sys::_xmlNode {
    entry!(node_by_name, std::ptr::null_mut(), {
        // SAFETY: names of the call in progress, or null.
        let (wanted, prefix) = (unsafe { name(wanted) }, unsafe { name(prefix) });
        // SAFETY: a node of the caller's document, or null.
        wanted.map_or(std::ptr::null_mut(), |wanted| unsafe { xml::find_node(node, wanted, prefix) })
    })
}

unsafe extern "C" fn document_node_by_name(
    document: *mut sys::_xmlDoc,
    wanted: *const c_char,
    prefix: *const c_char,
) -> *mut sys::_xmlNode {
    entry!(document_node_by_name, std::ptr::null_mut(), {
        // SAFETY: a document of the caller, or null.
        let children = unsafe { document.as_ref() }.map_or(std::ptr::null_mut(), |document| document.children);
        // SAFETY: its nodes, and names of the call in progress.
        unsafe { node_by_name(children, wanted, prefix) }
    })
}

unsafe extern "C" fn content_by_name(
    node: *mut sys::_xmlNode,
    wanted: *const c_char,
    prefix: *const c_char,
) -> *mut c_char {
    entry!(content_by_name, std::ptr::null_mut(), {
        // SAFETY: a node and names of the call in progress.
        let found = unsafe { node_by_name(node, wanted, prefix) };
        // SAFETY: null, or a node of the same document.
        unsafe { xml::node_content(found) as *mut c_char }
    })
}

unsafe extern "C" fn attribute_by_name(node: *mut sys::_xmlNode, wanted: *const c_char) -> *mut c_char {
    entry!(attribute_by_name, std::ptr::null_mut(), {
        // SAFETY: a name of the call in progress, or null.
        let wanted = unsafe { name(wanted) };
        // SAFETY: a node of the caller's document, or null.
        wanted.map_or(std::ptr::null_mut(), |wanted| unsafe { xml::attribute_content(node, wanted) } as *mut c_char)
    })
}

/// Fills the API for another module: 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_bind_libxml_api(api: *mut libxml_api_t) -> c_int {
    entry!(kr_bind_libxml_api, -1, {
        // SAFETY: null, or the structure of the module that binds, which nobody else has during the call.
        let Some(api) = (unsafe { api.as_mut() }) else {
            log!(Error, "bind_libxml_api: no structure to fill");
            return -1;
        };
        api.xmlDocGetNodeByName = Some(document_node_by_name);
        api.xmlNodeGetNodeByName = Some(node_by_name);
        api.xmlNodeGetNodeContentByName = Some(content_by_name);
        api.xmlNodeGetAttrContentByName = Some(attribute_by_name);
        0
    })
}
