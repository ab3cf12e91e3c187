//! An arbiter for nodes that cannot reach each other: leases in a table that all of them reach. A node that holds a
//! lease sends the NOTIFYs of the subscriptions that were made or taken over under it, from memory; it beats the row
//! of its lease once a second, and stops sending before the lease ends when it cannot. A lease that has not beaten
//! for its whole length, by the clock of the node that looks, is taken over by changing its row if nobody has
//! meanwhile: one node takes over, with all that was owned under it. No clock that can be set counts, and none is
//! compared with another one.

use super::inheritance::{LeaseOutcome, LeaseRow, ends};
use crate::time::{Instant, Millis};
use std::collections::BTreeMap;

/// A lease that has not beaten for this long can be taken over.
pub const LENGTH: Millis = Millis(6_000);

/// For this long after the beat a node may send under its lease: less than the length, because no two
/// clocks run alike, and a message may be on its way.
pub const HELD: Millis = Millis(4_500);

/// A lease has to be seen without a beat this often before it is taken over: looks that failed do not count.
const LEAST_LOOKS: u32 = 4;

/// A node that was restarted is given this long to take over its earlier leases itself: one that is
/// restarted again and again never does.
const SPARED: Millis = Millis(3 * LENGTH.0);

/// The table of leases. Every change is one statement that names what it changes, and does nothing where that is not
/// so.
pub trait LeaseTable {
    /// The table cannot be reached, or refuses.
    type Error;

    /// All rows.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be read.
    fn rows(&mut self) -> Result<Vec<LeaseRow>, Self::Error>;
    /// A new row with beat 1.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be written.
    fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), Self::Error>;
    /// Counts the beat of a lease that is held up by one.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be written. A row with another beat is no failure: the next look at the rows
    /// shows it.
    fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), Self::Error>;
    /// Makes a lease, as it was seen, another one's.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be written. A row that has changed since it was seen is no failure: it stays as
    /// it is.
    fn take_over(&mut self, seen: &LeaseRow, node: &[u8], lease: u32) -> Result<(), Self::Error>;
    /// Gives a lease that is held back.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be written.
    fn release(&mut self, node: &[u8], lease: u32) -> Result<(), Self::Error>;
    /// Makes a lease that its own node holds another one's.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be written. A lease that is not held any more is no failure: it stays as it is.
    fn hand_over(&mut self, own: (&[u8], u32), successor: (&[u8], u32)) -> Result<(), Self::Error>;
}

/// The node that a node that ends hands its lease to: the first one in `candidates` that holds a lease, and the number
/// of that.
pub fn choose_successor<'a>(rows: &[LeaseRow], candidates: &[&'a [u8]]) -> Option<(&'a [u8], u32)> {
    candidates.iter().find_map(|node| {
        // The last one: an older one may be that of an earlier start, which nobody has taken over yet.
        let last = rows.iter().filter(|row| row.node == *node).max_by_key(|row| row.lease)?;
        (last.outcome == LeaseOutcome::Held).then_some((*node, last.lease))
    })
}

/// Ends the lease of a node that ends: it goes to the first in `candidates` that holds one, and otherwise to the first
/// to see that it is free. Returns the successor.
///
/// # Errors
///
/// Fails when the registry cannot be read or written: the lease ends when it is not renewed.
pub fn end<'a, R: LeaseTable>(
    registry: &mut R,
    own: (&[u8], u32),
    candidates: &[&'a [u8]],
) -> Result<Option<&'a [u8]>, R::Error> {
    let successor = choose_successor(&registry.rows()?, candidates);
    match successor {
        Some(successor) => registry.hand_over(own, successor)?,
        None => registry.release(own.0, own.1)?,
    }
    Ok(successor.map(|(node, _)| node))
}

/// A lease of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The lease's number.
    pub lease: u32,
    beat: u32,
    /// Until when we may send under it; `None`: not now.
    pub until: Option<Instant>,
}

