//! When something ends, if it ever does, and how long it lasts.
use super::moments::Moment;
use crate::shm_safe::shm_safe;

/// When something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Expiry {
    /// At this moment.
    At(Moment),
    /// Never: hard state, or what its owner wants for ever.
    #[default]
    Never,
}

shm_safe!(
    enum Expiry {
        At(moment),
        Never,
    }
);

impl Expiry {
    /// When it ends, if it does.
    pub const fn moment(self) -> Option<Moment> {
        match self {
            Expiry::At(moment) => Some(moment),
            Expiry::Never => None,
        }
    }

    /// Whether it has ended before `now`.
    pub fn is_before(self, now: Moment) -> bool {
        self < Expiry::At(now)
    }

    /// Whether it ends after `now`, or never.
    pub fn is_after(self, now: Moment) -> bool {
        self > Expiry::At(now)
    }
}

impl From<Option<Moment>> for Expiry {
    fn from(end: Option<Moment>) -> Expiry {
        end.map_or(Expiry::Never, Expiry::At)
    }
}

impl From<Moment> for Expiry {
    fn from(moment: Moment) -> Expiry {
        Expiry::At(moment)
    }
}

/// How long something lasts, as it is remembered: in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The lifetime in seconds.
    Bounded(u32),
    /// As long as nobody ends it.
    Forever,
}

shm_safe!(
    enum Lifetime {
        Bounded(seconds),
        Forever,
    }
);

impl Lifetime {
    /// How long is left at `now` of what ends then.
    pub fn until(end: Expiry, now: Moment) -> Lifetime {
        end.moment().map_or(Lifetime::Forever, |end| Lifetime::Bounded((end - now).as_expires()))
    }
}
