//! Requests under way, in shared memory: one for each publication or subscription, with the newest wish that waits behind it.
use crate::host::shm::{self, NoMemory, Shm, ShmBox, ShmVec};
use crate::host::sync::Lock;
use crate::pua::ports::{Departure, Flight, FlightId};
use crate::pua::record::Record;
use crate::pua::request::Request;
use hashbrown::HashTable;

type Shared = ShmBox<[u8]>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its answer is awaited; after this time nobody will give one.
    UnderWay { until: i64 },
    /// It waits for another try.
    Waiting { at: i64 },
}

struct Entry {
    id: FlightId,
    key: u64,
    phase: Phase,
    attempts: u32,
    /// What is or was under way: a first SUBSCRIBE covers later ones.
    opens_dialog: bool,
    sent: Option<(Request<Shared>, Record<Shared>)>,
    next: Option<Request<Shared>>,
    /// Callback words of requests that `next` took the place of.
    superseded: ShmVec<usize>,
    /// Callback words that the answer under way is for, too.
    riding: ShmVec<usize>,
}

impl Entry {
    /// Takes what waits; the words behind it ride with it.
    fn take_next(&mut self, now: i64) -> Option<Request<Shared>> {
        let next = self.next.take()?;
        std::mem::swap(&mut self.riding, &mut self.superseded);
        self.superseded.clear();
        self.phase = Phase::UnderWay { until: now + PATIENCE };
        Some(next)
    }
}

struct Table {
    by_key: HashTable<ShmBox<Entry>, Shm>,
    /// Number and key of each flight.
    keys: HashTable<(FlightId, u64), Shm>,
    last: FlightId,
}

/// All flights of the server.
pub struct Flights {
    table: Lock<Table>,
}

/// How long an answer is awaited, in seconds: longer than tm waits, whatever its timers say, is a sign that none will come.
const PATIENCE: i64 = 600;

fn spread(id: FlightId) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Table {
    fn entry(&mut self, id: FlightId) -> Option<&mut Entry> {
        let (_, key) = *self.keys.find(spread(id), |(known, _)| *known == id)?;
        self.by_key.find_mut(key, |entry| entry.id == id).map(|entry| &mut **entry)
    }

    fn remove(&mut self, id: FlightId) -> Option<ShmBox<Entry>> {
        let key = match self.keys.find_entry(spread(id), |(known, _)| *known == id) {
            Ok(found) => found.remove().0.1,
            Err(_) => return None,
        };
        self.by_key.find_entry(key, |entry| entry.id == id).ok().map(|found| found.remove().0)
    }
}

impl Flights {
    /// No flights; call before the processes fork.
    pub fn new() -> Result<Flights, NoMemory> {
        let table = Table { by_key: HashTable::new_in(Shm), keys: HashTable::new_in(Shm), last: 0 };
        Ok(Flights { table: Lock::new(table) })
    }

    /// See [`crate::pua::ports::Ports::depart`]; `key` names the publication or subscription, `beside` the flight of a new
    /// one that begins while another with this name is under way.
    pub fn depart(&self, key: u64, beside: u64, request: &Request, now: i64) -> Result<Departure, NoMemory> {
        let opens_dialog = request.is_subscription() && request.wish.expires != 0;
        let waiting = request.map(shm::copy)?;
        let entry = shm::boxed(Entry {
            id: 0,
            key,
            phase: Phase::UnderWay { until: now + PATIENCE },
            attempts: 0,
            opens_dialog,
            sent: None,
            next: None,
            superseded: ShmVec::new_in(Shm),
            riding: ShmVec::new_in(Shm),
        })?;
        let mut table = self.table.lock();
        let mut key = key;
        if let Some(busy) = table.by_key.find_mut(key, |entry| entry.key == key) {
            let stale = matches!(busy.phase, Phase::UnderWay { until } if until < now);
            if !stale && request.wish.insert {
                key = beside;
            } else if !stale {
                if request.wish.own || opens_dialog && busy.opens_dialog && busy.next.is_none() {
                    return Ok(Departure::Covered);
                }
                let before = busy.next.as_ref().map_or(0, |next| next.wish.cb_param);
                if before != 0 {
                    shm::push(&mut busy.superseded, before)?;
                }
                let old = busy.next.replace(waiting);
                drop(table);
                drop(old);
                return Ok(Departure::Queued);
            } else {
                let id = busy.id;
                let gone = table.remove(id);
                drop(table);
                drop(gone);
                table = self.table.lock();
            }
        }
        table.last += 1;
        let id = table.last;
        table.by_key.try_reserve(1, |entry| entry.key).map_err(|_| NoMemory)?;
        table.keys.try_reserve(1, |(id, _)| spread(*id)).map_err(|_| NoMemory)?;
        let mut entry = entry;
        entry.id = id;
        entry.key = key;
        table.by_key.insert_unique(key, entry, |entry| entry.key);
        table.keys.insert_unique(spread(id), (id, key), |(id, _)| spread(*id));
        Ok(Departure::Go(id))
    }

