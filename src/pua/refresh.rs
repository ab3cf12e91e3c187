//! Keeps publications and subscriptions alive as long as their owners want them, and forgets the others.
use super::ports::{Ports, Refusal};
use super::publish;
use super::record::{Field, Record};
use super::request::{Part, Request, Wish};
use super::subscribe;

/// How long a record is kept after its end, in seconds: an answer may still be under way.
const GRACE: i64 = 10;

/// What was waiting for another try is tried again.
pub fn retry<P: Ports>(ports: &mut P) {
    for (flight, request) in ports.overdue() {
        let done = match request.is_subscription() {
            true => subscribe::launch(ports, flight, &request),
            false => publish::launch(ports, flight, &request),
        };
        complain(ports, request.get(Part::PresUri), done);
    }
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
    publish::submit(ports, &request)
}
