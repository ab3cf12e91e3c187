//! How often the documents of resources were changed, where subscriptions are rows (database-only mode). There the
//! process that a change happened in sends it, and may come to that after another one has sent a later change: what is
//! shown only once gives way then to the state as it is.
use crate::presence::resource::Resource;
use crate::shm_safe::shm_safe;
use crate::time::Moment;
use std::cmp::Ordering as Order;
use std::sync::atomic::{AtomicU32, Ordering};

/// The resources are spread over this many counts: where two share one, a document of one is read once more.
const COUNTS: usize = 4096;

/// The changes of this server, in shared memory.
pub struct ChangeCounts {
    counts: [AtomicU32; COUNTS],
}

shm_safe!(ChangeCounts { counts });

impl Default for ChangeCounts {
    /// None yet.
    fn default() -> ChangeCounts {
        ChangeCounts { counts: std::array::from_fn(|_| AtomicU32::new(0)) }
    }
}

impl ChangeCounts {
    fn count(&self, hash: u64) -> &AtomicU32 {
        &self.counts[(hash >> 20) as usize % COUNTS]
    }

    /// A change is about to be stored. Its number is that of the next change: any other one that is stored in between
    /// makes both of them pass for older than they may be.
    pub fn begin(&self, resource: &Resource) -> ChangeNumber {
        let ChangeNumber { hash, number } = self.latest(resource.hash);
        ChangeNumber { hash, number: number.wrapping_add(1) }
    }

    /// A change is stored.
    pub fn note(&self, resource: &Resource) {
        self.count(resource.hash).fetch_add(1, Ordering::SeqCst);
    }

    fn latest(&self, hash: u64) -> ChangeNumber {
        ChangeNumber { hash, number: self.count(hash).load(Ordering::SeqCst) }
    }

    /// Whether it is the latest change of its resource at this server.
    pub fn is_latest(&self, number: ChangeNumber) -> bool {
        self.latest(number.hash) == number
    }
}

/// Which change of a resource's documents it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeNumber {
    hash: u64,
    number: u32,
}

shm_safe!(ChangeNumber { hash, number });

impl ChangeNumber {
    /// Whether it is the number of a change of this resource.
    pub fn is_of(&self, resource: &Resource) -> bool {
        self.hash == resource.hash
    }
}

/// When a change came in, however often it was tried since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CameIn {
    /// By the server's own time.
    pub at: Moment,
    /// The change's number, where documents were changed here.
    pub number: Option<ChangeNumber>,
}

shm_safe!(CameIn { at, number });

impl CameIn {
    /// A change of which nothing is shown only once.
    pub fn at(moment: Moment) -> CameIn {
        CameIn { at: moment, number: None }
    }

    /// Whether it came in before `other`, as far as that is known.
    pub fn is_before(&self, other: &CameIn) -> bool {
        match (self.at.cmp(&other.at), self.number, other.number) {
            (Order::Equal, Some(own), Some(its)) => its.number.wrapping_sub(own.number) as i32 > 0,
            (by_time, ..) => by_time == Order::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::resource::UriComparison;

    #[test]
    fn of_changes_that_overlap_none_is_shown_as_the_latest_before_its_time() {
        let counts = ChangeCounts::default();
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let [alice, bob] = [b"sip:a@b", b"sip:b@b"].map(|uri| rule.resource(uri, PackageId(1)));
        let first = counts.begin(&alice);
        counts.note(&alice);
        counts.note(&bob);
        assert!(counts.is_latest(first) && first.is_of(&alice) && !first.is_of(&bob));
        let second = counts.begin(&alice);
        let third = counts.begin(&alice);
        counts.note(&alice);
        assert!(!counts.is_latest(first));
        counts.note(&alice);
        // Which of them was stored last nobody knows: both show what is stored.
        assert!(!counts.is_latest(second) && !counts.is_latest(third));
    }

    #[test]
    fn changes_of_one_second_are_kept_apart_by_their_numbers() {
        let came_in = |second, number: Option<u32>| CameIn {
            at: Moment::at(second),
            number: number.map(|number| ChangeNumber { hash: 1, number }),
        };
        for (one, other, is_before) in [
            (came_in(1, Some(7)), came_in(2, Some(3)), true),
            (came_in(2, Some(3)), came_in(2, Some(4)), true),
            (came_in(2, Some(u32::MAX)), came_in(2, Some(0)), true),
            (came_in(2, Some(4)), came_in(2, Some(3)), false),
            (came_in(2, None), came_in(2, Some(3)), false),
            (came_in(3, None), came_in(2, Some(3)), false),
        ] {
            assert_eq!(one.is_before(&other), is_before, "{one:?} {other:?}");
        }
    }

    #[test]
    fn resources_that_share_a_count_show_the_state_as_it_is() {
        let rule = crate::presence::resource::UriComparison { ignore_case: false, seed: 7 };
        let counts = ChangeCounts::default();
        let resource =
            |n: usize| rule.resource(format!("sip:{n}@b").as_bytes(), crate::presence::event_package::PackageId(0));
        let place = |resource: &Resource| (resource.hash >> 20) as usize % COUNTS;
        let first = resource(0);
        let sharing = (1..).map(resource).find(|other| place(other) == place(&first)).unwrap();
        let apart = (1..).map(resource).find(|other| place(other) != place(&first)).unwrap();
        let number = counts.begin(&first);
        counts.note(&first);
        counts.note(&apart);
        assert!(counts.is_latest(number));
        counts.note(&sharing);
        assert!(!counts.is_latest(number) && number.is_of(&first) && !number.is_of(&sharing));
    }
}
