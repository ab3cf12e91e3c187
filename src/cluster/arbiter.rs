//! An arbiter for nodes that cannot hear each other: leases in a table that all of them reach. A node that holds a
//! lease sends the NOTIFYs of the subscriptions that were made or taken over under it, from memory; it beats the row
//! of its lease once a second, and stops sending before the lease ends when it cannot. A lease that has not beaten
//! for its whole length, by the clock of the node that looks, is taken over by changing its row if nobody has
//! meanwhile: one node takes over, with all that was owned under it. No clock that can be set counts, and none is
//! compared with another one.

use crate::shm_safe::shm_safe;

/// A lease that has not beaten for so long can be taken over, in milliseconds.
pub const LENGTH: u64 = 6_000;

/// For so long after the beat a node may send under its lease, in milliseconds: less than the length, because no two
/// clocks run alike, and a message may be on its way.
pub const HELD: u64 = 4_500;

/// A lease has to be seen without a beat so often before it is taken over: looks that failed do not count.
const LEAST_LOOKS: u32 = 4;

/// A lease in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The node that held it first.
    pub node: Vec<u8>,
    /// Its number: a node begins a new one whenever it starts, and when its last one was taken over.
    pub lease: u32,
    /// Counts up while it is held.
    pub beat: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its node holds it.
    Held,
    /// Its node has given it back: it need not be waited for.
    Released,
    /// What was owned under it is owned under another lease now: the node, and the number.
    TakenOver(Vec<u8>, u32),
}

/// The table of leases. Every change is one statement that names what it changes, and does nothing where that is not
/// so.
pub trait Registry {
    /// It cannot be reached, or refuses.
    type Error;

    /// All rows.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be read.
    fn rows(&mut self) -> Result<Vec<Row>, Self::Error>;
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
    fn take_over(&mut self, seen: &Row, node: &[u8], lease: u32) -> Result<(), Self::Error>;
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
    fn hand_over(&mut self, own: (&[u8], u32), heir: (&[u8], u32)) -> Result<(), Self::Error>;
}

/// The node that a node that ends hands its lease to: the first one in `line` that holds a lease, and the number of
/// that.
pub fn choose_heir<'a>(rows: &[Row], line: &[&'a [u8]]) -> Option<(&'a [u8], u32)> {
    line.iter().find_map(|node| {
        // The last one: an older one may be that of an earlier start, which nobody has taken over yet.
        let last = rows.iter().filter(|row| row.node == *node).max_by_key(|row| row.lease)?;
        (last.fate == Fate::Held).then_some((*node, last.lease))
    })
}

/// Ends the lease of a node that ends: it goes to the first in `line` that holds one, and otherwise to the first to
/// see that it is free. Returns the heir.
///
/// # Errors
///
/// Fails when the registry cannot be read or written: the lease ends when it is not renewed.
pub fn end<'a, R: Registry>(
    registry: &mut R,
    own: (&[u8], u32),
    line: &[&'a [u8]],
) -> Result<Option<&'a [u8]>, R::Error> {
    let heir = choose_heir(&registry.rows()?, line);
    match heir {
        Some(heir) => registry.hand_over(own, heir)?,
        None => registry.release(own.0, own.1)?,
    }
    Ok(heir.map(|(node, _)| node))
}

/// A lease of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Its number.
    pub lease: u32,
    beat: u32,
    /// Until when we may send under it, in milliseconds of a clock that nobody sets; 0: not now.
    pub until: u64,
}

struct Seen {
    row: Row,
    since: u64,
    looks: u32,
}

impl Seen {
    fn has_stood_still(&self, now: u64) -> bool {
        self.looks >= LEAST_LOOKS && now.saturating_sub(self.since) >= LENGTH
    }
}

