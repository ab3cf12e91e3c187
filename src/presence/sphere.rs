//! The sphere (RFC 4480 3.10) in a published document: rules may depend on it.
use super::error::StoreError;
use super::ports::Ports;
use super::resource::Resource;
use quick_xml::Reader;
use quick_xml::events::Event;

/// The first `sphere` element's value: its text, or the name of the element inside it.
pub fn of(document: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::from_reader(document);
    let mut inside = false;
    for _ in 0..10_000 {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) if inside => {
                return Some(element.local_name().as_ref().to_vec());
            }
            Event::Start(element) if element.local_name().as_ref() == b"sphere" => inside = true,
            Event::Text(text) if inside && !text.trim_ascii().is_empty() => return Some(text.trim_ascii().to_vec()),
            Event::End(element) if element.local_name().as_ref() == b"sphere" => inside = false,
            Event::Eof => return None,
            _ => {}
        }
    }
    None
}

/// The sphere the presentity's documents name, the newest first.
///
/// # Errors
///
/// Fails when the documents cannot be read.
pub fn of_presentity<P: Ports>(ports: &mut P, resource: &Resource) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(ports.documents(resource)?.iter().rev().find_map(|publication| of(&publication.body)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_and_element_forms() {
        assert_eq!(super::of(b"<p><sphere>work</sphere></p>"), Some(b"work".to_vec()));
        assert_eq!(super::of(b"<p><r:sphere> <r:home/> </r:sphere></p>"), Some(b"home".to_vec()));
        assert_eq!(super::of(b"<p><sphere/></p>"), None);
        assert_eq!(super::of(b"<p><broken"), None);
    }
}