impl Own {
    /// Whether we may send under it now.
    pub fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

struct Seen {
    row: LeaseRow,
    /// The lease was taken over, but nobody holds the lease that it has come to: the row of that is missing, or two
    /// nodes that ended at the same time have handed their leases to each other.
    is_astray: bool,
    /// Since when the row and what has become of it are as they are.
    since: Instant,
    looks: u32,
}

impl Seen {
    fn has_stood_still(&self, now: Instant) -> bool {
        self.looks >= LEAST_LOOKS && now.since(self.since) >= LENGTH
    }
}

/// What a step has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// We hold a lease with this number.
    Begun(u32),
    /// Our lease was taken over by this node.
    Lost(Vec<u8>),
    /// We have taken over the lease of this node.
    Took(Vec<u8>),
}

/// One node's side of it.
#[derive(Default)]
pub struct Arbiter {
    own: Option<Own>,
    seen: Vec<Seen>,
}

impl Arbiter {
    /// Our lease, if there is one.
    pub fn own(&self) -> Option<Own> {
        self.own
    }

    /// All leases, as they were seen last.
    pub fn rows(&self) -> impl Iterator<Item = &LeaseRow> {
        self.seen.iter().map(|seen| &seen.row)
    }

    /// One second: beats, looks at the others, takes over what has stopped. After a failure nothing that was seen
    /// before counts as having stood still.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be read or written.
    pub fn step<R: LeaseTable>(
        &mut self,
        registry: &mut R,
        name: &[u8],
        now: impl Fn() -> Instant,
    ) -> Result<Vec<LeaseChange>, R::Error> {
        let done = self.try_step(registry, name, &now);
        if done.is_err() {
            self.seen.iter_mut().for_each(|seen| (seen.since, seen.looks) = (now(), 0));
        }
        done
    }

    fn try_step<R: LeaseTable>(
        &mut self,
        registry: &mut R,
        name: &[u8],
        now: &impl Fn() -> Instant,
    ) -> Result<Vec<LeaseChange>, R::Error> {
        // What the table says may be as old as the question.
        let asked_at = now();
        let mut changes = Vec::new();
        let own = match self.own {
            Some(own) => {
                registry.beat(name, own.lease, own.beat)?;
                Own { beat: own.beat + 1, ..own }
            }
            None => {
                let rows = registry.rows()?;
                let lease = last_lease(&rows, name) + 1;
                registry.begin(name, lease)?;
                changes.push(LeaseChange::Begun(lease));
                Own { lease, beat: 1, until: None }
            }
        };
        let rows = registry.rows()?;
        let is_mine = |row: &&LeaseRow| row.node == name && row.lease == own.lease;
        match rows.iter().find(is_mine) {
            Some(row) if row.outcome == LeaseOutcome::Held => {
                // Another beat than ours: a statement that was thought to have failed had not. The next one counts.
                let until = if row.beat == own.beat { Some(asked_at + HELD) } else { own.until };
                self.own = Some(Own { beat: row.beat, until, ..own });
            }
            Some(LeaseRow { outcome: LeaseOutcome::TakenOver(node, _), .. }) => {
                self.own = None;
                changes.push(LeaseChange::Lost(node.clone()));
            }
            _ => self.own = None,
        }
        self.look(rows, now());
        let Some(own) = self.own.filter(|own| own.is_held(now())) else { return Ok(changes) };
        let is_over = |seen: &&Seen| match seen.row.outcome {
            LeaseOutcome::Held => {
                seen.has_stood_still(now()) && (seen.row.node == name || !self.is_spared(seen, now()))
            }
            LeaseOutcome::Released => true,
            LeaseOutcome::TakenOver(..) => seen.is_astray && seen.has_stood_still(now()),
        };
        let over: Vec<LeaseRow> = self.seen.iter().filter(is_over).map(|seen| seen.row.clone()).collect();
        let over: Vec<LeaseRow> = over.into_iter().filter(|row| !is_mine(&row)).collect();
        if over.is_empty() {
            return Ok(changes);
        }
        for row in &over {
            registry.take_over(row, name, own.lease)?;
        }
        // Another node may have been faster: what the table says counts.
        self.look(registry.rows()?, now());
        let ours = LeaseOutcome::TakenOver(name.to_vec(), own.lease);
        let took = over.iter().filter(|row| self.outcome(&row.node, row.lease) == Some(&ours));
        changes.extend(took.map(|row| LeaseChange::Took(row.node.clone())));
        Ok(changes)
    }

