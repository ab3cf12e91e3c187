//! Decisions whose rows the table `watchers` lacks: which are to be written, and what became of a try.
use super::{
    AuthorizationCache, AuthorizationKey, CachedAuthorization, OwedState, OwnAuthorizationKey, Room, RowOf,
    WatcherRowState,
};
use crate::common::row_groups::{Pass, RowBackoff, RowOutcome};
use crate::host::process_mutex::ProcessMutexGuard;
use crate::presence::authorization::Authorization;
use crate::presence::resource::UriComparison;
use crate::time::Moment;
use std::sync::atomic::Ordering;

/// What was decided about a watcher and is not in the table yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnwrittenAuthorization {
    /// The user of the watcher.
    pub user: Vec<u8>,
    /// The host of the watcher.
    pub host: Vec<u8>,
    /// What was decided.
    pub authorization: Authorization,
    /// Whether a row that says otherwise is older.
    pub writes_over: bool,
}

impl UnwrittenAuthorization {
    /// Whether it is about this watcher.
    pub fn is_of(&self, rule: UriComparison, user: &[u8], host: &[u8]) -> bool {
        rule.same(&self.user, user) && self.host.eq_ignore_ascii_case(host)
    }
}

/// A row of `watchers` that is still to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedRow {
    /// Whose authorization it is.
    pub key: OwnAuthorizationKey,
    /// What was decided last.
    pub authorization: Authorization,
    /// Whether that is not the first decision: the row is as if it had been written, and changed.
    pub has_changed: bool,
    /// Whether it is written over what the row says by now.
    pub writes_over: bool,
}

impl AuthorizationCache {
    /// Whether the table does not have the authorization of this key yet.
    pub fn is_owed(&self, key: &AuthorizationKey<'_>) -> bool {
        if self.owed() == 0 {
            return false;
        }
        let hash = self.rule.exact_hash(&key.parts());
        let shard = self.shard(hash).lock();
        shard.table.find(hash, |cached| cached.is(hash, key)).is_some_and(|cached| !cached.is_written())
    }

