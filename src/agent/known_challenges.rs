//! The challenges that servers have sent (RFC 7616), in shared memory: all processes answer them, and count together
//! how often each nonce was used.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::pua::digest::protect_the_same;
use crate::shm_safe::shm_safe;

/// How many are known; the one that was learned first is forgotten for another one.
const MOST_CHALLENGES: usize = 64;

struct KnownChallenge {
    server: ShmBox<[u8]>,
    /// A line of [`crate::pua::digest::challenges`].
    challenge: ShmBox<[u8]>,
    /// How often its nonce was used.
    count: u32,
}

shm_safe!(KnownChallenge { server, challenge, count });

/// The challenges of all servers.
pub struct KnownChallenges(Lock<ShmVec<KnownChallenge>>);

shm_safe!(KnownChallenges(value));

impl KnownChallenges {
    /// None yet; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<KnownChallenges, NoMemory> {
        let mut list = ShmVec::new_in(Shm);
        list.try_reserve_exact(MOST_CHALLENGES).map_err(|_| NoMemory)?;
        Ok(KnownChallenges(Lock::new(list)))
    }

    /// The challenges of a server, one a line.
    pub fn of(&self, server: &[u8]) -> Vec<u8> {
        let list = self.0.lock();
        let its = list.iter().filter(|known| *known.server == *server);
        its.map(|known| &known.challenge[..]).collect::<Vec<_>>().join(&b'\n')
    }

    /// How often the nonce of a challenge has been used, this time included. One that is new takes the place of what
    /// the server asked before for the same realm; without memory it is not kept.
    pub fn count(&self, server: &[u8], challenge: &[u8]) -> u32 {
        if let Some(count) = count_known(&mut self.0.lock(), server, challenge) {
            return count;
        }
        let (Ok(its), Ok(copy)) = (shm::copy(server), shm::copy(challenge)) else { return 1 };
        self.learn(KnownChallenge { server: its, challenge: copy, count: 1 })
    }

    /// Counts a challenge that this process did not find, and keeps it unless another process has learned it meanwhile.
    fn learn(&self, learned: KnownChallenge) -> u32 {
        let mut list = self.0.lock();
        let (server, challenge) = (&learned.server, &learned.challenge);
        if let Some(count) = count_known(&mut list, server, challenge) {
            drop(list);
            return count;
        }
        list.retain(|known| known.server != *server || !protect_the_same(&known.challenge, challenge));
        if list.len() >= MOST_CHALLENGES {
            list.remove(0);
        }
        list.push(learned);
        1
    }

    /// Forgets those of a server.
    pub fn forget(&self, server: &[u8]) {
        self.0.lock().retain(|known| *known.server != *server);
    }
}

/// Counts a challenge that is in the list.
fn count_known(list: &mut [KnownChallenge], server: &[u8], challenge: &[u8]) -> Option<u32> {
    let known = list.iter_mut().find(|known| *known.server == *server && *known.challenge == *challenge)?;
    known.count = known.count.saturating_add(1);
    Some(known.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(realm: &str, nonce: &str) -> Vec<u8> {
        format!("SDigest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"").into_bytes()
    }

    #[test]
    fn a_nonce_is_counted_until_there_is_a_new_one() {
        let known = KnownChallenges::new().unwrap();
        assert!(known.of(b"a").is_empty());
        let (first, second, other) = (line("r", "1"), line("r", "2"), line("s", "1"));
        assert_eq!([&first, &first, &other, &first].map(|line| known.count(b"a", line)), [1, 2, 1, 3]);
        assert_eq!(known.of(b"a"), [&first[..], &other].join(&b'\n'));
        assert_eq!(known.count(b"b", &first), 1);
        // The server has asked with another nonce (stale=true).
        assert_eq!((known.count(b"a", &second), known.of(b"a")), (1, [&other[..], &second].join(&b'\n')));
        known.forget(b"a");
        assert_eq!((known.of(b"a"), known.of(b"b")), (Vec::new(), first.clone()));
    }

    #[test]
    fn processes_that_learn_a_challenge_at_the_same_time_count_it_together() {
        let known = KnownChallenges::new().unwrap();
        let learned = || KnownChallenge {
            server: shm::copy(b"a").unwrap(),
            challenge: shm::copy(&line("r", "1")).unwrap(),
            count: 1,
        };
        // None of them had found it.
        let counts = [learned(), learned(), learned()].map(|learned| known.learn(learned));
        assert_eq!((counts, known.count(b"a", &line("r", "1"))), ([1, 2, 3], 4));
        assert_eq!(known.of(b"a"), line("r", "1"));
    }

    #[test]
    fn a_bounded_number_is_known() {
        let known = KnownChallenges::new().unwrap();
        for n in 0..=MOST_CHALLENGES {
            known.count(n.to_string().as_bytes(), &line("r", "1"));
        }
        assert!(known.of(b"0").is_empty() && !known.of(b"1").is_empty());
        assert!(!known.of(MOST_CHALLENGES.to_string().as_bytes()).is_empty());
    }
}
