//! The events that can be published and subscribed to, by the flags of the host's `pua/hash.h`.

use super::config::Config;
use super::flags::EventFlags;

/// What is done to a body before it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processing {
    /// PIDF: the tuple has an id, and it stays the same over the life of the publication (RFC 3863 4.1.2).
    TupleId,
    /// The element whose `version` attribute counts up with each change (RFC 4235 4.1, RFC 3680 5.2).
    Version(&'static str),
    /// The body goes as it is.
    AsIs,
    /// The function another module registered; its place among the foreign ones.
    Foreign(usize),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's flag.
    pub flag: EventFlags,
    /// The event's name in the Event header.
    pub name: Vec<u8>,
    /// The Content-Type of bodies whose publisher names none.
    pub content_type: Vec<u8>,
    /// What is done to bodies.
    pub processing: Processing,
}

/// A body that is ready, and the tuple id it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    /// The body.
    pub body: Vec<u8>,
    /// The id of its tuple; empty for none.
    pub tuple_id: Vec<u8>,
}

/// `PRESENCE_EVENT`
pub const PRESENCE: EventFlags = EventFlags::from_word(1);
/// `PWINFO_EVENT`
pub const PRESENCE_WINFO: EventFlags = EventFlags::from_word(1 << 1);
/// `BLA_EVENT`
pub const DIALOG_SLA: EventFlags = EventFlags::from_word(1 << 2);
/// `MSGSUM_EVENT`
pub const MESSAGE_SUMMARY: EventFlags = EventFlags::from_word(1 << 3);
/// `CONFERENCE_EVENT`
pub const CONFERENCE: EventFlags = EventFlags::from_word(1 << 4);
/// `DIALOG_EVENT`
pub const DIALOG: EventFlags = EventFlags::from_word(1 << 5);
/// `REGINFO_EVENT`
pub const REG: EventFlags = EventFlags::from_word(1 << 6);
/// `XCAPDIFF_EVENT`
pub const XCAP_DIFF: EventFlags = EventFlags::from_word(1 << 7);
/// `DFKS_EVENT`
pub const AS_FEATURE: EventFlags = EventFlags::from_word(1 << 8);

/// The events that are there from the start.
pub fn built_in(config: &Config) -> Vec<Event> {
    let counted = |wanted, element| if wanted { Processing::Version(element) } else { Processing::AsIs };
    let all: [(EventFlags, &str, &str, Processing); 9] = [
        (PRESENCE, "presence", "application/pidf+xml", Processing::TupleId),
        (DIALOG, "dialog", "application/dialog-info+xml", counted(config.count_dialog_versions, "dialog-info")),
        (DIALOG_SLA, "dialog;sla", "application/dialog-info+xml", Processing::Version("dialog-info")),
        (MESSAGE_SUMMARY, "message-summary", "application/simple-message-summary", Processing::AsIs),
        (PRESENCE_WINFO, "presence.winfo", "", Processing::AsIs),
        (REG, "reg", "application/reginfo+xml", counted(config.count_reg_versions, "reginfo")),
        (XCAP_DIFF, "xcap-diff", "application/xcap-diff+xml", Processing::AsIs),
        (AS_FEATURE, "as-feature-event", "application/x-as-feature-event+xml", Processing::AsIs),
        (CONFERENCE, "conference", "application/conference-info+xml", Processing::AsIs),
    ];
    all.into_iter()
        .map(|(flag, name, content_type, processing)| Event {
            flag,
            name: name.into(),
            content_type: content_type.into(),
            processing,
        })
        .collect()
}
