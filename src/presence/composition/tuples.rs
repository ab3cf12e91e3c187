//! Tuples of presence documents (RFC 3863 4.1.2) as far as presence looks into them: whether documents speak of the
//! same one.
use super::dialog_info::Attributes;
use super::xml_value;
use crate::presence::publication::Publication;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::collections::BTreeSet;

/// Whether two of these documents name one tuple: a device that has forgotten its entity tag publishes anew.
pub fn clash(documents: &[Publication]) -> bool {
    if documents.len() < 2 {
        return false;
    }
    let mut known: BTreeSet<Vec<u8>> = BTreeSet::new();
    documents.iter().any(|document| {
        let own: BTreeSet<Vec<u8>> = ids(&document.body).into_iter().collect();
        let clashes = own.iter().any(|id| known.contains(id));
        known.extend(own);
        clashes
    })
}

/// The ids of a document's tuples, as far as it can be read.
fn ids(document: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut ids) = (Reader::from_reader(document), Vec::new());
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) if element.local_name().as_ref() == b"tuple" => {
                let id = Attributes(element.attributes_raw()).named(b"id");
                ids.extend(id.map(|id| xml_value::of_attribute(id).into_owned()));
            }
            Ok(Event::Eof) | Err(_) => return ids,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_name_one_tuple() {
        let document = |tuples: &[&str]| {
            let one = |id: &&str| format!("<p:tuple id='{id}'/><tuple/>");
            let inside = tuples.iter().map(one).collect::<Vec<_>>().concat();
            Publication { body: format!("<presence>{inside}</presence>").into_bytes(), ..Publication::default() }
        };
        assert!(!clash(&[document(&["a", "a"])]));
        assert!(!clash(&[document(&["a"]), document(&["b", "c"]), document(&[])]));
        assert!(clash(&[document(&["a"]), document(&["b"]), document(&["c", "a"])]));
        assert!(clash(&[document(&["a&amp;b"]), document(&["a&#38;b"])]));
        assert!(!clash(&[document(&["a"]), Publication { body: b"<<".to_vec(), ..Publication::default() }]));
    }
}
