//! What a server answered, and what follows from it.
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;

/// The final answer to a request of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalResponse {
    /// The status of the answer, or that none came.
    pub status: ResponseStatus,
    /// Expires.
    pub expires: Option<Seconds>,
    /// Min-Expires (RFC 3261 20.23).
    pub min_expires: Option<Seconds>,
    /// Retry-After (RFC 3261 20.33).
    pub retry_after: Option<Seconds>,
    /// SIP-ETag (RFC 3903 11.3.1).
    pub etag: Option<EntityTag>,
    /// The To tag.
    pub to_tag: Vec<u8>,
    /// The URI of the first Contact.
    pub contact: Vec<u8>,
    /// The route set a caller uses from here on (RFC 3261 12.1.2).
    pub route_set: Vec<u8>,
    /// What a 401 or 407 asks for, in the order of the message.
    pub challenges: Vec<Challenge>,
}

/// How a request of ours was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseStatus {
    /// No message came: tm gave up.
    #[default]
    Silence,
    /// The server answered with this status code.
    Code(u16),
}

impl ResponseStatus {
    /// The status code of the answer, if one came.
    pub fn code(self) -> Option<u16> {
        match self {
            ResponseStatus::Silence => None,
            ResponseStatus::Code(code) => Some(code),
        }
    }

    /// The status code that the client goes on with: silence counts as a 408 (RFC 3261 8.1.3.1).
    pub fn counts_as(self) -> u16 {
        self.code().unwrap_or(408)
    }
}

/// The server or proxy that asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenger {
    /// The server (401).
    Server,
    /// A proxy on the way to it (407).
    Proxy,
}

/// A WWW-Authenticate or Proxy-Authenticate header (RFC 3261 20.27, 20.44).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The one who asks.
    pub of: Challenger,
    /// The body of the header.
    pub text: Vec<u8>,
}

/// What is done about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseMeaning {
    /// 2xx.
    Done,
    /// The server does not know the entity tag or the dialog any more.
    Forgotten,
    /// The interval is too short: this is the shortest.
    TooBrief(Seconds),
    /// The request may work later: after this time.
    Later(Seconds),
    /// The request is to be sent again with credentials (401, 407), which there are.
    Challenged,
    /// The request is to be sent to the Contact of the answer (3xx).
    Elsewhere,
    /// The server will not have it.
    Refused,
}

/// The longest wait between two tries when the server names none.
const LONGEST_WAIT: Seconds = Seconds(256);

/// The longest time a server may put us off for (`Retry-After`, `retry-after`).
pub const LONGEST_PUT_OFF: Seconds = Seconds(86_400);

/// The longest interval a server may ask for (`Min-Expires`): RFC 3261 20.19 counts to 2^32 - 1 seconds, rows to
/// fewer.
pub const LONGEST_MINIMUM: Seconds = Seconds(31_536_000);

/// The longest interval that is remembered; what a server grants for longer is refreshed earlier.
pub const LONGEST_GRANT: Seconds = Seconds(31_536_000);

/// The wait before the next try, after `attempts` that failed.
pub fn backoff(attempts: u32) -> Seconds {
    Seconds(2 << attempts.min(7)).min(LONGEST_WAIT)
}

impl FinalResponse {
    /// An answer with this status code, and nothing else in it.
    pub fn of_code(code: u16) -> FinalResponse {
        FinalResponse { status: ResponseStatus::Code(code), ..FinalResponse::default() }
    }

    /// No answer came.
    pub fn silence() -> FinalResponse {
        FinalResponse::default()
    }

    /// Judges the answer to the `attempt`-th try (counted from 0).
    pub fn verdict(&self, attempt: u32) -> ResponseMeaning {
        match self.status.counts_as() {
            200..=299 => ResponseMeaning::Done,
            300..=302 if !self.contact.is_empty() => ResponseMeaning::Elsewhere,
            412 | 481 => ResponseMeaning::Forgotten,
            423 => match self.min_expires {
                Some(minimum) if minimum > Seconds::ZERO && minimum <= LONGEST_MINIMUM => {
                    ResponseMeaning::TooBrief(minimum)
                }
                _ => ResponseMeaning::Refused,
            },
            408 | 429 | 500..=599 => ResponseMeaning::Later(match self.retry_after {
                Some(wait) if wait > Seconds::ZERO => wait.min(LONGEST_PUT_OFF),
                _ => backoff(attempt),
            }),
            _ => ResponseMeaning::Refused,
        }
    }

    /// The interval granted, within bounds.
    pub fn granted(&self) -> Option<Seconds> {
        self.expires.map(|time| time.clamp(Seconds::ZERO, LONGEST_GRANT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let busy = FinalResponse::of_code(503);
        assert_eq!([0, 1, 2].map(|n| busy.verdict(n)), [2, 4, 8].map(|wait| ResponseMeaning::Later(Seconds(wait))));
        assert_eq!(busy.verdict(40), ResponseMeaning::Later(Seconds(256)));
        for (said, wait) in [(7, Seconds(7)), (0, Seconds(16)), (i64::MAX, LONGEST_PUT_OFF)] {
            let answer = FinalResponse { retry_after: Some(Seconds(said)), ..FinalResponse::of_code(503) };
            assert_eq!(answer.verdict(3), ResponseMeaning::Later(wait));
        }
    }

    #[test]
    fn an_interval_is_only_asked_for_when_it_can_be() {
        for (said, verdict) in [
            (None, ResponseMeaning::Refused),
            (Some(Seconds(60)), ResponseMeaning::TooBrief(Seconds(60))),
            (Some(Seconds::ZERO), ResponseMeaning::Refused),
            (Some(LONGEST_MINIMUM + Seconds(1)), ResponseMeaning::Refused),
            (Some(Seconds::MAX), ResponseMeaning::Refused),
        ] {
            assert_eq!(FinalResponse { min_expires: said, ..FinalResponse::of_code(423) }.verdict(0), verdict);
        }
    }

    #[test]
    fn a_redirect_needs_a_target() {
        assert_eq!(FinalResponse::of_code(302).verdict(0), ResponseMeaning::Refused);
        let to = FinalResponse { contact: b"sip:b@c".to_vec(), ..FinalResponse::of_code(302) };
        assert_eq!(to.verdict(0), ResponseMeaning::Elsewhere);
    }

    #[test]
    fn no_interval_lasts_longer_than_a_year() {
        for (said, granted) in [(60, 60), (i64::MAX, LONGEST_GRANT.0), (LONGEST_GRANT.0 + 1, LONGEST_GRANT.0), (-5, 0)]
        {
            let answer = FinalResponse { expires: Some(Seconds(said)), ..FinalResponse::of_code(200) };
            assert_eq!(answer.granted(), Some(Seconds(granted)), "{said}");
        }
    }
}
