//! What a server answered, and what follows from it.

/// The final answer to a request of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code; 408 when nothing came.
    pub code: u16,
    /// No message came: tm gave up.
    pub silence: bool,
    /// Expires, in seconds.
    pub expires: Option<i64>,
    /// Min-Expires (RFC 3261 20.23), in seconds.
    pub min_expires: Option<i64>,
    /// Retry-After (RFC 3261 20.33), in seconds.
    pub retry_after: Option<i64>,
    /// SIP-ETag (RFC 3903 11.3.1).
    pub etag: Option<Vec<u8>>,
    /// The To tag.
    pub to_tag: Vec<u8>,
    /// The URI of the first Contact.
    pub contact: Vec<u8>,
    /// The route set a caller uses from here on (RFC 3261 12.1.2).
    pub route_set: Vec<u8>,
}

/// What is done about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx.
    Done,
    /// The server does not know the entity tag or the dialog any more.
    Forgotten,
    /// The interval is too short: this is the shortest.
    TooBrief(i64),
    /// It may work later: after this many seconds.
    Later(i64),
    /// The server will not have it.
    Refused,
}

/// The longest wait between two tries, in seconds.
const LONGEST_WAIT: i64 = 300;

impl Answer {
    /// Judges the answer to the `attempt`-th try (counted from 0).
    pub fn verdict(&self, attempt: u32) -> Verdict {
        let backoff = || (2i64 << attempt.min(7)).min(LONGEST_WAIT);
        match self.code {
            200..=299 => Verdict::Done,
            412 | 481 => Verdict::Forgotten,
            423 if self.min_expires.is_some_and(|n| n > 0) => Verdict::TooBrief(self.min_expires.unwrap_or_default()),
            408 | 429 | 500..=599 => Verdict::Later(self.retry_after.filter(|n| *n > 0).unwrap_or_else(backoff)),
            _ => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let busy = Answer { code: 503, ..Answer::default() };
        assert_eq!([0, 1, 2].map(|n| busy.verdict(n)), [2, 4, 8].map(Verdict::Later));
        assert_eq!(busy.verdict(40), Verdict::Later(256));
        let told = Answer { code: 503, retry_after: Some(7), ..Answer::default() };
        assert_eq!(told.verdict(3), Verdict::Later(7));
    }

    #[test]
    fn a_brief_interval_without_a_minimum_is_a_refusal() {
        assert_eq!(Answer { code: 423, ..Answer::default() }.verdict(0), Verdict::Refused);
        let told = Answer { code: 423, min_expires: Some(60), ..Answer::default() };
        assert_eq!(told.verdict(0), Verdict::TooBrief(60));
    }
}
