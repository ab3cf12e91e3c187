//! XML documents through the host's libxml2: bodies that are changed and written out again look as its other users
//! write them.
use super::bytes::slice;
use crate::sys;
use std::ffi::{CString, c_int};
use std::marker::PhantomData;

/// A parsed document; freed when dropped.
pub struct Document {
    raw: *mut sys::_xmlDoc,
}

/// An element of a document.
#[derive(Clone, Copy)]
pub struct Element<'d> {
    raw: *mut sys::_xmlNode,
    life: PhantomData<&'d Document>,
}

/// Text that libxml2 allocated, as bytes.
///
/// # Safety
/// `text` is null or a NUL-terminated string of libxml2 that nobody else frees.
unsafe fn take_text(text: *mut sys::xmlChar) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as promised.
    unsafe {
        let copy = super::bytes::c_text(text as *const _).to_vec();
        sys::kr_xml_free(text as *mut _);
        Some(copy)
    }
}

impl Document {
    /// Parses a document: nothing is fetched, no entity is replaced, nothing is printed.
    pub fn parse(text: &[u8]) -> Option<Document> {
        let options = sys::xmlParserOption_XML_PARSE_NONET
            | sys::xmlParserOption_XML_PARSE_NOERROR
            | sys::xmlParserOption_XML_PARSE_NOWARNING;
        let length = c_int::try_from(text.len()).ok()?;
        // SAFETY: the parser reads `length` bytes; URL and encoding may be null.
        let raw = unsafe {
            sys::xmlReadMemory(text.as_ptr() as *const _, length, std::ptr::null(), std::ptr::null(), options as c_int)
        };
        (!raw.is_null()).then_some(Document { raw })
    }

    /// Whether its document type declares entities, parameter entities among them.
    pub fn declares_entities(&self) -> bool {
        // SAFETY: the document and its internal subset live as long as `self`.
        unsafe { (*self.raw).intSubset.as_ref() }
            .is_some_and(|subset| !subset.entities.is_null() || !subset.pentities.is_null())
    }

    /// The document as text in UTF-8, which its declaration says.
    pub fn to_utf8(&self) -> Option<Vec<u8>> {
        let (mut text, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: fills text and length, which belong together and are freed here.
        unsafe {
            sys::xmlDocDumpMemoryEnc(self.raw, &mut text, &mut length, c"UTF-8".as_ptr());
            if text.is_null() || length <= 0 {
                return None;
            }
            let copy = slice(text, length as usize).to_vec();
            sys::kr_xml_free(text as *mut _);
            Some(copy)
        }
    }

    /// The first element of this name in document order, whatever its namespace and case.
    pub fn find(&self, name: &str) -> Option<Element<'_>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the document lives as long as `self`.
        let raw = unsafe { find_node((*self.raw).children, &name, None) };
        (!raw.is_null()).then_some(Element { raw, life: PhantomData })
    }

    /// The document as text, indented where libxml2 would.
    pub fn to_text(&self) -> Option<Vec<u8>> {
        let (mut text, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: fills text and length, which belong together and are freed here.
        unsafe {
            sys::xmlDocDumpFormatMemory(self.raw, &mut text, &mut length, 1);
            if text.is_null() || length <= 0 {
                return None;
            }
            let copy = slice(text, length as usize).to_vec();
            sys::kr_xml_free(text as *mut _);
            Some(copy)
        }
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        // SAFETY: parsed by `parse`, freed once.
        unsafe { sys::xmlFreeDoc(self.raw) }
    }
}

impl Element<'_> {
    /// The value of an attribute, whatever the case of its name.
    pub fn attribute(&self, name: &str) -> Option<Vec<u8>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the element lives as long as its document.
        unsafe { take_text(attribute_content(self.raw, &name)) }
    }

    /// Sets an attribute. Values of XML cannot hold a NUL.
    pub fn set(&self, name: &str, value: &[u8]) -> bool {
        let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return false };
        // SAFETY: libxml2 copies both strings.
        unsafe { !sys::xmlSetProp(self.raw, name.as_ptr() as *const _, value.as_ptr() as *const _).is_null() }
    }
}

/// Whether two names are the same but for case.
///
/// # Safety
/// `left` is null or NUL-terminated.
unsafe fn same_name(left: *const sys::xmlChar, right: &std::ffi::CStr) -> bool {
    // SAFETY: as promised; null is never equal.
    !left.is_null() && unsafe { sys::xmlStrcasecmp(left, right.as_ptr() as *const _) == 0 }
}

/// The first node of this name (and namespace prefix) among `node`, what is below it and what comes after it.
///
/// # Safety
/// `node` is null or a node of a living document.
pub unsafe fn find_node(
    mut node: *mut sys::_xmlNode,
    name: &std::ffi::CStr,
    prefix: Option<&std::ffi::CStr>,
) -> *mut sys::_xmlNode {
    while !node.is_null() {
        // SAFETY: nodes, their names and their namespaces live as long as the document; libxml2 bounds the depth.
        unsafe {
            if same_name((*node).name, name) {
                let fits = match prefix {
                    None => true,
                    Some(wanted) => (*node).ns.as_ref().is_some_and(|ns| same_name(ns.prefix, wanted)),
                };
                if fits {
                    return node;
                }
            }
            let below = find_node((*node).children, name, prefix);
            if !below.is_null() {
                return below;
            }
            node = (*node).next;
        }
    }
    std::ptr::null_mut()
}

/// The content of an attribute in libxml2's memory, or null.
///
/// # Safety
/// `node` is null or an element of a living document.
pub unsafe fn attribute_content(node: *mut sys::_xmlNode, name: &std::ffi::CStr) -> *mut sys::xmlChar {
    // SAFETY: the attributes of an element live as long as it does.
    unsafe {
        let mut attribute = if node.is_null() { std::ptr::null_mut() } else { (*node).properties };
        while !attribute.is_null() {
            if same_name((*attribute).name, name) {
                return sys::xmlNodeGetContent((*attribute).children);
            }
            attribute = (*attribute).next;
        }
        std::ptr::null_mut()
    }
}

/// The content of a node in libxml2's memory, or null.
///
/// # Safety
/// `node` is null or a node of a living document.
pub unsafe fn node_content(node: *mut sys::_xmlNode) -> *mut sys::xmlChar {
    if node.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: as promised.
    unsafe { sys::xmlNodeGetContent((*node).children) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_and_set() {
        let document = Document::parse(b"<a><b:C xmlns:b='urn:x' ID='1'/></a>").unwrap();
        let element = document.find("c").unwrap();
        assert_eq!(element.attribute("id"), Some(b"1".to_vec()));
        assert!(element.set("version", b"7"));
        let text = String::from_utf8(document.to_text().unwrap()).unwrap();
        assert!(text.contains("version=\"7\"") && text.starts_with("<?xml version=\"1.0\"?>"), "{text}");
        assert!(document.find("d").is_none());
        assert!(Document::parse(b"<a>").is_none());
    }
}