/// What a step has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
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

    /// The leases that were taken over, as they were seen last.
    pub fn taken_over(&self) -> impl Iterator<Item = &Row> {
        self.seen.iter().map(|seen| &seen.row).filter(|row| matches!(row.fate, Fate::TakenOver(..)))
    }

    /// One second: beats, looks at the others, takes over what has stopped. `now` in milliseconds of a clock that
    /// nobody sets and that goes on while the machine sleeps. After a failure nothing that was seen before counts as
    /// having stood still.
    ///
    /// # Errors
    ///
    /// Fails when the registry cannot be read or written.
    pub fn step<R: Registry>(
        &mut self,
        registry: &mut R,
        name: &[u8],
        now: impl Fn() -> u64,
    ) -> Result<Vec<Change>, R::Error> {
        let done = self.try_step(registry, name, &now);
        if done.is_err() {
            self.seen.iter_mut().for_each(|seen| (seen.since, seen.looks) = (now(), 0));
        }
        done
    }

    fn try_step<R: Registry>(
        &mut self,
        registry: &mut R,
        name: &[u8],
        now: &impl Fn() -> u64,
    ) -> Result<Vec<Change>, R::Error> {
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
                let last = rows.iter().filter(|row| row.node == name).map(|row| row.lease).max().unwrap_or_default();
                registry.begin(name, last + 1)?;
                changes.push(Change::Begun(last + 1));
                Own { lease: last + 1, beat: 1, until: 0 }
            }
        };
        let rows = registry.rows()?;
        let is_mine = |row: &&Row| row.node == name && row.lease == own.lease;
        match rows.iter().find(is_mine) {
            Some(row) if row.fate == Fate::Held => {
                // Another beat than ours: a statement that was thought to have failed had not. The next one counts.
                let until = if row.beat == own.beat { asked_at + HELD } else { own.until };
                self.own = Some(Own { beat: row.beat, until, ..own });
            }
            Some(Row { fate: Fate::TakenOver(node, _), .. }) => {
                self.own = None;
                changes.push(Change::Lost(node.clone()));
            }
            _ => self.own = None,
        }
        self.look(rows, now());
        let Some(own) = self.own.filter(|own| now() < own.until) else { return Ok(changes) };
        let is_over = |seen: &&Seen| match seen.row.fate {
            Fate::Held => seen.has_stood_still(now()) && (seen.row.node == name || !self.has_restarted(seen, now())),
            Fate::Released => true,
            Fate::TakenOver(..) => false,
        };
        let over: Vec<Row> = self.seen.iter().filter(is_over).map(|seen| seen.row.clone()).collect();
        let over: Vec<Row> = over.into_iter().filter(|row| !is_mine(&row)).collect();
        if over.is_empty() {
            return Ok(changes);
        }
        for row in &over {
            registry.take_over(row, name, own.lease)?;
        }
        // Another node may have been faster: what the table says counts.
        self.look(registry.rows()?, now());
        let ours = Fate::TakenOver(name.to_vec(), own.lease);
        let took = over.iter().filter(|row| self.fate(&row.node, row.lease) == Some(&ours));
        changes.extend(took.map(|row| Change::Took(row.node.clone())));
        Ok(changes)
    }

    /// Whether the node of a lease holds a newer one: it was restarted, and goes on with its own itself.
    fn has_restarted(&self, old: &Seen, now: u64) -> bool {
        let is_newer = |seen: &&Seen| seen.row.node == old.row.node && seen.row.lease > old.row.lease;
        let mut newer = self.seen.iter().filter(is_newer);
        newer.any(|seen| seen.row.fate == Fate::Held && !seen.has_stood_still(now))
    }

    fn look(&mut self, rows: Vec<Row>, now: u64) {
        let before = std::mem::take(&mut self.seen);
        let look = |row: Row| match before.iter().find(|seen| seen.row == row) {
            Some(seen) => Seen { row, since: seen.since, looks: seen.looks + 1 },
            None => Seen { row, since: now, looks: 1 },
        };
        self.seen = rows.into_iter().map(look).collect();
    }

    fn fate(&self, node: &[u8], lease: u32) -> Option<&Fate> {
        self.seen.iter().find(|seen| seen.row.node == node && seen.row.lease == lease).map(|seen| &seen.row.fate)
    }
}

/// A lease that was taken over, small enough to be looked up for each subscription: the digests of the names of both
/// nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heir {
    /// What was taken over.
    pub lost: (u64, u32),
    /// By whom.
    pub by: (u64, u32),
}
shm_safe!(Heir { lost, by });

