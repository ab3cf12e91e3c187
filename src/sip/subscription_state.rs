//! Subscription-State (RFC 6665 8.2.3): what a NOTIFY says of its subscription.
use super::text::{leading_number, push_number};
use crate::time::Seconds;

/// A Subscription-State header as it was received (RFC 6665 8.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriptionStateHeader<'a> {
    /// The subscription has ended.
    pub terminated: bool,
    /// Why, as `reason` says; empty when it does not.
    pub reason: &'a [u8],
    /// When to come back.
    pub retry_after: Option<Seconds>,
    /// How long it still lasts.
    pub expires: Option<Seconds>,
}

impl SubscriptionStateHeader<'_> {
    /// Reads the header's body: names and values are compared without case, and blanks may stand around `;` and `=`.
    pub fn read(header: &[u8]) -> SubscriptionStateHeader<'_> {
        let mut parts = header.split(|c| *c == b';').map(<[u8]>::trim_ascii);
        let word = parts.next().unwrap_or_default();
        let mut state = SubscriptionStateHeader {
            terminated: word.eq_ignore_ascii_case(b"terminated"),
            ..SubscriptionStateHeader::default()
        };
        for part in parts {
            let at = part.iter().position(|c| *c == b'=').unwrap_or(part.len());
            let (name, value) = (part[..at].trim_ascii(), part.get(at + 1..).unwrap_or_default().trim_ascii());
            let seconds = || leading_number(value).map(Seconds);
            if name.eq_ignore_ascii_case(b"reason") {
                state.reason = value;
            } else if name.eq_ignore_ascii_case(b"retry-after") {
                state.retry_after = seconds();
            } else if name.eq_ignore_ascii_case(b"expires") {
                state.expires = seconds();
            }
        }
        state
    }
}

/// The reasons that a notifier gives (RFC 6665 4.1.3). With any other one the watcher would ask again at once: somebody
/// has decided against it, and its subscription is rejected.
const REASONS: [&[u8]; 6] = [b"rejected", b"timeout", b"deactivated", b"probation", b"giveup", b"noresource"];

/// Writes the body of the header for a subscription that has ended. `reason` may have parameters behind it
/// (`retry-after`), which come with it.
pub fn push_terminated(out: &mut Vec<u8>, reason: &[u8]) {
    out.extend_from_slice(b"terminated;reason=");
    let word = reason.split(|c| *c == b';').next().unwrap_or_default();
    out.extend_from_slice(if REASONS.contains(&word) { reason } else { b"rejected" });
}

/// Writes the body of the header for a subscription in the state `word` that ends when `left` is over.
pub fn push_live(out: &mut Vec<u8>, word: &[u8], left: Seconds) {
    out.extend_from_slice(word);
    out.extend_from_slice(b";expires=");
    push_number(out, left.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_state_is_read_without_case_and_with_blanks() {
        let read = |text: &'static str| SubscriptionStateHeader::read(text.as_bytes());
        let over = SubscriptionStateHeader { terminated: true, ..SubscriptionStateHeader::default() };
        assert_eq!(
            read("active;expires=60"),
            SubscriptionStateHeader { expires: Some(Seconds(60)), ..SubscriptionStateHeader::default() }
        );
        assert_eq!(read("terminated"), over);
        for text in ["terminated;reason=rejected", "Terminated ; Reason = rejected", " TERMINATED;x;REASON= rejected "]
        {
            assert_eq!(read(text), SubscriptionStateHeader { reason: b"rejected", ..over }, "{text}");
        }
        let later = SubscriptionStateHeader { reason: b"giveup", retry_after: Some(Seconds(60)), ..over };
        assert_eq!(read("terminated;reason=giveup;retry-after=60"), later);
        assert_eq!(
            read("terminated;retry-after=99999999999999999999"),
            SubscriptionStateHeader { retry_after: Some(Seconds::MAX), ..over }
        );
    }

    #[test]
    fn only_known_reasons_are_written() {
        let written = |reason: &str| {
            let mut out = Vec::new();
            push_terminated(&mut out, reason.as_bytes());
            String::from_utf8(out).expect("text")
        };
        assert_eq!(written("deactivated;retry-after=9"), "terminated;reason=deactivated;retry-after=9");
        assert_eq!(written("politely"), "terminated;reason=rejected");
        let mut out = Vec::new();
        push_live(&mut out, b"pending", Seconds(60));
        assert_eq!(out, b"pending;expires=60");
    }
}
