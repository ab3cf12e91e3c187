//! The proof that a message comes from a node that knows the cluster's secret, was not changed on its way, and is not
//! an old one said again: HMAC-SHA-256 (RFC 2104, FIPS 180-4) over the message, the name of its sender and a number
//! that only goes up. Messages that are JSON arrays carry a short seal, with the first 128 bits of it (RFC 2104 5):
//! they are frequent, and name their sender themselves.
use super::text64;
use crate::shm_safe::shm_safe;
use crate::time::UnixMillis;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The secrets of a cluster: messages are sealed with the first, and taken with any. A second one is there while the
/// secret is being changed.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Secret>);

#[derive(Clone)]
struct Secret {
    id: String,
    secret: Vec<u8>,
}

/// A secret has at least this many characters.
pub const SHORTEST: usize = 16;

/// How a sealed message says who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The name of the sender.
    pub sender: Vec<u8>,
    /// When the sender was started, by its wall clock: a restart begins its numbers anew.
    pub started: UnixMillis,
    /// The number of the message.
    pub number: u64,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The message has no seal.
    Unsealed,
    /// The message's seal cannot be read.
    Malformed,
    /// The message is sealed with a secret of this id, which is not known here.
    UnknownKey,
    /// The seal is not that of our secret.
    Forged,
    /// The message was said before.
    Repeated,
    /// The message was made too long ago, or by a clock that is wrong.
    Late,
}

impl Refusal {
    /// For the log.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Unsealed => "it is not authenticated",
            Refusal::Malformed => "its authentication cannot be read",
            Refusal::UnknownKey => "its key is not known here",
            Refusal::Forged => "it was made with another secret",
            Refusal::Repeated => "it was received before",
            Refusal::Late => "it was made more than five minutes ago, or clocks differ by as much",
        }
    }
}

/// What comes before a seal in a JSON object; a node that does not know the member passes over it.
const MEMBER: &[u8] = b",\"seal\":\"";

/// What comes before the short seal of a JSON array: it is the last element.
const ELEMENT: &[u8] = b",\"~";

/// A short seal has this many bytes of the authentication code.
const SHORT: usize = 16;

