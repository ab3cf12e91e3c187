//! The dialogs that a dialog document speaks of (RFC 4235), and whether a document is a late one.
use super::dialog_info::{DialogInfo, DialogState, Mark};
use crate::shm_safe::shm_safe;

/// The dialogs a dialog document speaks of (RFC 4235); empty for other documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dialogs {
    /// The dialogs with an id, sorted by it.
    pub marks: Vec<Mark>,
    /// What is known of all of them together.
    pub sum: DialogSum,
}

/// What a dialog document says as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DialogSum {
    /// How many dialogs there are, with and without an id.
    pub count: u32,
    /// How many of them have ended.
    pub ended: u32,
    /// The version of the document.
    pub version: Option<u64>,
}

shm_safe!(DialogSum { count, ended, version });

impl Dialogs {
    /// Reads the dialogs of a dialog document.
    pub fn of_document(document: &[u8]) -> Dialogs {
        let Some(info) = DialogInfo::parse(document) else { return Dialogs::default() };
        let mut marks = info.marks;
        marks.sort_unstable_by_key(|mark| mark.id);
        Dialogs { marks, sum: DialogSum { count: info.dialogs, ended: info.terminated, version: info.version } }
    }

    /// Without what could show that they are late: the caller vouches for their order.
    pub fn in_order(mut self) -> Dialogs {
        self.sum.version = None;
        self.marks.iter_mut().for_each(|mark| mark.call = [None; 3]);
        self
    }

    /// The hashes of the ids of those that have one.
    pub fn ids(&self) -> Vec<u64> {
        self.marks.iter().map(|mark| mark.id).collect()
    }

    /// A view of them.
    pub fn view(&self) -> DialogView<'_> {
        DialogView { marks: &self.marks, sum: self.sum }
    }
}

/// Dialogs, wherever they are stored.
#[derive(Debug, Clone, Copy)]
pub struct DialogView<'a> {
    /// The dialogs with an id, sorted by it.
    pub marks: &'a [Mark],
    /// What is known of all of them together.
    pub sum: DialogSum,
}

/// By what a ringing dialog is that of a call which has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) enum SameCall {
    /// By the ids of the SIP dialog.
    ByDialog,
    /// By the Call-ID alone.
    ByCallId,
}

impl DialogView<'_> {
    /// A copy of them.
    pub fn to_owned_dialogs(&self) -> Dialogs {
        Dialogs { marks: self.marks.to_vec(), sum: self.sum }
    }

    pub(in crate::presence) fn all_ended(&self) -> bool {
        self.sum.count > 0 && self.sum.count == self.sum.ended
    }

    /// Whether they have a dialog id in common. Both are sorted.
    pub fn share_any(&self, other: &DialogView<'_>) -> bool {
        let (mut mine, mut theirs) = (self.marks, other.marks);
        while let ([first, ..], [second, ..]) = (mine, theirs) {
            match first.id.cmp(&second.id) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => mine = &mine[1..],
                std::cmp::Ordering::Greater => theirs = &theirs[1..],
            }
        }
        false
    }

    /// Whether the other document speaks of every dialog of this one.
    pub fn is_within(&self, other: &DialogView<'_>) -> bool {
        self.marks.len() == self.sum.count as usize && self.marks.iter().all(|mark| other.has_dialog(mark.id))
    }

    /// Whether they have one whose id has this hash.
    pub fn has_dialog(&self, id: u64) -> bool {
        self.marks.binary_search_by_key(&id, |mark| mark.id).is_ok()
    }

    pub(in crate::presence) fn with_id(&self, id: u64) -> impl Iterator<Item = &Mark> {
        let start = self.marks.partition_point(|mark| mark.id < id);
        self.marks[start..].iter().take_while(move |mark| mark.id == id)
    }

    /// Whether this is a state that the call had before it ended, as `end` shows (RFC 4235 3.7.1: an ended dialog does
    /// not live again). A document that names another dialog, another call, or a higher version is the next call. What
    /// has neither is late when its version went back, or when it rings in the very SIP dialog that has ended
    /// (or in a call of the same Call-ID, see [`SameCall`]).
    pub(in crate::presence) fn is_late(&self, end: &DialogView<'_>, same_call: SameCall) -> bool {
        let lives = self.sum.count > self.sum.ended && self.marks.len() == self.sum.count as usize;
        if !end.all_ended() || !lives {
            return false;
        }
        let living = || self.marks.iter().filter(|mark| mark.phase != DialogState::Ended);
        if !living().all(|mark| end.with_id(mark.id).any(|old| !mark.is_other_call(old))) {
            return false;
        }
        match (end.sum.version, self.sum.version) {
            (Some(before), Some(now)) if now < before => true,
            (Some(before), Some(now)) if now > before => false,
            _ => living().all(|mark| {
                let same = |old: &Mark| {
                    mark.is_same_sip_dialog(old) || same_call == SameCall::ByCallId && mark.is_same_call_id(old)
                };
                mark.phase == DialogState::Ringing && end.with_id(mark.id).any(same)
            }),
        }
    }
}
