//! The proof that a request was sent on by a node that knows the cluster's secret: the header that the node adds is
//! authenticated (HMAC-SHA-256) together with what the request is about, and is good for some minutes.
use super::clock::{MOST_AHEAD, Stamp};
use super::seal::{Refusal, Secrets, from_hex, hex};
use super::text64;
use hmac::Mac;

/// Keeps the codes of such headers apart from those of the channels' messages.
const KIND: u8 = 0xff;

/// Which node has sent a request on, and when by the cluster's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayMark {
    /// The name of the node.
    pub node: Vec<u8>,
    /// When it did so.
    pub at: Stamp,
}

/// What a request is about: what a stranger who has seen the header could want to change.
#[derive(Debug, Clone, Default)]
pub struct About<'a> {
    /// `PUBLISH` or `SUBSCRIBE`.
    pub method: &'a [u8],
    /// The URI of the presentity.
    pub presentity: &'a [u8],
    /// The Call-ID.
    pub call_id: &'a [u8],
    /// The tags of From and To.
    pub tags: [&'a [u8]; 2],
    /// The number in CSeq.
    pub cseq: u32,
    /// The headers that decide what becomes of it: a number for each name, and the value.
    pub headers: Vec<(u8, &'a [u8])>,
    /// What follows the headers.
    pub body: &'a [u8],
}

impl About<'_> {
    /// Each part with its length, so that no two requests have the same text.
    fn text(&self) -> Vec<u8> {
        let [from_tag, to_tag] = self.tags;
        let (cseq, count) = (self.cseq.to_be_bytes(), (self.headers.len() as u64).to_be_bytes());
        let parts = [self.method, self.presentity, self.call_id, from_tag, to_tag, &cseq, self.body, &count];
        let mut text = Vec::new();
        for part in parts {
            add(&mut text, part);
        }
        for (name, value) in &self.headers {
            text.push(*name);
            add(&mut text, value);
        }
        text
    }
}

fn add(text: &mut Vec<u8>, part: &[u8]) {
    text.extend_from_slice(&(part.len() as u64).to_be_bytes());
    text.extend_from_slice(part);
}

impl RelayMark {
    /// The value of the header: the name of the node, and behind it the seal, if there is a secret.
    pub fn text(&self, secrets: &Secrets, about: &About<'_>) -> Vec<u8> {
        let Some(id) = secrets.first_id() else { return self.node.clone() };
        let head = head(id, &text64::short(self.at.0), &self.node);
        let Some(code) = secrets.code(id, KIND, &head, &about.text()) else { return self.node.clone() };
        let code = hex(&code.finalize().into_bytes());
        [&self.node, format!(";key={id};at={};seal={code}", text64::short(self.at.0)).as_bytes()].concat()
    }

    /// Reads the value of such a header that came with a request; `now`: by the cluster's clock.
    ///
    /// # Errors
    ///
    /// Fails when the value has no seal, one that cannot be read, one of an unknown or another secret, or of another
    /// request, or one that is more than five minutes away from `now`.
    pub fn open(secrets: &Secrets, value: &[u8], about: &About<'_>, now: Stamp) -> Result<RelayMark, Refusal> {
        let value = std::str::from_utf8(value).map_err(|_| Refusal::Malformed)?.trim();
        let (rest, code) = value.rsplit_once(";seal=").ok_or(Refusal::Unsealed)?;
        let (rest, at) = rest.rsplit_once(";at=").ok_or(Refusal::Malformed)?;
        let (node, id) = rest.rsplit_once(";key=").ok_or(Refusal::Malformed)?;
        let mark = RelayMark { node: node.as_bytes().to_vec(), at: Stamp(text64::read(at).ok_or(Refusal::Malformed)?) };
        let code = from_hex(code).ok_or(Refusal::Malformed)?;
        let expected = secrets.code(id, KIND, &head(id, at, &mark.node), &about.text()).ok_or(Refusal::UnknownKey)?;
        // Compared in constant time.
        expected.verify_slice(&code).map_err(|_| Refusal::Forged)?;
        let is_fresh = mark.at.time().distance(now.time()) <= MOST_AHEAD;
        if is_fresh { Ok(mark) } else { Err(Refusal::Late) }
    }
}

