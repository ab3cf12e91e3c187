//! Phones for the test server: short ways to send it a request.
use super::{MemoryPorts, Reply};
use crate::presence::error::Failure;
use crate::presence::event_package::PackageId;
use crate::presence::expires::Expires;
use crate::presence::publication::publish;
use crate::presence::publication::publish_request::PublishRequest;
use crate::presence::subscription::subscribe;
use crate::presence::subscription::subscribe::Party;
use crate::sip::checked::{HostPart, UriText, UserPart, Word};
use crate::sip::entity_tag::EntityTag;

/// A PUBLISH of a user of example.org.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The user.
    pub user: &'a str,
    /// The package.
    pub event: PackageId,
    /// SIP-If-Match.
    pub etag: Option<&'a str>,
    /// Expires.
    pub expires: Option<u32>,
    /// The body.
    pub body: Option<&'a str>,
    /// The Contact that is not notified of the change.
    pub sender: &'a str,
}

impl<'a> Publish<'a> {
    /// An initial PUBLISH.
    pub fn new(user: &'a str, event: PackageId, body: &'a str) -> Self {
        Publish { user, event, etag: None, expires: Some(600), body: Some(body), sender: "" }
    }

    /// Sends it; the entity tag of its 200.
    pub fn send(self, server: &mut MemoryPorts) -> Result<String, Failure> {
        let package = *server.packages.0.get(usize::from(self.event.0)).expect("a registered package");
        let request = PublishRequest {
            event: Some(package.name),
            user: self.user.as_bytes(),
            domain: b"example.org",
            etag: self.etag.map(|etag| EntityTag::new(etag.as_bytes())),
            expires: self.expires.map(Expires::from),
            content_type: self.body.map(|_| package.content_type),
            content_coding: None,
            body: self.body.map(str::as_bytes),
            sender: self.sender.as_bytes(),
            priority: None,
        };
        let before = server.replies.len();
        publish::handle(server, &request)?;
        // Replies of other processes may have come after it.
        let reply = server.replies.get(before).expect("a PUBLISH that was carried out is answered");
        assert_eq!(reply.code, 200);
        Ok(reply.header("SIP-ETag").expect("an entity tag").to_string())
    }
}

/// A SUBSCRIBE of one user of example.org to another; the watcher's name is its Call-ID and From tag.
#[derive(Debug, Clone)]
pub struct Subscribe<'a> {
    /// The watcher.
    pub watcher: &'a str,
    /// The presentity.
    pub presentity: &'a str,
    /// The value of the Event header.
    pub event: &'a str,
    /// Expires.
    pub expires: Option<u32>,
    /// CSeq.
    pub cseq: u32,
    /// The To tag; empty for an initial SUBSCRIBE.
    pub to_tag: String,
    /// The Call-ID where it is not the watcher's name.
    pub call_id: Option<&'a str>,
}

impl<'a> Subscribe<'a> {
    /// An initial SUBSCRIBE.
    pub fn new(watcher: &'a str, presentity: &'a str, event: &'a str) -> Self {
        Subscribe { watcher, presentity, event, expires: Some(600), cseq: 1, to_tag: String::new(), call_id: None }
    }

    /// The SUBSCRIBE with this CSeq in the dialog that the server has stored.
    pub fn in_dialog(self, server: &MemoryPorts, cseq: u32) -> Self {
        let call_id = self.call_id.unwrap_or(self.watcher);
        let stored = server.stored(call_id).expect("a stored subscription");
        let to_tag = String::from_utf8_lossy(stored.dialog().to_tag).into_owned();
        Subscribe { cseq, to_tag, ..self }
    }

    /// Sends it; the reply.
    pub fn send(self, server: &mut MemoryPorts) -> Result<Reply, Failure> {
        let contact = format!("sip:{}@192.0.2.1", self.watcher);
        let uri = |user: &str| format!("sip:{user}@example.org");
        let (to_uri, from_uri) = (uri(self.presentity), uri(self.watcher));
        let party = |uri: &'_ str, user: &'_ str, tag: &'_ str| -> Party<'static> {
            // The strings of a test live as long as the test program.
            let leak = |text: &str| -> &'static [u8] { String::leak(text.to_string()).as_bytes() };
            Party {
                uri: UriText::new(leak(uri)).expect("a URI"),
                user: UserPart::new(leak(user)).expect("a user"),
                host: HostPart::new(b"example.org").expect("a host"),
                tag: (!tag.is_empty()).then(|| Word::new(leak(tag)).expect("a tag")),
            }
        };
        let request = subscribe::SubscribeRequest {
            event: Some(self.event.as_bytes()),
            expires: self.expires.map(Expires::from),
            user: UserPart::new(self.presentity.as_bytes()).expect("a user"),
            domain: HostPart::new(b"example.org").expect("a host"),
            to: party(&to_uri, self.presentity, &self.to_tag),
            from: party(&from_uri, self.watcher, self.watcher),
            call_id: Word::new(self.call_id.unwrap_or(self.watcher).as_bytes()).expect("a Call-ID"),
            cseq: self.cseq,
            contact: UriText::new(contact.as_bytes()).expect("a Contact"),
            local_contact: b"sip:127.0.0.1:5060",
            ..subscribe::SubscribeRequest::default()
        };
        let before = server.replies.len();
        subscribe::handle(server, &request)?;
        Ok(server.replies.get(before).expect("a SUBSCRIBE that was carried out is answered").clone())
    }
}

/// The status of a refused request.
pub fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(Failure::Reject { code, .. }) => code,
        Err(_) => 500,
    }
}

/// A PIDF document with this word in it.
pub fn pidf(word: &str) -> String {
    format!("<presence><basic>{word}</basic></presence>")
}

/// A dialog-info document of one dialog.
pub fn dialog(id: &str, state: &str) -> String {
    format!("<dialog-info><dialog id=\"{id}\"><state>{state}</state></dialog></dialog-info>")
}