impl Secrets {
    /// `id:secret`, or `secret` alone, separated by commas.
    ///
    /// # Errors
    ///
    /// Fails when the text is not UTF-8, an id is no word of 1 to 16 letters and digits or occurs twice, or a secret is
    /// shorter than 16 characters. The error says what was expected.
    pub fn parse(text: &[u8]) -> Result<Secrets, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "text")?;
        let mut secrets = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, secret) = part.split_once(':').unwrap_or(("0", part));
            let is_id = !id.is_empty() && id.len() <= 16 && id.bytes().all(|c| c.is_ascii_alphanumeric());
            if !is_id || secrets.iter().any(|known: &Secret| known.id == id) {
                return Err(
                    "id:secret, or several of them separated by commas, each with another id of letters and digits",
                );
            }
            if secret.len() < SHORTEST {
                return Err("a secret of at least 16 characters (a comma separates two secrets)");
            }
            secrets.push(Secret { id: id.to_string(), secret: secret.as_bytes().to_vec() });
        }
        Ok(Secrets(secrets))
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id of the secret that is sealed with.
    pub(super) fn first_id(&self) -> Option<&str> {
        self.0.first().map(|secret| secret.id.as_str())
    }

    /// The authentication code by the secret of that id of something that is no message of a channel.
    pub(super) fn code(&self, id: &str, kind: u8, head: &str, text: &[u8]) -> Option<Hmac<Sha256>> {
        let secret = self.0.iter().find(|secret| secret.id == id)?;
        Some(secret.mac(kind, text, head))
    }

    /// Seals a message, which is a JSON object, or an array whose second element is the name of the sender.
    pub fn seal(&self, channel: u8, mut message: Vec<u8>, by: &Sealed) -> Vec<u8> {
        if message.last() == Some(&b']') {
            return self.seal_short(channel, message, by);
        }
        let Some(secret) = self.0.first().filter(|_| message.last() == Some(&b'}')) else { return message };
        message.pop();
        let head = head(&secret.id, by);
        let mac = secret.mac(channel, &message, &head).finalize().into_bytes();
        message.extend_from_slice(MEMBER);
        message.extend_from_slice(head.as_bytes());
        message.push(b' ');
        message.extend_from_slice(hex(&mac).as_bytes());
        message.extend_from_slice(b"\"}");
        message
    }

    fn seal_short(&self, channel: u8, mut message: Vec<u8>, by: &Sealed) -> Vec<u8> {
        let Some(secret) = self.0.first() else { return message };
        message.pop();
        let head = short_head(&secret.id, by);
        let mac = secret.mac(channel, &message, &head).finalize().into_bytes();
        message.extend_from_slice(ELEMENT);
        message.extend_from_slice(format!("{head} {}\"]", short_code(&mac)).as_bytes());
        message
    }

    fn open_short(&self, channel: u8, message: &[u8]) -> Result<Sealed, Refusal> {
        let at = rfind(message, ELEMENT).ok_or(Refusal::Unsealed)?;
        let seal = message[at + ELEMENT.len()..].strip_suffix(b"\"]").ok_or(Refusal::Malformed)?;
        let seal = std::str::from_utf8(seal).map_err(|_| Refusal::Malformed)?;
        let (head, code) = seal.rsplit_once(' ').ok_or(Refusal::Malformed)?;
        let (id, by) = read_short_head(head, message).ok_or(Refusal::Malformed)?;
        let secret = self.0.iter().find(|secret| secret.id == id).ok_or(Refusal::UnknownKey)?;
        let code = read_short_code(code).ok_or(Refusal::Malformed)?;
        secret.mac(channel, &message[..at], head).verify_truncated_left(&code).map_err(|_| Refusal::Forged)?;
        Ok(by)
    }

    /// Looks at the seal of a message of at most `LONGEST` bytes.
    ///
    /// # Errors
    ///
    /// Fails when the message has no seal, a seal that cannot be read, one with the id of an unknown secret, or one
    /// that was made with another secret.
    pub fn open(&self, channel: u8, message: &[u8]) -> Result<Sealed, Refusal> {
        let message = message.trim_ascii_end();
        if message.last() == Some(&b']') {
            return self.open_short(channel, message);
        }
        let at = rfind(message, MEMBER).ok_or(Refusal::Unsealed)?;
        let seal = message[at + MEMBER.len()..].strip_suffix(b"\"}").ok_or(Refusal::Malformed)?;
        let seal = std::str::from_utf8(seal).map_err(|_| Refusal::Malformed)?;
        let (head, mac) = seal.rsplit_once(' ').ok_or(Refusal::Malformed)?;
        let (id, by) = read_head(head).ok_or(Refusal::Malformed)?;
        let secret = self.0.iter().find(|secret| secret.id == id).ok_or(Refusal::UnknownKey)?;
        let mac = from_hex(mac).ok_or(Refusal::Malformed)?;
        // Compared in constant time.
        secret.mac(channel, &message[..at], head).verify_slice(&mac).map_err(|_| Refusal::Forged)?;
        Ok(by)
    }
}

impl Secret {
    fn mac(&self, channel: u8, message: &[u8], head: &str) -> Hmac<Sha256> {
        // A key may have any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(&[channel]);
        mac.update(&(head.len() as u64).to_be_bytes());
        mac.update(head.as_bytes());
        mac.update(message);
        mac
    }
}

fn head(id: &str, by: &Sealed) -> String {
    format!("{id} {} {:x} {:x}", hex(&by.sender), by.started.0, by.number)
}

