//! The table of leases that the simulated nodes share, and a node's way to it.
use crate::layers::cluster::arbiter;
use crate::layers::cluster::inheritance::{LeaseOutcome, LeaseRow};
use std::cell::RefCell;
use std::rc::Rc;

pub type Leases = Rc<RefCell<Vec<LeaseRow>>>;

/// The table, as one node reaches it.
pub struct Registry {
    pub leases: Leases,
    pub is_away: bool,
    /// The table was read before another node has changed it.
    pub was_read: Option<Vec<LeaseRow>>,
}

impl Registry {
    fn change(&self, node: &[u8], lease: u32, change: impl FnOnce(&mut LeaseRow)) -> Result<(), ()> {
        if self.is_away {
            return Err(());
        }
        self.leases.borrow_mut().iter_mut().find(|row| row.node == node && row.lease == lease).map(change);
        Ok(())
    }
}

impl arbiter::LeaseTable for Registry {
    type Error = ();

    fn rows(&mut self) -> Result<Vec<LeaseRow>, ()> {
        if self.is_away { Err(()) } else { Ok(self.was_read.clone().unwrap_or_else(|| self.leases.borrow().clone())) }
    }

    fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
        if self.is_away {
            return Err(());
        }
        self.leases.borrow_mut().push(LeaseRow { node: node.to_vec(), lease, beat: 1, outcome: LeaseOutcome::Held });
        Ok(())
    }

    fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), ()> {
        self.change(node, lease, |row| row.beat += u32::from(row.beat == from && row.outcome == LeaseOutcome::Held))
    }

    fn take_over(&mut self, seen: &LeaseRow, node: &[u8], lease: u32) -> Result<(), ()> {
        self.change(&seen.node, seen.lease, |row| {
            if row == seen {
                row.outcome = LeaseOutcome::TakenOver(node.to_vec(), lease);
            }
        })
    }

    fn release(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
        self.change(node, lease, |row| {
            if row.outcome == LeaseOutcome::Held {
                row.outcome = LeaseOutcome::Released;
            }
        })
    }

    fn hand_over(&mut self, own: (&[u8], u32), successor: (&[u8], u32)) -> Result<(), ()> {
        self.change(own.0, own.1, |row| {
            if row.outcome == LeaseOutcome::Held {
                row.outcome = LeaseOutcome::TakenOver(successor.0.to_vec(), successor.1);
            }
        })
    }
}