    /// See [`crate::pua::ports::Ports::board`].
    pub fn board(&self, id: FlightId, request: &Request, record: &Record, now: i64) -> Result<(), NoMemory> {
        let fresh = Some((request.map(shm::copy)?, record.map(shm::copy)?));
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return Ok(()) };
        entry.phase = Phase::UnderWay { until: now + PATIENCE };
        let old = std::mem::replace(&mut entry.sent, fresh);
        drop(table);
        drop(old);
        Ok(())
    }

    /// See [`crate::pua::ports::Ports::landed`].
    pub fn landed(&self, id: FlightId) -> Option<Flight> {
        let mut table = self.table.lock();
        let entry = table.entry(id)?;
        let sent = entry.sent.take()?;
        let superseded = entry.riding.to_vec();
        let attempts = entry.attempts;
        entry.attempts += 1;
        drop(table);
        Some(Flight { request: sent.0.to_private(), record: sent.1.to_private(), attempts, superseded })
    }

    /// See [`crate::pua::ports::Ports::end`].
    pub fn end(&self, id: FlightId, now: i64) -> Option<Request> {
        let mut table = self.table.lock();
        let entry = table.entry(id)?;
        if let Some(next) = entry.take_next(now) {
            entry.attempts = 0;
            entry.opens_dialog = false;
            drop(table);
            return Some(next.to_private());
        }
        let gone = table.remove(id);
        drop(table);
        drop(gone);
        None
    }

    /// See [`crate::pua::ports::Ports::wait`]. Without memory there is no other try.
    pub fn wait(&self, id: FlightId, at: i64, request: &Request) {
        let copy = request.map(shm::copy);
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return };
        entry.phase = Phase::Waiting { at };
        entry.riding.clear();
        if entry.next.is_none() {
            entry.next = copy.ok();
        }
    }

    /// See [`crate::pua::ports::Ports::overdue`].
    pub fn overdue(&self, now: i64) -> Vec<(FlightId, Request)> {
        let mut table = self.table.lock();
        let (mut due, mut lost) = (Vec::new(), Vec::new());
        for entry in table.by_key.iter_mut() {
            match entry.phase {
                Phase::UnderWay { until } if until < now => lost.push(entry.id),
                Phase::Waiting { at } if at <= now => match entry.take_next(now) {
                    Some(next) => due.push((entry.id, next)),
                    None => lost.push(entry.id),
                },
                _ => {}
            }
        }
        let gone: Vec<_> = lost.into_iter().filter_map(|id| table.remove(id)).collect();
        drop(table);
        drop(gone);
        due.iter().map(|(id, request)| (*id, request.to_private())).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.lock().by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::pua::request::{Part, Wish};

    fn request(body: &str, cb_param: usize) -> Request {
        let wish = Wish { event: 1, flag: 1, expires: 60, has_body: true, cb_param, ..Wish::default() };
        Request::new(wish, &[(Part::PresUri, b"sip:a@b"), (Part::Body, body.as_bytes())])
    }

    #[test]
    fn the_newest_wish_goes_next_and_the_others_are_told_with_it() {
        let flights = Flights::new().unwrap();
        let Departure::Go(id) = flights.depart(5, 6, &request("1", 11), 0).unwrap() else { panic!("busy") };
        for (body, param) in [("2", 22), ("3", 33), ("4", 44)] {
            assert_eq!(flights.depart(5, 6, &request(body, param), 0), Ok(Departure::Queued));
        }
        let next = flights.end(id, 0).unwrap();
        assert_eq!((next.get(Part::Body), next.wish.cb_param), (b"4".as_slice(), 44));
        let record = Record::new(
            crate::pua::record::Numbers {
                serial: 0,
                event: 1,
                flag: 1,
                expires_at: 0,
                desired_until: 0,
                cseq: 0,
                version: 0,
                journal: crate::pua::record::Journal::Insert,
            },
            &[],
        );
        flights.board(id, &next, &record, 0).unwrap();
        assert_eq!(flights.landed(id).unwrap().superseded, [22, 33]);
        assert_eq!(flights.end(id, 0), None);
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn a_flight_that_waits_is_overdue_in_time_and_a_lost_one_is_forgotten() {
        let before = fake::live_blocks();
        let flights = Flights::new().unwrap();
        let Departure::Go(id) = flights.depart(5, 6, &request("1", 0), 0).unwrap() else { panic!("busy") };
        flights.wait(id, 20, &request("1", 0));
        assert!(flights.overdue(19).is_empty());
        assert_eq!(flights.overdue(20).len(), 1);
        assert!(flights.overdue(20 + PATIENCE).is_empty());
        assert_eq!(flights.count(), 1);
        assert!(flights.overdue(21 + PATIENCE).is_empty());
        assert_eq!(flights.count(), 0);
        drop(flights);
        assert_eq!(fake::live_blocks(), before);
    }
}
