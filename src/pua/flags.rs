//! The two words of flags that a request of another module has (`modules/pua/hash.h`, `pua.h`): the event package, and
//! the module that asks. They are of different types, for one in the place of the other finds no record.
use crate::shm_safe::shm_safe;

macro_rules! flags {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name(i32);

        shm_safe!($name(word));

        impl $name {
            /// The flags of a word of the host, or of a column.
            pub const fn from_word(word: i32) -> $name {
                $name(word)
            }

            /// The word as the host and the table have it.
            pub const fn word(self) -> i32 {
                self.0
            }

            /// Whether they have a flag in common.
            pub const fn share_any(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }
        }
    };
}

flags! {
    /// The event package: one flag, `PRESENCE_EVENT` and the others.
    EventFlags
}

flags! {
    /// The module that has asked: `UL_PUBLISH`, `RPC_PUBLISH` and the others; several where any of them will do.
    SourceFlags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_meet_in_any_bit() {
        let [one, both, other] = [1, 3, 4].map(SourceFlags::from_word);
        assert!(one.share_any(both) && !one.share_any(other) && !SourceFlags::default().share_any(both));
        assert_eq!(both.word(), 3);
    }
}
