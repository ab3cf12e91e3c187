//! A NOTIFY leaves: past tm, or through it.
use crate::common::counters::Counter;
use crate::common::{counters, metrics};
use crate::host::log;
use crate::host::{clock, tm};
use crate::limited;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::remembered::BodyDigest;
use crate::presence::subscription_field::Field;
use crate::server::context::Context;
use crate::server::notify::engine::Content;
use crate::server::notify::missed_changes::OwnDialogId;
use crate::server::notify::pacing::SentBy;
use crate::server::notify::under_way::UnderWay;
use crate::sip::target::NextHop;

impl Context<'_> {
    /// Sends a NOTIFY from this process; `false` when it could not be sent.
    pub(crate) fn send_now(
        &mut self,
        notify: &Notify,
        hop: NextHop,
        headers: &[u8],
        body: Option<&[u8]>,
        digest: BodyDigest,
    ) -> bool {
        fault_point!("notify");
        self.log_notify(notify);
        let s = &notify.subscription;
        let sent_at = clock::micro_tick();
        let number = self.shared.note_notify(notify, digest, sent_at);
        let is_udp = hop.is_udp();
        let under_way = UnderWay { event: s.state.event, sent_at, is_udp, number };
        let senders = self.shared.senders;
        if is_udp {
            senders.outstanding.note_sent(sent_at);
        }
        let content = Content { headers, body };
        let is_direct = self.shared.engine.send(s, hop, content, under_way);
        counters::count(if is_direct { Counter::NotifyDirect } else { Counter::NotifyByTm });
        let sent = match is_direct {
            true => Ok(tm::TmOutcome::UnderWay),
            false => self.send_through_tm(notify, content, under_way),
        };
        if sent != Ok(tm::TmOutcome::UnderWay) {
            if is_udp {
                senders.outstanding.note_done(sent_at);
            }
        } else if let Some(pace) = &mut self.work.pace {
            pace.step(senders, SentBy { by_tm: !is_direct, is_udp });
        }
        match sent.is_ok() {
            true => metrics::notify_sent(s.state.event, notify.notify_reason),
            false => {
                if notify.notify_reason != NotifyReason::Change {
                    self.unanswered.push(OwnDialogId::of(s.dialog()));
                }
                self.note_unsent(notify);
            }
        }
        sent.is_ok()
    }

    /// Takes note of a NOTIFY that could not be sent.
    pub(crate) fn note_unsent(&self, notify: &Notify) {
        let s = &notify.subscription;
        metrics::notify_unsent(s.state.event, 1);
        limited!(
            Error,
            "NOTIFY to {} via {} for {}, event {}, Call-ID {}, could not be sent",
            log::show(&s.remote_uri().to_vec()),
            log::show(s.get(Field::Contact)),
            log::show(s.get(Field::PresUri)),
            log::show(self.packages.get(s.state.event).name),
            log::show(s.get(Field::CallId))
        );
    }
}
