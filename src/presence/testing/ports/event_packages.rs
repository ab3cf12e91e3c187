//! Packages that join bodies by bars, and rules that a test sets.
use crate::presence::authorization::{Authorization, NoVerdict};
use crate::presence::event_package::{PackageId, PackageVerdict};
use crate::presence::ports::event_packages::EventPackages;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::presence::testing::MemoryPorts;

/// Whether a document has one root element and all its elements are closed.
fn well_formed(document: &[u8]) -> bool {
    use quick_xml::events::Event as Xml;
    let mut reader = quick_xml::Reader::from_reader(document);
    let (mut depth, mut roots) = (0usize, 0usize);
    loop {
        match reader.read_event() {
            Ok(Xml::Start(_)) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Ok(Xml::Empty(_)) => roots += usize::from(depth == 0),
            Ok(Xml::End(_)) => depth = depth.saturating_sub(1),
            Ok(Xml::Text(text)) if depth == 0 && !text.trim_ascii().is_empty() => return false,
            Ok(Xml::DocType(_)) | Err(_) => return false,
            Ok(Xml::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
        }
    }
}

impl EventPackages for MemoryPorts {
    fn reads(&self, document: &[u8]) -> bool {
        well_formed(document)
    }
    fn is_plain(&mut self, _resource: &Resource, document: &[u8]) -> bool {
        crate::sip::xml_form::is_plain(document)
    }
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>> {
        Some(document.to_vec())
    }
    fn check_publish(&mut self, _package: PackageId) -> PackageVerdict {
        PackageVerdict::Fine
    }
    fn check_subscribe(&mut self, _package: PackageId) -> PackageVerdict {
        PackageVerdict::Fine
    }
    fn aggregate(
        &mut self,
        _package: PackageId,
        _uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>> {
        if self.makes_nothing_of.is_some_and(|makes_nothing_of| makes_nothing_of(documents)) {
            return None;
        }
        let shown = |(at, body): (usize, &&[u8])| {
            let closed = if Some(at) == offline { "closed " } else { "" };
            format!("{closed}{}", String::from_utf8_lossy(body))
        };
        let bodies: Vec<String> = documents.iter().enumerate().map(shown).collect();
        (!bodies.is_empty()).then(|| bodies.join("|").into_bytes())
    }
    fn filter_body(
        &mut self,
        _package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict> {
        if let Some(why) = self.no_verdict {
            return Err(why);
        }
        let watcher = String::from_utf8_lossy(subscription.get(Field::WatcherUser)).into_owned();
        Ok(Some([b"for ", watcher.as_bytes(), b": ", body].concat()))
    }
    fn watcher_body(&mut self, _: PackageId, _: &Subscription, _: Option<&[u8]>) -> Option<Vec<u8>> {
        None
    }
    fn evaluate_rules(
        &mut self,
        _package: PackageId,
        subscription: &Subscription,
        _before: Status,
    ) -> Result<Authorization, NoVerdict> {
        self.evaluations += 1;
        if let Some(why) = self.no_verdict {
            return Err(why);
        }
        let names = (subscription.get(Field::PresUri).to_vec(), subscription.watcher_uri());
        let pending = Authorization { status: Status::Pending, reason: Vec::new() };
        let said = self.rules.get(&names).cloned().unwrap_or(pending);
        if let Some(meanwhile) = self.while_judging.pop_front() {
            meanwhile(self);
        }
        Ok(said)
    }
}
