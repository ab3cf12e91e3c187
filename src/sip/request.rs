//! The bytes of a NOTIFY inside a dialog (RFC 3261 12.2.1.1), header by header as the host's tm writes them.
use super::party_uri::PartyUri;
use super::text::push_number;
use crate::shm_safe::shm_safe;

/// What the head of a NOTIFY says.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The request URI: the peer's Contact.
    pub request_uri: &'a [u8],
    /// The Via line before and behind its branch; it ends in CRLF.
    pub via: (&'a [u8], &'a [u8]),
    /// The branch.
    pub branch: &'a [u8],
    /// The peer's URI.
    pub to: PartyUri<'a>,
    /// The peer's tag.
    pub to_tag: &'a [u8],
    /// Our URI.
    pub from: PartyUri<'a>,
    /// Our tag.
    pub from_tag: &'a [u8],
    /// The sequence number.
    pub cseq: u32,
    /// Call-ID.
    pub call_id: &'a [u8],
    /// The host's User-Agent line without CRLF; empty for none.
    pub signature: &'a [u8],
    /// Further header lines, each ending in CRLF.
    pub headers: &'a [u8],
    /// The length of the body, in bytes.
    pub content_length: usize,
}

/// Where the lines lie that name the dialog of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    starts: [u32; 5],
}

shm_safe!(Lines { starts });

impl Lines {
    /// Where From, To, Call-ID and CSeq begin and end.
    pub fn of_dialog(&self) -> [(u32, u32); 4] {
        let [to, from, cseq, call_id, end] = self.starts;
        [(from, cseq), (to, from), (call_id, end), (cseq, call_id)]
    }
}

impl Head<'_> {
    /// Appends the head, with the empty line behind it, to an empty buffer.
    pub fn write(&self, out: &mut Vec<u8>) -> Lines {
        let mut starts = [0; 5];
        push(out, [b"NOTIFY ", self.request_uri, b" SIP/2.0\r\n"]);
        push(out, [self.via.0, self.branch, self.via.1]);
        starts[0] = out.len() as u32;
        push_party(out, b"To: ", self.to, self.to_tag);
        starts[1] = out.len() as u32;
        push_party(out, b"From: ", self.from, self.from_tag);
        starts[2] = out.len() as u32;
        out.extend_from_slice(b"CSeq: ");
        push_number(out, i64::from(self.cseq));
        out.extend_from_slice(b" NOTIFY\r\n");
        starts[3] = out.len() as u32;
        push(out, [b"Call-ID: ", self.call_id, b"\r\n"]);
        starts[4] = out.len() as u32;
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, self.content_length as i64);
        out.extend_from_slice(b"\r\n");
        if !self.signature.is_empty() {
            push(out, [self.signature, b"\r\n"]);
        }
        push(out, [self.headers, b"\r\n"]);
        Lines { starts }
    }
}

#[inline(always)]
fn push<const N: usize>(out: &mut Vec<u8>, parts: [&[u8]; N]) {
    parts.into_iter().for_each(|part| out.extend_from_slice(part));
}

/// A From or To line.
#[inline(always)]
fn push_party(out: &mut Vec<u8>, name: &[u8], uri: PartyUri<'_>, tag: &[u8]) {
    out.extend_from_slice(name);
    uri.push_in_brackets(out);
    if !tag.is_empty() {
        push(out, [b";tag=", tag]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_the_hosts_tm_writes_it() {
        let head = Head {
            request_uri: b"sip:bob@192.0.2.1:5070",
            via: (b"Via: SIP/2.0/UDP 192.0.2.9:5060;branch=", b";rport\r\n"),
            branch: b"z9hG4bKn1.2.3",
            to: PartyUri::Address(b"bob", b"example.org"),
            to_tag: b"theirs",
            from: PartyUri::Whole(b"\"Alice\" <sip:alice@example.org>"),
            from_tag: b"ours",
            cseq: 7,
            call_id: b"abc@host",
            signature: b"User-Agent: kamailio",
            headers: b"Event: presence\r\n",
            content_length: 12,
        };
        let mut out = Vec::new();
        let lines = head.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "NOTIFY sip:bob@192.0.2.1:5070 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKn1.2.3;rport\r\n\
             To: <sip:bob@example.org>;tag=theirs\r\n\
             From: \"Alice\" <sip:alice@example.org>;tag=ours\r\n\
             CSeq: 7 NOTIFY\r\n\
             Call-ID: abc@host\r\n\
             Content-Length: 12\r\n\
             User-Agent: kamailio\r\n\
             Event: presence\r\n\r\n"
        );
        assert_eq!(
            lines.of_dialog().map(|(begin, end)| &text[begin as usize..end as usize]),
            [
                "From: \"Alice\" <sip:alice@example.org>;tag=ours\r\n",
                "To: <sip:bob@example.org>;tag=theirs\r\n",
                "Call-ID: abc@host\r\n",
                "CSeq: 7 NOTIFY\r\n",
            ]
        );
        let bare = Head { signature: b"", to_tag: b"", ..head };
        let mut out = Vec::new();
        bare.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("To: <sip:bob@example.org>\r\n") && !text.contains("User-Agent"), "{text}");
    }
}
