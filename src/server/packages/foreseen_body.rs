//! The body that a package is going to make of a document which was just published and which somebody watches: it is
//! found in the pass that checks the document, and is there when the watchers are notified.
use std::cell::RefCell;

/// What was found of the last document that this process checked so.
#[derive(Default)]
pub struct ForeseenBody(RefCell<Option<Found>>);

struct Found {
    presentity: Vec<u8>,
    document: Vec<u8>,
    body: Vec<u8>,
}

impl ForeseenBody {
    /// Keeps what was found, in place of what was found before.
    pub fn keep(&self, presentity: &[u8], document: &[u8], body: Vec<u8>) {
        *self.0.borrow_mut() = Some(Found { presentity: presentity.to_vec(), document: document.to_vec(), body });
    }

    /// Gives what was found of this document, once.
    pub fn take(&self, presentity: &[u8], document: &[u8]) -> Option<Vec<u8>> {
        let is_of = |found: &mut Found| found.document == document && found.presentity == presentity;
        self.0.borrow_mut().take_if(is_of).map(|found| found.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_that_of_its_document_and_presentity() {
        let foreseen = ForeseenBody::default();
        foreseen.keep(b"sip:a@x", b"<p/>", b"body".to_vec());
        assert_eq!(foreseen.take(b"sip:b@x", b"<p/>"), None);
        assert_eq!(foreseen.take(b"sip:a@x", b"<q/>"), None);
        assert_eq!(foreseen.take(b"sip:a@x", b"<p/>"), Some(b"body".to_vec()));
        assert_eq!(foreseen.take(b"sip:a@x", b"<p/>"), None, "it is given once");
        foreseen.keep(b"sip:a@x", b"<p/>", b"body".to_vec());
        foreseen.keep(b"sip:a@x", b"<q/>", b"other".to_vec());
        assert_eq!(foreseen.take(b"sip:a@x", b"<p/>"), None, "the last one is kept");
    }
}
