//! What the parameters of a cluster name: how many nodes hold a record, and what decides whose a subscription is.
use crate::reference::setting::{ParameterValue, SettingField};
use std::num::NonZeroU8;

/// On how many nodes beside the first one a record is held at most: more copies are no use.
pub const MOST_REPLICAS: i64 = 16;

/// On how many nodes beside the first one a record is held (`cluster_replicas`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaCount {
    /// `all`: on every node.
    All,
    /// On so many.
    Some(NonZeroU8),
}

/// What decides which node sends the NOTIFYs of a subscription (`cluster_arbiter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterArbiter {
    /// `none`: the nodes among themselves.
    None,
    /// `database`: leases in a table.
    Database,
}

/// The numbers as operators see them.
const NUMBERS: [&[u8]; MOST_REPLICAS as usize] =
    [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15", b"16"];

impl SettingField for ReplicaCount {
    fn from_value(value: ParameterValue) -> ReplicaCount {
        let number = match value {
            ParameterValue::Text(text) => crate::sip::text::parsed(text),
            ParameterValue::Number(_) => None,
        };
        number.and_then(NonZeroU8::new).map_or(ReplicaCount::All, ReplicaCount::Some)
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Text(match self {
            ReplicaCount::All => b"all",
            ReplicaCount::Some(number) => NUMBERS[usize::from(number.get()) - 1],
        })
    }
}

impl SettingField for ClusterArbiter {
    fn from_value(value: ParameterValue) -> ClusterArbiter {
        match value {
            ParameterValue::Text(b"database") => ClusterArbiter::Database,
            _ => ClusterArbiter::None,
        }
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Text(match self {
            ClusterArbiter::None => b"none",
            ClusterArbiter::Database => b"database",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::config::PARAMETERS;

    #[test]
    fn as_many_replicas_as_there_may_be_are_read_and_shown_as_they_were_given() {
        let entry = PARAMETERS.iter().find(|entry| entry.name == c"cluster_replicas").expect("a parameter");
        for text in NUMBERS.into_iter().chain([&b"all"[..]]) {
            let given = ParameterValue::Text(text);
            assert!(entry.allows(given) && ReplicaCount::from_value(given).value() == given, "{given:?}");
        }
        for text in [&b""[..], b"0", b"17", b"-1", b"+1", b"1 ", b"none", b"99999999999999999999"] {
            assert!(!entry.allows(ParameterValue::Text(text)), "{:?}", text.escape_ascii().to_string());
        }
    }

    #[test]
    fn an_arbiter_is_shown_as_it_was_given() {
        for text in [&b"none"[..], b"database"] {
            assert_eq!(ClusterArbiter::from_value(ParameterValue::Text(text)).value(), ParameterValue::Text(text));
        }
    }
}