fn read_head(head: &str) -> Option<(&str, Sealed)> {
    let mut parts = head.split(' ');
    let id = parts.next()?;
    let sender = from_hex(parts.next()?).filter(|name| !name.is_empty() && name.len() < 256)?;
    let started = UnixMillis(u64::from_str_radix(parts.next()?, 16).ok()?);
    let number = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some((id, Sealed { sender, started, number }))
}

fn short_head(id: &str, by: &Sealed) -> String {
    format!("{id} {} {}", text64::short(by.started.0), text64::short(by.number))
}

/// Reads who has sealed a message, which names its sender in its second element.
fn read_short_head<'h>(head: &'h str, message: &[u8]) -> Option<(&'h str, Sealed)> {
    let mut parts = head.split(' ');
    let (id, started, number) = (parts.next()?, text64::read(parts.next()?)?, text64::read(parts.next()?)?);
    let started = UnixMillis(started);
    let mut quoted = message.split(|byte| *byte == b'"');
    let sender = quoted.nth(3).filter(|name| !name.is_empty() && name.len() < 256)?.to_vec();
    let by = Sealed { sender, started, number };
    // Written in one way only.
    (parts.next().is_none() && short_head(id, &by) == head).then_some((id, by))
}

/// The first [`SHORT`] bytes of an authentication code, as two numbers.
fn short_code(mac: &[u8]) -> String {
    mac.chunks(SHORT / 2)
        .take(2)
        .map(|half| text64::whole(half.iter().fold(0, |n, b| (n << 8) | u64::from(*b))))
        .collect()
}

fn read_short_code(text: &str) -> Option<[u8; SHORT]> {
    let (first, second) = text.split_at_checked(text64::LONGEST).filter(|(_, rest)| rest.len() == text64::LONGEST)?;
    let both = (u128::from(text64::read(first)?) << 64) | u128::from(text64::read(second)?);
    Some(both.to_be_bytes())
}

