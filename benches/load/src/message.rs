//! SIP messages as far as a load generator needs them: requests made from parts, answers and NOTIFYs taken apart.

/// A datagram, with the headers that matter here; each is the text behind the colon.
#[derive(Default)]
pub struct Message<'a> {
    /// The first line.
    pub first_line: &'a str,
    /// All Via lines, whole, in their order.
    pub vias: Vec<&'a str>,
    /// The value of From.
    pub from: &'a str,
    /// The value of To.
    pub to: &'a str,
    /// The value of Call-ID.
    pub call_id: &'a str,
    /// The value of CSeq.
    pub cseq: &'a str,
    /// The value of Contact.
    pub contact: &'a str,
    /// The value of SIP-ETag.
    pub etag: &'a str,
    /// The value of Subscription-State.
    pub state: &'a str,
    /// What follows the empty line.
    pub body: &'a str,
}

impl<'a> Message<'a> {
    /// Takes a datagram apart; `None` for what is not SIP.
    pub fn parse(datagram: &'a [u8]) -> Option<Message<'a>> {
        let text = std::str::from_utf8(datagram).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut message = Message { first_line: lines.next()?, body, ..Message::default() };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim_end() {
                "Via" => message.vias.push(line),
                "From" => message.from = value,
                "To" => message.to = value,
                "Call-ID" => message.call_id = value,
                "CSeq" => message.cseq = value,
                "Contact" => message.contact = value,
                "SIP-ETag" => message.etag = value,
                "Subscription-State" => message.state = value,
                _ => {}
            }
        }
        Some(message)
    }

    /// The code of an answer; `None` for a request.
    pub fn code(&self) -> Option<u16> {
        self.first_line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The number in our branch.
    pub fn branch(&self) -> Option<u64> {
        let after = self.vias.first()?.split_once("branch=z9hG4bKload")?.1;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// The whole branch of the topmost Via.
    pub fn raw_branch(&self) -> &'a str {
        let after = self.vias.first().and_then(|via| via.split_once("branch=")).map_or("", |(_, after)| after);
        after.split(';').next().unwrap_or_default()
    }

    /// The number of CSeq.
    pub fn sequence(&self) -> u32 {
        self.cseq.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// 200 to this request.
    pub fn ok(&self) -> String {
        let mut answer = String::with_capacity(512);
        answer.push_str("SIP/2.0 200 OK\r\n");
        for via in &self.vias {
            answer.push_str(via);
            answer.push_str("\r\n");
        }
        for (name, value) in [("From", self.from), ("To", self.to), ("Call-ID", self.call_id), ("CSeq", self.cseq)] {
            answer.push_str(name);
            answer.push_str(": ");
            answer.push_str(value);
            answer.push_str("\r\n");
        }
        answer.push_str("Content-Length: 0\r\n\r\n");
        answer
    }
}

/// The tag parameter of a From or To.
pub fn tag(value: &str) -> &str {
    value.split_once(";tag=").map_or("", |(_, tag)| tag.split(';').next().unwrap_or_default())
}

/// The URI between angle brackets.
pub fn uri(value: &str) -> &str {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri)
}

/// The mark that [`document`] left in a body.
pub fn mark(body: &str) -> Option<u64> {
    let after = body.split_once("seq-")?.1;
    after.split('-').next()?.parse().ok()
}

/// The event packages that the load knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// `presence`, PIDF.
    Presence,
    /// `dialog`: the lamps of desk phones.
    Dialog,
}

impl Package {
    /// The package of a name.
    pub fn named(name: &str) -> Option<Package> {
        match name {
            "presence" => Some(Package::Presence),
            "dialog" => Some(Package::Dialog),
            _ => None,
        }
    }

    /// The package's name in the Event header.
    pub fn name(self) -> &'static str {
        match self {
            Package::Presence => "presence",
            Package::Dialog => "dialog",
        }
    }

    /// The type of its documents.
    pub fn content_type(self) -> &'static str {
        match self {
            Package::Presence => "application/pidf+xml",
            Package::Dialog => "application/dialog-info+xml",
        }
    }

    /// A document of about 500 bytes that says who it is about, and carries a number.
    pub fn document(self, entity: &str, number: u64) -> String {
        match self {
            Package::Presence => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
                 xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" \
                 entity=\"{entity}\">\r\n  <tuple id=\"t1\">\r\n    <status><basic>open</basic></status>\r\n    \
                 <contact priority=\"0.8\">{entity}</contact>\r\n    <note>seq-{number}-</note>\r\n  </tuple>\r\n  \
                 <dm:person id=\"p1\"><rpid:activities><rpid:on-the-phone/></rpid:activities></dm:person>\r\n\
                 </presence>\r\n"
            ),
            Package::Dialog => format!(
                "<?xml version=\"1.0\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"0\" \
                 state=\"full\" entity=\"{entity}\">\r\n  <dialog id=\"seq-{number}-\" call-id=\"call-{number}\" \
                 local-tag=\"a\" remote-tag=\"b\" direction=\"initiator\">\r\n    <state>confirmed</state>\r\n    \
                 <remote><identity>sip:other@bench.invalid</identity><target \
                 uri=\"sip:other@bench.invalid\"/></remote>\r\n\
                 <local><identity>{entity}</identity><target uri=\"{entity}\"/></local>\r\n  \
                 </dialog>\r\n</dialog-info>\r\n"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFY: &str = "NOTIFY sip:w1@127.0.0.1:5 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa.b;i=1\r\n\
        From: <sip:p0@b>;tag=t1\r\nTo: <sip:w1@b>;tag=f1\r\nCall-ID: w1-9\r\nCSeq: 3 NOTIFY\r\n\
        Subscription-State: active;expires=9\r\nContact: <sip:127.0.0.1:5060>\r\n\r\n<note>seq-17-</note>";

    #[test]
    fn a_notify_is_taken_apart_and_answered() {
        let message = Message::parse(NOTIFY.as_bytes()).unwrap();
        assert_eq!((message.code(), message.sequence(), mark(message.body)), (None, 3, Some(17)));
        assert_eq!((tag(message.from), uri(message.contact)), ("t1", "sip:127.0.0.1:5060"));
        assert_eq!(message.raw_branch(), "z9hG4bKa.b");
        assert!(
            message.ok().starts_with("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKa.b;i=1\r\nFrom: ")
        );
    }

    #[test]
    fn an_answer_leads_back_to_its_request() {
        let answer =
            "SIP/2.0 202 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5;branch=z9hG4bKload42-7;rport=5\r\nSIP-ETag: a.1\r\n\r\n";
        let message = Message::parse(answer.as_bytes()).unwrap();
        assert_eq!((message.code(), message.branch(), message.etag), (Some(202), Some(42), "a.1"));
    }

    #[test]
    fn documents_carry_their_number() {
        for package in [Package::Presence, Package::Dialog] {
            assert_eq!(mark(&package.document("sip:p0@b", 8)), Some(8));
            assert_eq!(Package::named(package.name()), Some(package));
        }
    }
}
