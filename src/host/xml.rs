//! XML documents through the host's libxml2: bodies that are changed and written out again look as its other users
//! write them.
use super::bytes::slice;
use crate::sys;
use std::ffi::{CString, c_int};
use std::marker::PhantomData;

/// A parsed document; freed when dropped.
pub struct XmlDocument {
    raw: *mut sys::_xmlDoc,
}

/// An element of a document.
#[derive(Clone, Copy)]
pub struct Element<'d> {
    raw: *mut sys::_xmlNode,
    life: PhantomData<&'d XmlDocument>,
}

/// Text that libxml2 allocated, as bytes.
///
/// # Safety
/// `text` is null or a NUL-terminated string of libxml2 that nobody else frees.
unsafe fn take_text(text: *mut sys::xmlChar) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated, by the caller's word.
    let copy = unsafe { super::bytes::c_text(text as *const _) }.to_vec();
    // SAFETY: libxml2 allocated it, and nobody else frees it.
    unsafe { sys::kr_xml_free(text as *mut _) };
    Some(copy)
}

/// A document that libxml2 has written, as bytes; `None` where it had no memory.
///
/// # Safety
/// `text` is null, or has `length` bytes of libxml2's memory that nobody else frees.
unsafe fn take_written(text: *mut sys::xmlChar, length: c_int) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: libxml2 has written `length` bytes to the text that the caller got from it.
    let copy = unsafe { slice(text, length.max(0) as usize) }.to_vec();
    // SAFETY: libxml2 has allocated the text for its caller, and it was copied.
    unsafe { sys::kr_xml_free(text as *mut _) };
    (!copy.is_empty()).then_some(copy)
}

impl XmlDocument {
    /// Parses a document: nothing is fetched, no entity is replaced, nothing is printed.
    pub fn parse(text: &[u8]) -> Option<XmlDocument> {
        let options = sys::xmlParserOption_XML_PARSE_NONET
            | sys::xmlParserOption_XML_PARSE_NOERROR
            | sys::xmlParserOption_XML_PARSE_NOWARNING;
        let length = c_int::try_from(text.len()).ok()?;
        // SAFETY: the parser reads `length` bytes; URL and encoding may be null.
        let raw = unsafe {
            sys::xmlReadMemory(text.as_ptr() as *const _, length, std::ptr::null(), std::ptr::null(), options as c_int)
        };
        let document = (!raw.is_null()).then_some(XmlDocument { raw });
        fault_point!("document");
        document
    }

    /// Whether its document type declares entities, parameter entities among them.
    pub fn declares_entities(&self) -> bool {
        // SAFETY: the document lives as long as `self`.
        let subset = unsafe { (*self.raw).intSubset };
        // SAFETY: null, or the internal subset, which libxml2 frees with its document.
        unsafe { subset.as_ref() }.is_some_and(|subset| !subset.entities.is_null() || !subset.pentities.is_null())
    }

    /// The document as text in UTF-8, which its declaration says.
    pub fn to_utf8(&self) -> Option<Vec<u8>> {
        let (mut text, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: the document is ours; libxml2 fills both places.
        unsafe { sys::xmlDocDumpMemoryEnc(self.raw, &mut text, &mut length, c"UTF-8".as_ptr()) };
        // SAFETY: libxml2 has set pointer and length together, or has left null and 0.
        unsafe { take_written(text, length) }
    }

    /// The first element of this name in document order, whatever its namespace and case.
    pub fn find(&self, name: &str) -> Option<Element<'_>> {
        let name = CString::new(name).ok()?;
        // SAFETY: the document lives as long as `self`.
        let children = unsafe { (*self.raw).children };
        // SAFETY: the nodes of a document live as long as the document, which `self` owns.
        let raw = unsafe { find_node(children, &name, None) };
        (!raw.is_null()).then_some(Element { raw, life: PhantomData })
    }

    /// The document as text, indented where libxml2 would.
    pub fn to_text(&self) -> Option<Vec<u8>> {
        let (mut text, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: the document is ours; libxml2 fills both places.
        unsafe { sys::xmlDocDumpFormatMemory(self.raw, &mut text, &mut length, 1) };
        // SAFETY: libxml2 has set pointer and length together, or has left null and 0.
        unsafe { take_written(text, length) }
    }
}

impl Drop for XmlDocument {
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
        let content = unsafe { attribute_content(self.raw, &name) };
        // SAFETY: a copy that libxml2 made for us, or null.
        unsafe { take_text(content) }
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
    // SAFETY: the caller hands in null or a name that ends with a NUL; null is never equal.
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
    // SAFETY: nodes live as long as the document.
    while let Some(found) = unsafe { node.as_ref() } {
        // SAFETY: null, or a namespace of the same document.
        let namespace = unsafe { found.ns.as_ref() }.map_or(std::ptr::null(), |namespace| namespace.prefix);
        // SAFETY: names live as long as the document.
        let fits = prefix.is_none_or(|prefix| unsafe { same_name(namespace, prefix) });
        // SAFETY: the name of a node is a text of its document, which lives as long as `found` does.
        if fits && unsafe { same_name(found.name, name) } {
            return node;
        }
        // SAFETY: nodes of the same document; libxml2 bounds their depth.
        let below = unsafe { find_node(found.children, name, prefix) };
        if !below.is_null() {
            return below;
        }
        node = found.next;
    }
    std::ptr::null_mut()
}

/// The content of an attribute in libxml2's memory, or null.
///
/// # Safety
/// `node` is null or an element of a living document.
pub unsafe fn attribute_content(node: *mut sys::_xmlNode, name: &std::ffi::CStr) -> *mut sys::xmlChar {
    // SAFETY: null, or an element, by the caller's word.
    let mut attribute = unsafe { node.as_ref() }.map_or(std::ptr::null_mut(), |node| node.properties);
    // SAFETY: the attributes of an element live as long as it does.
    while let Some(found) = unsafe { attribute.as_ref() } {
        // SAFETY: the name of an attribute lives as long as the attribute, and ends with a NUL.
        if unsafe { same_name(found.name, name) } {
            // SAFETY: libxml2 copies what is below a node, or below null.
            return unsafe { sys::xmlNodeGetContent(found.children) };
        }
        attribute = found.next;
    }
    std::ptr::null_mut()
}

/// The content of a node in libxml2's memory, or null.
///
/// # Safety
/// `node` is null or a node of a living document.
pub unsafe fn node_content(node: *mut sys::_xmlNode) -> *mut sys::xmlChar {
    // SAFETY: null, or a node, by the caller's word.
    let Some(node) = (unsafe { node.as_ref() }) else { return std::ptr::null_mut() };
    // SAFETY: libxml2 copies what is below a node, or below null.
    unsafe { sys::xmlNodeGetContent(node.children) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_and_set() {
        let document = XmlDocument::parse(b"<a><b:C xmlns:b='urn:x' ID='1'/></a>").unwrap();
        let element = document.find("c").unwrap();
        assert_eq!(element.attribute("id"), Some(b"1".to_vec()));
        assert!(element.set("version", b"7"));
        let text = String::from_utf8(document.to_text().unwrap()).unwrap();
        assert!(text.contains("version=\"7\"") && text.starts_with("<?xml version=\"1.0\"?>"), "{text}");
        assert!(document.find("d").is_none());
        assert!(XmlDocument::parse(b"<a>").is_none());
    }
}
