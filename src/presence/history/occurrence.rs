//! What has happened to a lamp, step by step: for operators who ask why it shows what it shows.
use super::ended::Ended;
use super::remembered::{DocumentChange, SentNotify};
use crate::presence::event_package::PackageId;
use crate::time::MicroMoment;

/// One step in the story of a lamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occurrence {
    /// Published or composed.
    Changed(DocumentChange),
    /// A NOTIFY was sent.
    Notified(SentNotify),
    /// A NOTIFY was answered.
    Answered(SentNotify),
    /// A subscription ended.
    Ended(Ended),
}

impl Occurrence {
    /// When it happened.
    pub fn at(&self) -> MicroMoment {
        match self {
            Occurrence::Changed(change) => change.at,
            Occurrence::Notified(sent) => sent.at,
            Occurrence::Answered(sent) => sent.answered_at,
            Occurrence::Ended(ended) => ended.at,
        }
    }

    /// Whose state it is about, the event package, and the watcher it concerns: none where it concerns all.
    pub fn subject(&self) -> (&[u8], PackageId, Option<&[u8]>) {
        match self {
            Occurrence::Changed(change) => (&change.presentity, change.event, None),
            Occurrence::Notified(sent) | Occurrence::Answered(sent) => {
                (&sent.presentity, sent.event, Some(&sent.watcher))
            }
            Occurrence::Ended(ended) => (&ended.presentity, ended.event, Some(&ended.watcher)),
        }
    }
}
