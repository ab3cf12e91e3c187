//! The ports of event packages: what their modules make of bodies and decide about watchers, or what is foreseen of it.
use crate::presence::authorization::{Authorization, NoVerdict};
use crate::presence::event_package::{Bodies, BodyCheck, Package, PackageId, PackageVerdict, Trait};
use crate::presence::ports::event_packages::EventPackages;
use crate::presence::resource::Resource;
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::packages::unreadable;
use crate::server::packages::version_patch::with_version;
use crate::sip::{uri, xml_form};

impl EventPackages for Context<'_> {
    fn reads(&self, document: &[u8]) -> bool {
        unreadable::reads(document)
    }
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>> {
        unreadable::in_utf8(document)
    }
    fn check_publish(&mut self, package: PackageId) -> PackageVerdict {
        match self.message {
            // Packages read the length of the body from Content-Length without looking whether it is there.
            Some(message) if message.has_content_length() => {
                let check = || self.registry.check_publish(package, message);
                match self.config.omit_xml_check && self.packages.get(package).check == BodyCheck::Form {
                    true => self.process.omitted_check.verdict(check),
                    false => check(),
                }
            }
            _ => PackageVerdict::Fine,
        }
    }
    fn check_subscribe(&mut self, package: PackageId) -> PackageVerdict {
        match self.message {
            Some(message) => self.process.registry.check_subscribe(package, message),
            None => PackageVerdict::Fine,
        }
    }
    fn aggregate(
        &mut self,
        package: PackageId,
        uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>> {
        fault_point!("compose");
        let uri::PlainUri { user, host: domain } = uri::split(uri);
        let ask = || self.process.registry.aggregate(package, user, domain, documents, offline);
        match (documents, offline) {
            ([single], None) if self.config.predict_bodies => {
                let found = || self.process.foreseen_body.take(uri, single);
                let expected = || found().or_else(|| foreseen(self.packages.get(package), uri, single));
                self.process.single_document_bodies.body(package, expected, ask)
            }
            _ => ask(),
        }
    }
    fn is_plain(&mut self, resource: &Resource, document: &[u8]) -> bool {
        let package = self.packages.get(resource.event);
        let may_be_shown = self.config.predict_bodies
            && package.has_trait(Trait::Aggregates)
            && self.process.single_document_bodies.may_be_foreseen(resource.event)
            && self.shared.tables.shows_one_document(resource);
        let body = may_be_shown.then(|| foreseen(package, &resource.uri, document)).flatten();
        match body {
            Some(body) => {
                self.process.foreseen_body.keep(&resource.uri, document, body);
                true
            }
            None => xml_form::is_plain(document),
        }
    }
    fn filter_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict> {
        self.process.registry.filter_body(package, subscription, body)
    }
    fn watcher_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        let ask = || self.process.registry.watcher_body(package, subscription, body);
        let predicts = self.config.predict_bodies && self.config.share_watcher_bodies;
        match body {
            Some(body) if predicts && self.packages.get(package).bodies == Bodies::ByVersion => {
                self.process.versions.body(package, || with_version(body, subscription.state.version), ask)
            }
            _ => ask(),
        }
    }
    fn evaluate_rules(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        before: Status,
    ) -> Result<Authorization, NoVerdict> {
        // As with stock, which asks for no rules there.
        let without_rules = (!self.storage.has_rows()).then_some(Status::Active);
        self.process.registry.evaluate_rules(package, subscription, before, without_rules)
    }
    fn forget_rules(&mut self) {
        self.registry.begin_pass();
    }
}

/// What a package makes of a single document, where that is plain to see.
fn foreseen(package: &Package, presentity: &[u8], document: &[u8]) -> Option<Vec<u8>> {
    if package.is_dialog() {
        let uri::PlainUri { user, host: domain } = uri::split(presentity);
        return xml_form::dialog_info(document, &[b"sip:", user, b"@", domain].concat());
    }
    // presence_xml makes nothing of a document that is none of its own.
    match package.name == b"presence" && !xml_form::has_root(document, b"presence") {
        true => None,
        false => xml_form::formatted(document),
    }
}