    /// How many the table does not have yet.
    pub fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed)
    }

    /// Until the guard is gone no other process writes what the table does not have yet.
    pub fn turn_to_write(&self) -> ProcessMutexGuard {
        self.writer.lock()
    }

    /// Authorizations that the table does not have yet: at most `limit`, of one shard after the other; those that are
    /// returned together are in the order in which they began to wait. Those that rest are left out, see
    /// [`RowBackoff::rests`].
    pub fn unwritten(&self, limit: usize, now: Moment, pass: Pass) -> Vec<OwedRow> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            if found.len() >= limit || self.owed() == 0 {
                break;
            }
            let shard = shard.lock();
            let waiting = shard.unwritten().filter(|cached| !cached.aside.rests(now, pass));
            let owed = waiting.filter_map(|cached| {
                let OwedState { has_changed, writes_over } = cached.owed()?;
                let (key, authorization) = (cached.key(), cached.authorization());
                Some((cached.turn, OwedRow { key, authorization, has_changed, writes_over }))
            });
            found.extend(owed.take(limit - found.len()));
        }
        found.sort_by_key(|(turn, _)| *turn);
        found.into_iter().map(|(_, row)| row).collect()
    }

    /// Returns the decisions of one presentity and event package that are not written.
    pub fn unwritten_of(&self, presentity: &[u8], event: &[u8]) -> Vec<UnwrittenAuthorization> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            if self.owed() == 0 {
                break;
            }
            let shard = shard.lock();
            let [uri, user, host, package] = [0, 1, 2, 3];
            let is_of = |cached: &&CachedAuthorization| {
                cached.strings.get(package) == event && self.rule.same(cached.strings.get(uri), presentity)
            };
            found.extend(shard.unwritten().filter(is_of).filter_map(|cached| {
                Some(UnwrittenAuthorization {
                    user: cached.strings.get(user).to_vec(),
                    host: cached.strings.get(host).to_vec(),
                    authorization: cached.authorization(),
                    writes_over: cached.owed()?.writes_over,
                })
            }));
        }
        found
    }

    /// The row of this authorization could not be written in the pass that began at `now`; `true` when it was not known
    /// to be refused.
    pub fn set_aside(&self, key: &AuthorizationKey<'_>, outcome: RowOutcome, now: Moment) -> bool {
        let hash = self.rule.exact_hash(&key.parts());
        let mut shard = self.shard(hash).lock();
        let Some(cached) = shard.table.find_mut(hash, |cached| cached.is(hash, key)) else { return false };
        let was_refused = cached.aside.is_refused();
        cached.aside = cached.aside.after(outcome, now);
        !was_refused
    }

    /// Keys of authorizations whose rows the database has refused, at most `limit`.
    pub fn refused(&self, limit: usize) -> Vec<OwnAuthorizationKey> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            let refused = shard.unwritten().filter(|cached| cached.aside.is_refused());
            found.extend(refused.take(limit - found.len()).map(CachedAuthorization::key));
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    /// The table has this authorization now; another one that was decided meanwhile still has to be written.
    pub fn mark_written(&self, key: &AuthorizationKey<'_>, authorization: &Authorization, now: Moment) {
        let hash = self.rule.exact_hash(&key.parts());
        let mut shard = self.shard(hash).lock();
        let found = shard.table.find_mut(hash, |cached| cached.is(hash, key) && !cached.is_written());
        if let Some(cached) = found.filter(|cached| cached.authorization() == *authorization) {
            (cached.row, cached.read_at, cached.aside) = (WatcherRowState::Written, now, RowBackoff::default());
            let before = shard.owed.len();
            shard.settle(hash);
            self.count_owed(before, shard.owed.len());
        }
    }

    /// The table has another decision, which somebody else has written, than the first one of this server: that of the
    /// table counts, unless there is a newer one here meanwhile.
    pub fn take_over(&self, key: &AuthorizationKey<'_>, first: &Authorization, found: &Authorization, now: Moment) {
        let hash = self.rule.exact_hash(&key.parts());
        let is_as_written = |cached: &CachedAuthorization| {
            cached.owed().is_some_and(|owed| !owed.writes_over) && cached.authorization() == *first
        };
        self.put_if(key, found, now, (RowOf::Written, Room::None), |shard| {
            shard.table.find(hash, |cached| cached.is(hash, key)).is_some_and(is_as_written)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ALICE, RULE, authorization, key};
    use super::*;
    use crate::presence::subscription::Status;

    #[test]
    fn a_first_decision_gives_way_to_the_row_of_another() {
        let (first, found) = (authorization(Status::Pending, b""), authorization(Status::Active, b"by hand"));
        for meanwhile in [None, Some(Status::Terminated), Some(Status::Pending)] {
            let authorizations = AuthorizationCache::within(RULE, 1 << 20).unwrap();
            authorizations.put(&ALICE, &first, Moment::at(10), RowOf::Owed, Room::Made);
            assert!(!authorizations.unwritten(9, Moment::at(11), Pass::Regular)[0].writes_over);
            if let Some(status) = meanwhile {
                let judged = authorization(status, b"");
                authorizations.put(&ALICE, &judged, Moment::at(11), RowOf::Outdated, Room::Made);
            }
            authorizations.take_over(&ALICE, &first, &found, Moment::at(12));
            let wanted = meanwhile.map_or(found.clone(), |status| authorization(status, b""));
            assert_eq!(authorizations.get(&ALICE, Moment::at(0)), Some(wanted));
            let owed = authorizations.unwritten(9, Moment::at(13), Pass::Regular);
            assert_eq!(owed.iter().map(|row| row.writes_over).collect::<Vec<_>>(), vec![true; owed.len()]);
            assert_eq!(
                (owed.len(), authorizations.owed()),
                match meanwhile {
                    None => (0, 0),
                    Some(_) => (1, 1),
                }
            );
        }
    }

    #[test]
    fn what_is_not_written_stays_until_it_is() {
        let authorizations = &AuthorizationCache::within(RULE, 1 << 20).unwrap();
        authorizations.put(&ALICE, &authorization(Status::Pending, b"r"), Moment::at(10), RowOf::Owed, Room::Made);
        authorizations.forget_old(Moment::at(100));
        assert_eq!(authorizations.get(&ALICE, Moment::at(100)), Some(authorization(Status::Pending, b"r")));
        let unwritten = |limit| authorizations.unwritten(limit, Moment::at(100), Pass::Regular).into_iter();
        let first = unwritten(1).next().unwrap();
        assert_eq!((first.key.lent(), first.has_changed, authorizations.owed()), (ALICE, false, 1));
        assert_eq!(first.authorization, authorization(Status::Pending, b"r"));
        authorizations.put(&ALICE, &authorization(Status::Active, b"r"), Moment::at(11), RowOf::Owed, Room::Made);
        authorizations.put(&ALICE, &authorization(Status::Pending, b"r"), Moment::at(12), RowOf::Owed, Room::Made);
        assert_eq!((unwritten(1).next().unwrap().has_changed, authorizations.owed()), (true, 1));
        authorizations.mark_written(&ALICE, &authorization(Status::Active, b""), Moment::at(20));
        assert!(unwritten(1).next().is_some(), "another authorization was written");
        authorizations.mark_written(&ALICE, &authorization(Status::Pending, b"r"), Moment::at(20));
        assert_eq!((unwritten(1).next(), authorizations.owed()), (None, 0));
    }

    #[test]
    fn rows_are_written_in_the_order_of_the_decisions() {
        let authorizations = &AuthorizationCache::within(RULE, 1 << 20).unwrap();
        let names: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let put = |name: &str, status| {
            let key = key(b"sip:a@b", name.as_bytes());
            authorizations.put(&key, &authorization(status, b""), Moment::at(1), RowOf::Owed, Room::Made)
        };
        assert!(names.iter().all(|name| put(name, Status::Pending)) && put(&names[7], Status::Active));
        let rows = authorizations.unwritten(100, Moment::at(2), Pass::Regular);
        assert!(rows.iter().map(|row| row.key.lent().watcher_user).eq(names.iter().map(String::as_bytes)));
    }
}
