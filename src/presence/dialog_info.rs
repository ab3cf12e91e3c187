//! Dialog documents (RFC 4235) as far as presence looks into them: dialog ids and whether all dialogs have ended.
use quick_xml::Reader;
use quick_xml::events::Event;

/// Deeper documents are not looked at.
const MAX_DEPTH: usize = 32;

/// What a dialog document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DialogInfo {
    /// The `id` of each dialog element, in order; elements without one are left out.
    pub ids: Vec<Vec<u8>>,
    /// The number of dialog elements.
    pub dialogs: usize,
    /// How many of them are terminated.
    pub terminated: usize,
}

impl DialogInfo {
    /// Whether there are dialogs and every one has ended.
    pub fn all_terminated(&self) -> bool {
        self.dialogs > 0 && self.dialogs == self.terminated
    }

    /// Reads a document; `None` when it is not well-formed or too deep.
    pub fn parse(document: &[u8]) -> Option<DialogInfo> {
        let mut reader = Reader::from_reader(document);
        let (mut info, mut depth, mut in_dialog, mut in_state) = (DialogInfo::default(), 0usize, None, false);
        let mut state = Vec::new();
        loop {
            match reader.read_event().ok()? {
                Event::Start(element) => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return None;
                    }
                    match element.local_name().as_ref() {
                        b"dialog" => {
                            in_dialog = Some(depth);
                            info.add_dialog(&element);
                        }
                        b"state" if in_dialog == Some(depth - 1) => {
                            in_state = true;
                            state.clear();
                        }
                        _ => {}
                    }
                }
                Event::Empty(element) if element.local_name().as_ref() == b"dialog" => info.add_dialog(&element),
                Event::Text(text) if in_state => state.extend_from_slice(&text),
                Event::End(element) => {
                    if in_state && element.local_name().as_ref() == b"state" {
                        in_state = false;
                        info.terminated += usize::from(state.trim_ascii() == b"terminated");
                    }
                    if in_dialog == Some(depth) {
                        in_dialog = None;
                    }
                    depth = depth.checked_sub(1)?;
                }
                Event::Eof => return (depth == 0).then_some(info),
                _ => {}
            }
        }
    }

    fn add_dialog(&mut self, element: &quick_xml::events::BytesStart<'_>) {
        self.dialogs += 1;
        if let Ok(Some(id)) = element.try_get_attribute("id") {
            self.ids.push(id.value.into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(dialogs: &str) -> Vec<u8> {
        format!("<?xml version=\"1.0\"?><!-- c --><dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\">{dialogs}</dialog-info>")
            .into_bytes()
    }

    #[test]
    fn every_dialog_counts() {
        let info = DialogInfo::parse(&document(
            "<dialog id=\"a\"><state>terminated</state></dialog> <other/> <dialog id='b'><state event=\"x\"> early </state></dialog>",
        ))
        .unwrap();
        assert_eq!(info.ids, [b"a".to_vec(), b"b".to_vec()]);
        assert!(!info.all_terminated());
        let over =
            document("<dialog id=\"a\"><state>terminated</state></dialog><dialog><state>terminated</state></dialog>");
        assert!(DialogInfo::parse(&over).unwrap().all_terminated());
    }

    #[test]
    fn no_dialogs_are_not_terminated() {
        assert!(!DialogInfo::parse(&document("")).unwrap().all_terminated());
        assert!(!DialogInfo::parse(&document("<dialog id='x'/>")).unwrap().all_terminated());
    }

    #[test]
    fn broken_and_deep_documents_are_refused() {
        assert_eq!(DialogInfo::parse(b"<dialog-info><dialog></dialog-info>"), None);
        assert_eq!(DialogInfo::parse("<a>".repeat(100).as_bytes()), None);
        assert_eq!(DialogInfo::parse(b"<dialog-info>"), None);
    }
}