/// Under which lease that is held belongs what was owned under `lease`.
pub fn resolve(heirs: &[Heir], lease: (u64, u32)) -> (u64, u32) {
    let mut at = lease;
    // As many steps as there are leases: a ring, which nobody can make, would not end.
    for _ in 0..heirs.len() {
        match heirs.iter().find(|heir| heir.lost == at) {
            Some(heir) => at = heir.by,
            None => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Table {
        rows: Vec<Row>,
        away: bool,
    }

    impl Table {
        fn find(&mut self, node: &[u8], lease: u32) -> Result<Option<&mut Row>, ()> {
            if self.away { Err(()) } else { Ok(self.rows.iter_mut().find(|r| r.node == node && r.lease == lease)) }
        }
    }

    impl Registry for Table {
        type Error = ();
        fn rows(&mut self) -> Result<Vec<Row>, ()> {
            if self.away { Err(()) } else { Ok(self.rows.clone()) }
        }
        fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
            if self.find(node, lease)?.is_some() {
                return Err(());
            }
            self.rows.push(Row { node: node.to_vec(), lease, beat: 1, fate: Fate::Held });
            Ok(())
        }
        fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), ()> {
            if let Some(row) = self.find(node, lease)?.filter(|r| r.beat == from && r.fate == Fate::Held) {
                row.beat += 1;
            }
            Ok(())
        }
        fn take_over(&mut self, seen: &Row, node: &[u8], lease: u32) -> Result<(), ()> {
            if let Some(row) = self.find(&seen.node, seen.lease)?.filter(|row| *row == seen) {
                row.fate = Fate::TakenOver(node.to_vec(), lease);
            }
            Ok(())
        }
        fn release(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
            if let Some(row) = self.find(node, lease)?.filter(|r| r.fate == Fate::Held) {
                row.fate = Fate::Released;
            }
            Ok(())
        }
        fn hand_over(&mut self, own: (&[u8], u32), heir: (&[u8], u32)) -> Result<(), ()> {
            if let Some(row) = self.find(own.0, own.1)?.filter(|r| r.fate == Fate::Held) {
                row.fate = Fate::TakenOver(heir.0.to_vec(), heir.1);
            }
            Ok(())
        }
    }

    fn step(arbiter: &mut Arbiter, table: &mut Table, name: &[u8], at: u64) -> Result<Vec<Change>, ()> {
        arbiter.step(table, name, || at)
    }

    #[test]
    fn who_stops_beating_is_taken_over_by_one_and_had_stopped_before() {
        let (mut table, mut a, mut b, mut c) =
            (Table::default(), Arbiter::default(), Arbiter::default(), Arbiter::default());
        assert_eq!(step(&mut a, &mut table, b"a", 0), Ok(vec![Change::Begun(1)]));
        assert_eq!(a.own().map(|own| own.until), Some(HELD));
        let mut took = Vec::new();
        for second in 1..10 {
            took.extend(step(&mut b, &mut table, b"b", second * 1000).unwrap());
            took.extend(step(&mut c, &mut table, b"c", second * 1000 + 1).unwrap());
            assert!(took.len() == 2 || second * 1000 > HELD + 1000);
        }
        assert_eq!(took, [Change::Begun(1), Change::Begun(1), Change::Took(b"a".to_vec())]);
        // It comes back, and begins anew.
        assert_eq!(step(&mut a, &mut table, b"a", 10_000), Ok(vec![Change::Lost(b"b".to_vec())]));
        assert_eq!(step(&mut a, &mut table, b"a", 11_000), Ok(vec![Change::Begun(2)]));
        assert_eq!(c.taken_over().count(), 1);
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
        assert!(a.own().unwrap().until < 60_000);
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
        assert_eq!(step(&mut b, &mut table, b"b", 1000), Ok(vec![Change::Took(b"a".to_vec())]));
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
        assert_eq!(table.find(b"a", 1).unwrap().unwrap().fate, Fate::TakenOver(b"b".to_vec(), 2));
        // What another node has taken over already is not handed over.
        assert_eq!(end(&mut table, (b"a", 1), &[b"c"]), Ok(None));
        assert_eq!(table.find(b"a", 1).unwrap().unwrap().fate, Fate::TakenOver(b"b".to_vec(), 2));
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
        assert_eq!(took.last(), Some(&(b'a', Change::Took(b"a".to_vec()))));
        // When it is lost again both are another one's.
        for second in 12..24 {
            took.extend(step(&mut b, &mut table, b"b", second * 1000).unwrap().into_iter().map(|c| (b'b', c)));
        }
        assert_eq!(took.last(), Some(&(b'b', Change::Took(b"a".to_vec()))));
        assert_eq!(b.fate(b"a", 1), Some(&Fate::TakenOver(b"a".to_vec(), 2)));
        assert_eq!(b.fate(b"a", 2), Some(&Fate::TakenOver(b"b".to_vec(), 1)));
    }

    #[test]
    fn an_heir_of_an_heir_owns_both() {
        let heir = |lost: (u64, u32), by| Heir { lost, by };
        let heirs = [heir((1, 1), (2, 1)), heir((2, 1), (3, 4))];
        assert_eq!(resolve(&heirs, (1, 1)), (3, 4));
        assert_eq!(resolve(&heirs, (1, 2)), (1, 2));
        assert_eq!(resolve(&[heir((1, 1), (2, 1)), heir((2, 1), (1, 1))], (1, 1)), (1, 1));
    }
}