fn rfind(text: &[u8], what: &[u8]) -> Option<usize> {
    // A seal is short.
    let from = text.len().saturating_sub(1024);
    text[from..].windows(what.len()).rposition(|window| window == what).map(|at| from + at)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Reads them.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some((digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Which numbers of a sender have come: each is taken once, and what is further behind than the window is not taken at
/// all.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplayWindow {
    started: UnixMillis,
    highest: u64,
    seen: [u64; WORDS],
}

shm_safe!(ReplayWindow { started, highest, seen });

/// A node distinguishes this many numbers behind the highest: nodes send from many processes at once.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

impl ReplayWindow {
    /// Whether a message is new; it is not from then on.
    pub fn take(&mut self, by: &Sealed) -> bool {
        if by.started < self.started || by.number == u64::MAX {
            return false;
        }
        if by.started > self.started {
            *self = ReplayWindow { started: by.started, highest: by.number, seen: [0; WORDS] };
        } else if by.number > self.highest {
            for number in (self.highest + 1..=by.number).take(WINDOW as usize) {
                self.forget(number);
            }
            if by.number - self.highest > WINDOW {
                self.seen = [0; WORDS];
            }
            self.highest = by.number;
        } else if self.highest - by.number >= WINDOW || self.is_marked(by.number) {
            return false;
        }
        self.mark(by.number);
        true
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.started == UnixMillis::default()
    }

    fn mark(&mut self, number: u64) {
        self.seen[(number % WINDOW / 64) as usize] |= 1 << (number % 64);
    }

    fn forget(&mut self, number: u64) {
        self.seen[(number % WINDOW / 64) as usize] &= !(1 << (number % 64));
    }

    fn is_marked(&self, number: u64) -> bool {
        self.seen[(number % WINDOW / 64) as usize] & (1 << (number % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(started: u64, number: u64) -> Sealed {
        let started = UnixMillis(started);
        Sealed { sender: b"10.0.0.1:5060".to_vec(), started, number }
    }

    #[test]
    fn a_sealed_message_is_opened_by_who_knows_the_secret() {
        let secrets = Secrets::parse(b"2:new secret of ours,1:old secret of ours").unwrap();
        let old = Secrets::parse(b"1:old secret of ours").unwrap();
        let sealed = secrets.seal(1, b"{\"a\":1}".to_vec(), &by(5, 6));
        assert!(sealed.starts_with(b"{\"a\":1,\"seal\":\"2 "));
        assert_eq!(secrets.open(1, &sealed), Ok(by(5, 6)));
        assert_eq!(old.open(1, &sealed), Err(Refusal::UnknownKey));
        assert_eq!(secrets.open(1, &old.seal(1, b"{}".to_vec(), &by(5, 7))), Ok(by(5, 7)));
        assert_eq!(secrets.open(0, &sealed), Err(Refusal::Forged), "another channel");
        assert_eq!(secrets.open(1, b"{\"a\":1}"), Err(Refusal::Unsealed));
        let other = Secrets::parse(b"2:the secret of a stranger").unwrap();
        assert_eq!(other.open(1, &sealed), Err(Refusal::Forged));
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let secrets = Secrets::parse(b"a secret of ours").unwrap();
        let sealed = secrets.seal(1, b"{\"a\":\"b\"}".to_vec(), &by(5, 6));
        for at in 0..sealed.len() {
            for bit in [1, 32, 128] {
                let mut changed = sealed.clone();
                changed[at] ^= bit;
                // Hexadecimal digits may be written in capitals.
                let is_same = changed.eq_ignore_ascii_case(&sealed) && at > sealed.len() - 68;
                assert_eq!(secrets.open(1, &changed).is_ok(), is_same, "{}", String::from_utf8_lossy(&changed));
            }
        }
    }

    #[test]
    fn a_short_seal_is_as_strict() {
        let secrets = Secrets::parse(b"2:new secret of ours,1:a secret of ours").unwrap();
        let other = Secrets::parse(b"2:the secret of a stranger").unwrap();
        let message = b"[\"r\",\"10.0.0.1:5060\",\"x\",7]".to_vec();
        let by = by(1_700_000_000_000, 123_456);
        let sealed = secrets.seal(1, message.clone(), &by);
        assert!(sealed.len() - message.len() <= 45, "{}", sealed.len() - message.len());
        assert_eq!(secrets.open(1, &sealed), Ok(by.clone()));
        assert_eq!(secrets.open(0, &sealed), Err(Refusal::Forged), "another channel");
        assert_eq!(other.open(1, &sealed), Err(Refusal::Forged));
        assert_eq!(secrets.open(1, &message), Err(Refusal::Unsealed));
        for at in 0..sealed.len() {
            for bit in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut changed = sealed.clone();
                changed[at] ^= bit;
                assert!(secrets.open(1, &changed).is_err(), "{}", String::from_utf8_lossy(&changed));
            }
        }
    }

    #[test]
    fn secrets_are_checked() {
        for bad in [
            "short",
            "a:short",
            ":a long enough secret",
            "a:0123456789abcdef,a:fedcba9876543210",
            "a b:0123456789abcdef",
        ] {
            assert!(Secrets::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Secrets::parse(b"").unwrap().is_empty());
    }

    #[test]
    fn a_message_is_taken_once() {
        let mut window = ReplayWindow::default();
        for number in [5, 3, 4, 900, 6, 2000, 1500] {
            assert!(window.take(&by(9, number)), "{number}");
            assert!(!window.take(&by(9, number)), "{number}");
        }
        assert!(!window.take(&by(9, 976)), "older than the window");
        assert!(window.take(&by(9, 977)) && !window.take(&by(8, 5000)));
        assert!(window.take(&by(10, 1)) && !window.take(&by(9, 5001)));
        assert!(window.take(&by(10, 1 << 40)) && window.take(&by(10, (1 << 40) - 5)) && !window.take(&by(10, 2)));
    }
}
