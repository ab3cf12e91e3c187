//! Which changes of its resource a subscription has been notified of.
use crate::shm_safe::shm_safe;

/// How far a subscription has been notified of the changes of its resource. They are counted, and the counter wraps
/// around. A watcher is not notified of its own changes, and misses nothing of what others have changed before: what
/// it is passed over for is kept until it has been notified of all that came earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotifiedChanges {
    /// The watcher has been notified of every change up to this one.
    last: u32,
    /// The first of the later changes that it is passed over for.
    passed_from: u32,
    /// How many they are, one after the other.
    passed: u32,
}

shm_safe!(NotifiedChanges { last, passed_from, passed });

impl NotifiedChanges {
    /// The state of a watcher that knows every change up to this one.
    pub fn up_to(generation: u32) -> NotifiedChanges {
        NotifiedChanges { last: generation, ..NotifiedChanges::default() }
    }

    /// Whether there are changes up to this one that it has not been notified of.
    pub fn is_behind(self, generation: u32) -> bool {
        is_later(generation, self.last)
    }

    /// The watcher is notified of every change up to this one.
    pub fn notified(&mut self, generation: u32) {
        self.last = generation;
        if self.passed == 0 || is_later(self.passed_from, generation.wrapping_add(1)) {
            return;
        }
        let passed_to = self.passed_from.wrapping_add(self.passed - 1);
        *self = NotifiedChanges::up_to(if is_later(passed_to, generation) { passed_to } else { generation });
    }

    /// The watcher is passed over for the newest change, this one. Of two such runs of changes with another one between
    /// them the later is kept: the watcher may be notified of a change of its own then.
    pub fn pass_over(&mut self, generation: u32) {
        if !self.is_behind(generation.wrapping_sub(1)) {
            *self = NotifiedChanges::up_to(generation);
        } else if self.passed > 0 && self.passed_from.wrapping_add(self.passed) == generation {
            self.passed += 1;
        } else {
            (self.passed_from, self.passed) = (generation, 1);
        }
    }
}

fn is_later(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `steps`: `o` is a change of another, `m` one of the watcher's own, `n` a NOTIFY of all changes before the last
    /// `late` ones. Whether the watcher is behind at the end.
    fn a_watcher_is_behind_until_it_knows_what_others_have_changed((steps, late, wanted): (&str, u32, bool)) {
        for first in [1, u32::MAX - 2] {
            let (mut generation, mut seen) = (first, NotifiedChanges::up_to(first));
            for step in steps.chars() {
                match step {
                    'n' => seen.notified(generation.wrapping_sub(late)),
                    'm' => {
                        generation = generation.wrapping_add(1);
                        seen.pass_over(generation);
                    }
                    _ => generation = generation.wrapping_add(1),
                }
            }
            assert_eq!(seen.is_behind(generation), wanted, "{steps} {late} {first}");
        }
    }

    table! { a_watcher_is_behind_until_it_knows_what_others_have_changed:
        nothing => ("", 0, false);
        a_change => ("o", 0, true);
        its_own => ("m", 0, false);
        several_of_its_own => ("mmm", 0, false);
        its_own_after_another_s => ("om", 0, true);
        another_s_after_its_own => ("mo", 0, true);
        all_are_notified => ("omn", 0, false);
        the_pass_has_begun_before_its_own => ("omn", 1, false);
        the_pass_has_begun_before_several => ("ommmn", 3, false);
        the_pass_has_begun_amid_several => ("ommmn", 1, false);
        the_pass_has_begun_before_another_s => ("oomn", 2, true);
        another_s_comes_after_its_own => ("omon", 2, true);
        both_are_notified => ("omonn", 0, false);
    }
}