    /// Whether the node of a lease holds a newer one: it was restarted, and is about to go on with its own itself.
    fn is_spared(&self, old: &Seen, now: Instant) -> bool {
        let is_newer = |seen: &&Seen| seen.row.node == old.row.node && seen.row.lease > old.row.lease;
        let mut newer = self.seen.iter().filter(is_newer);
        now.since(old.since) < SPARED
            && newer.any(|seen| seen.row.outcome == LeaseOutcome::Held && !seen.has_stood_still(now))
    }

    fn look(&mut self, rows: Vec<LeaseRow>, now: Instant) {
        let before = std::mem::take(&mut self.seen);
        let before: BTreeMap<_, _> =
            before.iter().map(|seen| ((seen.row.node.as_slice(), seen.row.lease), seen)).collect();
        let astray: Vec<bool> = ends(&rows.iter().collect::<Vec<_>>()).iter().map(Option::is_none).collect();
        let look = |(row, is_astray): (LeaseRow, bool)| {
            let known = before.get(&(row.node.as_slice(), row.lease));
            let known = known.filter(|seen| seen.row == row && seen.is_astray == is_astray);
            let (since, looks) = known.map_or((now, 1), |seen| (seen.since, seen.looks + 1));
            Seen { row, is_astray, since, looks }
        };
        self.seen = rows.into_iter().zip(astray).map(look).collect();
    }

    fn outcome(&self, node: &[u8], lease: u32) -> Option<&LeaseOutcome> {
        self.seen.iter().find(|seen| seen.row.node == node && seen.row.lease == lease).map(|seen| &seen.row.outcome)
    }
}