fn head(id: &str, at: &str, node: &[u8]) -> String {
    format!("{id} {at} {}", hex(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Millis, UnixMillis};

    fn about() -> About<'static> {
        About {
            method: b"PUBLISH",
            presentity: b"sip:alice@example.org",
            call_id: b"c1",
            tags: [b"f1", b""],
            cseq: 7,
            headers: vec![(0, b"<sip:alice@192.0.2.1>"), (2, b"3600")],
            body: b"<presence/>",
        }
    }

    fn secrets(text: &str) -> Secrets {
        Secrets::parse(text.as_bytes()).unwrap()
    }

    fn mark() -> RelayMark {
        RelayMark { node: b"[2001:db8::1]:5060".to_vec(), at: Stamp::of_time(UnixMillis(1_700_000_000_000)) }
    }

    #[test]
    fn a_mark_is_good_for_the_request_it_was_made_for() {
        let (both, old) = (secrets("2:new secret of ours,1:old secret of ours"), secrets("1:old secret of ours"));
        let (text, now) = (mark().text(&both, &about()), mark().at);
        assert_eq!(RelayMark::open(&both, &text, &about(), now), Ok(mark()));
        assert_eq!(RelayMark::open(&both, &mark().text(&old, &about()), &about(), now), Ok(mark()));
        assert_eq!(RelayMark::open(&old, &text, &about(), now), Err(Refusal::UnknownKey));
        assert_eq!(RelayMark::open(&secrets("2:a secret of strangers"), &text, &about(), now), Err(Refusal::Forged));
        for other in [
            About { method: b"SUBSCRIBE", ..about() },
            About { presentity: b"sip:bob@example.org", ..about() },
            About { call_id: b"c2", ..about() },
            About { call_id: b"c1f", tags: [b"1", b""], ..about() },
            About { tags: [b"", b"f1"], ..about() },
            About { cseq: 8, ..about() },
            About { body: b"", ..about() },
            About { headers: vec![(0, b"<sip:mallory@192.0.2.9>"), (2, b"3600")], ..about() },
            About { headers: vec![(0, b"<sip:alice@192.0.2.1>"), (2, b"0")], ..about() },
            About { headers: vec![(0, b"<sip:alice@192.0.2.1>"), (3, b"3600")], ..about() },
            About { headers: vec![(0, b"<sip:alice@192.0.2.1>"), (2, b"3600"), (4, b"tag")], ..about() },
            About { headers: vec![(0, b"<sip:alice@192.0.2.1>")], ..about() },
        ] {
            assert_eq!(RelayMark::open(&both, &text, &other, now), Err(Refusal::Forged), "{other:?}");
        }
    }

    #[test]
    fn a_mark_is_good_for_five_minutes() {
        let secrets = secrets("a secret of ours");
        let text = mark().text(&secrets, &about());
        let after = |time: Millis| Stamp::of_time(mark().at.time() + time);
        assert!(RelayMark::open(&secrets, &text, &about(), after(MOST_AHEAD)).is_ok());
        assert_eq!(RelayMark::open(&secrets, &text, &about(), after(MOST_AHEAD + Millis(1))), Err(Refusal::Late));
        assert_eq!(
            RelayMark::open(&secrets, &text, &about(), mark().at.before(MOST_AHEAD + Millis(1))),
            Err(Refusal::Late)
        );
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let secrets = secrets("a secret of ours");
        let text = mark().text(&secrets, &about());
        for at in 0..text.len() {
            for bit in [1, 2, 16, 128] {
                let mut changed = text.clone();
                changed[at] ^= bit;
                let opened = RelayMark::open(&secrets, &changed, &about(), mark().at);
                assert!(opened.is_err(), "{}", String::from_utf8_lossy(&changed));
            }
        }
        for bad in ["", "n:1", "n:1;seal=00", "n:1;key=0;seal=00", "n:1;key=0;at=!;seal=00", "n:1;key=0;at=A;seal=0g"] {
            assert!(RelayMark::open(&secrets, bad.as_bytes(), &about(), mark().at).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_secret_the_mark_is_the_name() {
        assert_eq!(mark().text(&Secrets::default(), &about()), mark().node);
    }
}
