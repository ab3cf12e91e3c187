//! Documents that others wrote. What is said of a plain document is what libxml2 says of it.
#![no_main]
use kamailio_presence_fuzz::presence::authorization::sphere;
use kamailio_presence_fuzz::presence::composition::dialog_info::DialogInfo;
use kamailio_presence_fuzz::presence::publication::Dialogs;
use kamailio_presence_fuzz::sip::xml_form;
use libfuzzer_sys::fuzz_target;
use std::ffi::{c_char, c_int, c_void};

#[link(name = "xml2")]
unsafe extern "C" {
    fn xmlReadMemory(
        text: *const c_char,
        len: c_int,
        url: *const c_char,
        enc: *const c_char,
        options: c_int,
    ) -> *mut c_void;
    fn xmlDocDumpFormatMemory(doc: *mut c_void, out: *mut *mut c_char, len: *mut c_int, format: c_int);
    fn xmlFreeDoc(doc: *mut c_void);
}

/// XML_PARSE_NONET, XML_PARSE_NOERROR, XML_PARSE_NOWARNING.
const OPTIONS: c_int = 1 << 11 | 1 << 5 | 1 << 6;

/// What libxml2 writes for a document; `None` where it is not well-formed.
fn oracle(document: &[u8]) -> Option<Vec<u8>> {
    // SAFETY: libxml2 reads as many bytes as it is given, and what it gives is freed.
    unsafe {
        let null = std::ptr::null();
        let parsed = xmlReadMemory(document.as_ptr().cast(), document.len() as c_int, null, null, OPTIONS);
        if parsed.is_null() {
            return None;
        }
        let (mut text, mut len) = (std::ptr::null_mut(), 0);
        xmlDocDumpFormatMemory(parsed, &mut text, &mut len, 1);
        xmlFreeDoc(parsed);
        let copy = std::slice::from_raw_parts(text.cast::<u8>(), len as usize).to_vec();
        libc::free(text.cast());
        Some(copy)
    }
}

fuzz_target!(|data: &[u8]| {
    if xml_form::is_plain(data) {
        assert!(oracle(data).is_some(), "called plain, but libxml2 refuses it");
    }
    if let Some(formatted) = xml_form::formatted(data) {
        assert_eq!(Some(formatted), oracle(data), "libxml2 writes it otherwise");
    }
    if let Some(made) = xml_form::dialog_info(data, b"sip:a@b") {
        assert!(oracle(data).is_some() && oracle(&made).is_some());
    }
    if let Some(info) = DialogInfo::parse(data) {
        assert!(info.terminated <= info.dialogs);
    }
    let _ = (sphere::in_document(data), Dialogs::of_document(data));
});
