//! What other modules know of event packages: their bodies, and the rules of presentities.
use crate::presence::authorization::{Authorization, NoVerdict};
use crate::presence::event_package::{PackageId, PackageVerdict};
use crate::presence::resource::Resource;
use crate::presence::subscription::{Status, Subscription};

/// The event packages, as their modules carry them out.
pub trait EventPackages {
    /// Whether an XML document is well-formed by the measure of the parser that event packages use, and declares no
    /// entities.
    fn reads(&self, document: &[u8]) -> bool;
    /// Whether a document that is published for a resource is plain and well-formed, see
    /// [`is_plain`](crate::sip::xml_form::is_plain); `false` says nothing about the document.
    fn is_plain(&mut self, resource: &Resource, document: &[u8]) -> bool;
    /// The same document in UTF-8; `None` where it cannot be read.
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>>;
    /// Asks the package about the body of the request in hand.
    fn check_publish(&mut self, package: PackageId) -> PackageVerdict;
    /// Asks the package about the SUBSCRIBE in hand.
    fn check_subscribe(&mut self, package: PackageId) -> PackageVerdict;
    /// Puts documents together; `offline` is the place of one that has just been removed.
    fn aggregate(
        &mut self,
        package: PackageId,
        uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>>;
    /// The body as this watcher may see it; `None` leaves it as it is: the presentity has no rules, or they hide
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read or applied: then it is not known what the watcher may see.
    fn filter_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict>;
    /// The body made for this watcher; `None` leaves it as it is.
    fn watcher_body(&mut self, package: PackageId, subscription: &Subscription, body: Option<&[u8]>)
    -> Option<Vec<u8>>;
    /// What the presentity's rules say about this watcher, who stood at `before` until now.
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read, and when the event package cannot say whether the watcher is allowed.
    fn evaluate_rules(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        before: Status,
    ) -> Result<Authorization, NoVerdict>;
    /// Rules that were read are forgotten: the next evaluation reads them anew.
    fn forget_rules(&mut self) {}
}
