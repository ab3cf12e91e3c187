//! The table of leases that the simulated nodes share, and a node's way to it.
use crate::layers::cluster::arbiter;
use crate::layers::cluster::inheritance::{Fate, Row};
use std::cell::RefCell;
use std::rc::Rc;

pub type Leases = Rc<RefCell<Vec<Row>>>;

/// The table, as one node reaches it.
pub struct Registry {
    pub leases: Leases,
    pub is_away: bool,
    /// It was read before another node has changed it.
    pub was_read: Option<Vec<Row>>,
}

impl Registry {
    fn change(&self, node: &[u8], lease: u32, change: impl FnOnce(&mut Row)) -> Result<(), ()> {
        if self.is_away {
            return Err(());
        }
        self.leases.borrow_mut().iter_mut().find(|row| row.node == node && row.lease == lease).map(change);
        Ok(())
    }
}

impl arbiter::Registry for Registry {
    type Error = ();

    fn rows(&mut self) -> Result<Vec<Row>, ()> {
        if self.is_away { Err(()) } else { Ok(self.was_read.clone().unwrap_or_else(|| self.leases.borrow().clone())) }
    }

    fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
        if self.is_away {
            return Err(());
        }
        self.leases.borrow_mut().push(Row { node: node.to_vec(), lease, beat: 1, fate: Fate::Held });
        Ok(())
    }

    fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), ()> {
        self.change(node, lease, |row| row.beat += u32::from(row.beat == from && row.fate == Fate::Held))
    }

    fn take_over(&mut self, seen: &Row, node: &[u8], lease: u32) -> Result<(), ()> {
        self.change(&seen.node, seen.lease, |row| {
            if row == seen {
                row.fate = Fate::TakenOver(node.to_vec(), lease);
            }
        })
    }

    fn release(&mut self, node: &[u8], lease: u32) -> Result<(), ()> {
        self.change(node, lease, |row| {
            if row.fate == Fate::Held {
                row.fate = Fate::Released;
            }
        })
    }

    fn hand_over(&mut self, own: (&[u8], u32), heir: (&[u8], u32)) -> Result<(), ()> {
        self.change(own.0, own.1, |row| {
            if row.fate == Fate::Held {
                row.fate = Fate::TakenOver(heir.0.to_vec(), heir.1);
            }
        })
    }
}
