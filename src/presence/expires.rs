//! The interval of a publication or subscription, as the header field `Expires` has it (RFC 3903 4.1, RFC 6665 3.1.1).
use crate::time::Seconds;
use std::num::NonZeroU32;

/// What a request asks for, or is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    /// 0: what the request speaks of ends, or does not begin.
    End,
    /// The publication or subscription lasts for this time.
    For(NonZeroU32),
}

impl From<u32> for Expires {
    fn from(seconds: u32) -> Expires {
        NonZeroU32::new(seconds).map_or(Expires::End, Expires::For)
    }
}

impl Expires {
    /// The interval of packages and requests that name none, as in stock.
    pub const HOUR: Expires = Expires::For(NonZeroU32::MIN.saturating_add(3599));

    /// The number in the header field.
    pub fn number(self) -> u32 {
        match self {
            Expires::End => 0,
            Expires::For(seconds) => seconds.get(),
        }
    }

    /// How long it lasts.
    pub fn duration(self) -> Seconds {
        Seconds::from(self.number())
    }

    /// Whether it asks for an end.
    pub fn is_end(self) -> bool {
        self == Expires::End
    }

    /// Returns this interval, or `longest` where that is shorter.
    pub fn at_most(self, longest: Seconds) -> Expires {
        self.number().min(longest.as_expires()).into()
    }
}

/// The interval that was asked for is shorter than this one, the shortest that is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBrief(pub Seconds);
