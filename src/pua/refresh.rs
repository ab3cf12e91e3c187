//! Keeps publications and subscriptions alive as long as their owners want them, and forgets the others.
use super::answer::backoff;
use super::ports::{Due, FlightId, Ports, Refusal};
use super::queue;
use super::record::{Change, Field, Record};
use super::request::{Part, Request, Wish};
use super::subscribe;

/// How long a record is kept after its end, in seconds: an answer may still be under way.
const GRACE: i64 = 10;

/// Goes on with every flight whose time has come.
pub fn retry<P: Ports>(ports: &mut P) {
    for due in ports.overdue() {
        match due {
            Due::Send(flight, request) => queue::launch_then_go_on(ports, flight, &request, None),
            Due::Store(flight, change) => store_again(ports, flight, &change),
            Due::Lost(flight) => queue::lost(ports, flight),
        }
    }
}

/// What an answer granted is stored as soon as the store is there again, before anything newer is sent.
fn store_again<P: Ports>(ports: &mut P, flight: FlightId, change: &Change) {
    let ended = change.after.as_ref().is_some_and(|record| record.numbers.expires_at < ports.now());
    if !ended {
        if let Err(why) = queue::apply(ports, change) {
            let seconds = backoff(ports.attempts(flight));
            ports.complain(&format!("what was granted cannot be stored: {why}; tried again in {seconds} s"));
            return ports.postpone(flight, seconds, change);
        }
    }
    let tag = change.after.as_ref().map(|record| record.get(Field::Etag)).unwrap_or_default();
    queue::go_on(ports, flight, Some(tag));
}

/// Refreshes or removes what ends soon. One that fails does not hold up the others.
pub fn sweep<P: Ports>(ports: &mut P) -> Result<(), Refusal> {
    let now = ports.now();
    let period = i64::from(ports.config().update_period.max(0));
    for record in ports.ending(now + period)? {
        let done = match (wants_more(&record, ports.config().min_expires), record.numbers.expires_at < now - GRACE) {
            (true, _) => refresh(ports, &record, now),
            (false, true) => ports.remove(&record),
            (false, false) => Ok(()),
        };
        complain(ports, record.get(Field::PresUri), done);
    }
    Ok(())
}

fn complain<P: Ports>(ports: &P, uri: &[u8], done: Result<(), Refusal>) {
    if let Err(why) = done {
        ports.complain(&format!("cannot refresh what is kept for {}: {why}", String::from_utf8_lossy(uri)));
    }
}

/// Whether the owner wants it for longer than the server has granted.
fn wants_more(record: &Record, min_expires: i64) -> bool {
    let numbers = &record.numbers;
    numbers.desired_until == 0 || numbers.desired_until > numbers.expires_at + min_expires
}

fn refresh<P: Ports>(ports: &mut P, record: &Record, now: i64) -> Result<(), Refusal> {
    let expires = match record.numbers.desired_until {
        0 => -1,
        until => (until - now).max(1),
    };
    if record.is_subscription() {
        return subscribe::submit(ports, &subscribe::request_of(record, expires, false));
    }
    let wish = Wish { event: record.numbers.event, flag: record.numbers.flag, expires, own: true, ..Wish::default() };
    let request = Request::new(
        wish,
        &[
            (Part::PresUri, record.get(Field::PresUri)),
            (Part::Id, record.get(Field::Id)),
            (Part::Etag, record.get(Field::Etag)),
            (Part::OutboundProxy, record.get(Field::OutboundProxy)),
            (Part::ExtraHeaders, record.get(Field::ExtraHeaders)),
        ],
    );
    queue::submit(ports, &request)
}