/// The last number that a node has had. Rows that were taken over may have been removed; a successor's number is not
/// used twice either.
fn last_lease(rows: &[LeaseRow], name: &[u8]) -> u32 {
    let inherited = |row: &LeaseRow| match &row.outcome {
        LeaseOutcome::TakenOver(node, lease) if node == name => *lease,
        _ => 0,
    };
    let number = |row: &LeaseRow| inherited(row).max(if row.node == name { row.lease } else { 0 });
    rows.iter().map(number).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Table {
        rows: Vec<LeaseRow>,
        away: bool,
    }

    impl Table {
        fn find(&mut self, node: &[u8], lease: u32) -> Result<Option<&mut LeaseRow>, ()> {
            if self.away { Err(()) } else { Ok(self.rows.iter_mut().find(|r| r.node == node && r.lease == lease)) }
        }
    }

    impl LeaseTable for Table {
        type Error = ();
        fn rows(&mut self) -> Result<Vec<LeaseRow>, ()> {
            if self.away { Err(()) } else { Ok(self.rows.clone()) }
        }
        fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
            if self.find(node, lease)?.is_some() {
                return Err(());
            }
            self.rows.push(LeaseRow { node: node.to_vec(), lease, beat: 1, outcome: LeaseOutcome::Held });
            Ok(())
        }
        fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), ()> {
            if let Some(row) = self.find(node, lease)?.filter(|r| r.beat == from && r.outcome == LeaseOutcome::Held) {
                row.beat += 1;
            }
            Ok(())
        }
        fn take_over(&mut self, seen: &LeaseRow, node: &[u8], lease: u32) -> Result<(), ()> {
            if let Some(row) = self.find(&seen.node, seen.lease)?.filter(|row| *row == seen) {
                row.outcome = LeaseOutcome::TakenOver(node.to_vec(), lease);
            }
            Ok(())
        }
        fn release(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
            if let Some(row) = self.find(node, lease)?.filter(|r| r.outcome == LeaseOutcome::Held) {
                row.outcome = LeaseOutcome::Released;
            }
            Ok(())
        }
        fn hand_over(&mut self, own: (&[u8], u32), successor: (&[u8], u32)) -> Result<(), ()> {
            if let Some(row) = self.find(own.0, own.1)?.filter(|r| r.outcome == LeaseOutcome::Held) {
                row.outcome = LeaseOutcome::TakenOver(successor.0.to_vec(), successor.1);
            }
            Ok(())
        }
    }

    fn step(arbiter: &mut Arbiter, table: &mut Table, name: &[u8], at: u64) -> Result<Vec<LeaseChange>, ()> {
        arbiter.step(table, name, || Instant::at(at))
    }

    #[test]
    fn who_stops_beating_is_taken_over_by_one_and_had_stopped_before() {
        let (mut table, mut a, mut b, mut c) =
            (Table::default(), Arbiter::default(), Arbiter::default(), Arbiter::default());
        assert_eq!(step(&mut a, &mut table, b"a", 0), Ok(vec![LeaseChange::Begun(1)]));
        assert_eq!(a.own().and_then(|own| own.until), Some(Instant::at(0) + HELD));
        let mut took = Vec::new();
        for second in 1..10 {
            took.extend(step(&mut b, &mut table, b"b", second * 1000).unwrap());
            took.extend(step(&mut c, &mut table, b"c", second * 1000 + 1).unwrap());
            assert!(took.len() == 2 || second * 1000 > HELD.0 + 1000);
        }
        assert_eq!(took, [LeaseChange::Begun(1), LeaseChange::Begun(1), LeaseChange::Took(b"a".to_vec())]);
        // It comes back, and begins anew.
        assert_eq!(step(&mut a, &mut table, b"a", 10_000), Ok(vec![LeaseChange::Lost(b"b".to_vec())]));
        assert_eq!(step(&mut a, &mut table, b"a", 11_000), Ok(vec![LeaseChange::Begun(2)]));
        assert_eq!(c.outcome(b"a", 1), Some(&LeaseOutcome::TakenOver(b"b".to_vec(), 1)));
    }

    #[test]
    fn a_table_that_was_away_makes_nobody_lose_anything() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        for second in 0..3 {
            assert!(step(&mut a, &mut table, b"a", second * 1000).is_ok());
            assert!(step(&mut b, &mut table, b"b", second * 1000).is_ok());
        }
        table.away = true;
        for second in 3..60 {
            assert!(step(&mut a, &mut table, b"a", second * 1000).is_err());
            assert!(step(&mut b, &mut table, b"b", second * 1000).is_err());
        }
        assert!(!a.own().unwrap().is_held(Instant::at(60_000)));
        table.away = false;
        for second in 60..65 {
            assert_eq!(step(&mut b, &mut table, b"b", second * 1000), Ok(Vec::new()));
            assert_eq!(step(&mut a, &mut table, b"a", second * 1000), Ok(Vec::new()));
        }
        assert_eq!(a.own().map(|own| own.lease), Some(1));
    }

    #[test]
    fn what_is_given_back_is_taken_at_once() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        step(&mut a, &mut table, b"a", 0).unwrap();
        step(&mut b, &mut table, b"b", 0).unwrap();
        assert_eq!(end(&mut table, (b"a", 1), &[b"nobody"]), Ok(None));
        assert_eq!(step(&mut b, &mut table, b"b", 1000), Ok(vec![LeaseChange::Took(b"a".to_vec())]));
    }

    #[test]
    fn who_ends_hands_over_to_one_that_holds_a_lease() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        table.begin(b"b", 1).unwrap();
        table.begin(b"c", 7).unwrap();
        table.release(b"c", 7).unwrap();
        step(&mut a, &mut table, b"a", 0).unwrap();
        step(&mut b, &mut table, b"b", 0).unwrap();
        assert_eq!(end(&mut table, (b"a", 1), &[b"c", b"b"]), Ok(Some(b"b".as_slice())));
        // The lease of b's present start, not the one that was left over.
        assert_eq!(table.find(b"a", 1).unwrap().unwrap().outcome, LeaseOutcome::TakenOver(b"b".to_vec(), 2));
        // What another node has taken over already is not handed over.
        assert_eq!(end(&mut table, (b"a", 1), &[b"c"]), Ok(None));
        assert_eq!(table.find(b"a", 1).unwrap().unwrap().outcome, LeaseOutcome::TakenOver(b"b".to_vec(), 2));
        table.away = true;
        assert_eq!(end(&mut table, (b"b", 2), &[b"c"]), Err(()));
    }

    #[test]
    fn who_was_restarted_goes_on_with_its_own_lease() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        step(&mut a, &mut table, b"a", 0).unwrap();
        let mut again = Arbiter::default();
        let mut took = Vec::new();
        for second in 1..12 {
            // The other one looks first each time.
            took.extend(step(&mut b, &mut table, b"b", second * 1000).unwrap().into_iter().map(|c| (b'b', c)));
            took.extend(step(&mut again, &mut table, b"a", second * 1000).unwrap().into_iter().map(|c| (b'a', c)));
        }
        assert_eq!(took.last(), Some(&(b'a', LeaseChange::Took(b"a".to_vec()))));
        // When it is lost again both are another one's.
        for second in 12..24 {
            took.extend(step(&mut b, &mut table, b"b", second * 1000).unwrap().into_iter().map(|c| (b'b', c)));
        }
        assert_eq!(took.last(), Some(&(b'b', LeaseChange::Took(b"a".to_vec()))));
        assert_eq!(b.outcome(b"a", 1), Some(&LeaseOutcome::TakenOver(b"a".to_vec(), 2)));
        assert_eq!(b.outcome(b"a", 2), Some(&LeaseOutcome::TakenOver(b"b".to_vec(), 1)));
    }

    /// The table with these rows, and what one node takes over in `seconds`.
    fn taken_in(rows: &[(&[u8], u32, LeaseOutcome)], seconds: u64) -> (Table, Vec<LeaseChange>) {
        let row = |(node, lease, outcome): &(&[u8], u32, LeaseOutcome)| LeaseRow {
            node: node.to_vec(),
            lease: *lease,
            beat: 9,
            outcome: outcome.clone(),
        };
        let (mut table, mut c) = (Table { rows: rows.iter().map(row).collect(), away: false }, Arbiter::default());
        let took = (0..=seconds).flat_map(|second| step(&mut c, &mut table, b"c", second * 1000).unwrap()).collect();
        (table, took)
    }

    #[test]
    fn two_that_end_together_leave_their_leases_to_a_third() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        step(&mut a, &mut table, b"a", 0).unwrap();
        step(&mut b, &mut table, b"b", 0).unwrap();
        // Both have read before either has written.
        table.hand_over((b"a", 1), (b"b", 1)).unwrap();
        table.hand_over((b"b", 1), (b"a", 1)).unwrap();
        table.rows.push(LeaseRow {
            node: b"d".to_vec(),
            lease: 3,
            beat: 1,
            outcome: LeaseOutcome::TakenOver(b"a".to_vec(), 1),
        });
        let mut c = Arbiter::default();
        for second in 0..6 {
            let changes = step(&mut c, &mut table, b"c", second * 1000).unwrap();
            assert!(changes.iter().all(|change| matches!(change, LeaseChange::Begun(_))), "too early: {changes:?}");
        }
        let took: Vec<LeaseChange> = (6..8).flat_map(|n| step(&mut c, &mut table, b"c", n * 1000).unwrap()).collect();
        assert_eq!(took, [b"a", b"b", b"d"].map(|node| LeaseChange::Took(node.to_vec())));
        // They come back, and leave them there.
        for mut again in [(Arbiter::default(), b"a"), (Arbiter::default(), b"b")] {
            for second in 8..18 {
                step(&mut c, &mut table, b"c", second * 1000).unwrap();
                step(&mut again.0, &mut table, again.1, second * 1000).unwrap();
            }
            assert_eq!(table.find(again.1, 1).unwrap().unwrap().outcome, LeaseOutcome::TakenOver(b"c".to_vec(), 1));
            assert_eq!(again.0.own().map(|own| own.lease), Some(2));
        }
    }

    #[test]
    fn what_was_taken_over_by_a_lease_that_is_missing_is_taken_over() {
        let by = |node: &[u8], lease| LeaseOutcome::TakenOver(node.to_vec(), lease);
        let (table, took) = taken_in(&[(b"a", 1, by(b"b", 1)), (b"d", 1, by(b"a", 1))], 7);
        assert_eq!(took[1..], [b"a", b"d"].map(|node| LeaseChange::Took(node.to_vec())));
        assert!(table.rows[..2].iter().all(|row| row.outcome == by(b"c", 1)));
        // One that leads to a lease that is held, or will be taken over with it, is left alone.
        let (table, took) = taken_in(&[(b"a", 1, by(b"b", 1)), (b"b", 1, LeaseOutcome::Released)], 7);
        assert_eq!(took[1..], [LeaseChange::Took(b"b".to_vec())]);
        assert_eq!(table.rows[0].outcome, by(b"b", 1));
    }

    #[test]
    fn a_node_that_is_restarted_again_and_again_loses_its_earlier_leases() {
        let (mut table, mut b, mut took) = (Table::default(), Arbiter::default(), Vec::new());
        let mut a = Arbiter::default();
        for second in 0..25 {
            if second % 4 == 0 {
                a = Arbiter::default();
            }
            step(&mut a, &mut table, b"a", second * 1000).unwrap();
            let changes = step(&mut b, &mut table, b"b", second * 1000).unwrap();
            took.extend(changes.into_iter().filter(|change| matches!(change, LeaseChange::Took(_))).map(|_| second));
        }
        // What began at 0 and stopped at 3 is spared for three times the length.
        assert_eq!(took.first(), Some(&21), "{took:?}");
    }

    #[test]
    fn a_number_that_rows_still_name_is_not_used_again() {
        let (mut table, mut a) = (Table::default(), Arbiter::default());
        let outcome = LeaseOutcome::TakenOver(b"a".to_vec(), 4);
        table.rows.push(LeaseRow { node: b"b".to_vec(), lease: 1, beat: 1, outcome });
        assert_eq!(step(&mut a, &mut table, b"a", 0), Ok(vec![LeaseChange::Begun(5)]));
    }

    #[test]
    fn a_lease_is_held_for_its_time_taken_over_after_it_and_spared_at_a_restart() {
        let (mut table, mut a, mut b) = (Table::default(), Arbiter::default(), Arbiter::default());
        step(&mut a, &mut table, b"a", 100).unwrap();
        let (own, end) = (a.own().unwrap(), Instant::at(100) + HELD);
        assert!(own.is_held(Instant::at(99 + HELD.0)) && !own.is_held(end));
        let takes = |b: &mut Arbiter, table: &mut Table, from: u64| {
            (from..from + 40_000).step_by(100).find(|now| {
                let changes = step(b, table, b"b", *now).unwrap();
                changes.iter().any(|change| matches!(change, LeaseChange::Took(_)))
            })
        };
        assert_eq!(takes(&mut b, &mut table, 100), Some(100 + LENGTH.0));

        // A node that was restarted and goes on beating: what it held before is left to it for a while.
        let (mut table, mut b) = (Table::default(), Arbiter::default());
        table.begin(b"a", 1).unwrap();
        table.begin(b"a", 2).unwrap();
        let mut took = None;
        for now in (100..40_000).step_by(100) {
            let beat = table.find(b"a", 2).unwrap().unwrap().beat;
            table.beat(b"a", 2, beat).unwrap();
            let changes = step(&mut b, &mut table, b"b", now).unwrap();
            took = took.or(changes.contains(&LeaseChange::Took(b"a".to_vec())).then_some(now));
        }
        assert_eq!(took, Some(100 + SPARED.0));
        assert_eq!(table.find(b"a", 2).unwrap().unwrap().outcome, LeaseOutcome::Held);
    }
}
