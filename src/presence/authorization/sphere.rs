//! The sphere (RFC 4480 3.11) in a published document: rules may depend on it.
use crate::presence::composition::xml_value;
use crate::presence::error::StoreError;
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use quick_xml::Reader;
use quick_xml::events::Event;

/// The first `sphere` element's value: its text, or the name of the element inside it.
pub fn in_document(document: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::from_reader(document);
    // The text of the element that is being read.
    let mut inside: Option<Vec<u8>> = None;
    for _ in 0..10_000 {
        let event = reader.read_event().ok()?;
        match (&event, &mut inside) {
            (Event::Start(element) | Event::Empty(element), Some(text)) => {
                return said(text).or_else(|| Some(element.local_name().as_ref().to_vec()));
            }
            (Event::Start(element), None) if element.local_name().as_ref() == b"sphere" => inside = Some(Vec::new()),
            (Event::Text(part), Some(text)) => text.extend_from_slice(&xml_value::of_text(part)),
            (Event::CData(part), Some(text)) => text.extend_from_slice(part),
            (Event::End(_), Some(text)) => match said(text) {
                None => inside = None,
                value => return value,
            },
            (Event::Eof, _) => return None,
            _ => {}
        }
    }
    None
}

/// A text without the space around it; `None` where there is nothing else.
fn said(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    (!text.is_empty()).then(|| text.to_vec())
}

/// The sphere the presentity's documents name, the newest first.
///
/// # Errors
///
/// Fails when the documents cannot be read.
pub fn of_presentity<P: Ports>(ports: &mut P, resource: &Resource) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(ports.documents(resource)?.iter().rev().find_map(|publication| in_document(&publication.body)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_and_element_forms() {
        assert_eq!(super::in_document(b"<p><sphere>work</sphere></p>"), Some(b"work".to_vec()));
        assert_eq!(super::in_document(b"<p><r:sphere> <r:home/> </r:sphere></p>"), Some(b"home".to_vec()));
        assert_eq!(super::in_document(b"<p><sphere/></p>"), None);
        assert_eq!(super::in_document(b"<p><sphere> </sphere><sphere>home</sphere></p>"), Some(b"home".to_vec()));
        assert_eq!(
            super::in_document(b"<p><sphere>w<!-- c -->o&#114;<![CDATA[k]]> </sphere></p>"),
            Some(b"work".to_vec())
        );
        assert_eq!(super::in_document(b"<p><broken"), None);
    }
}
