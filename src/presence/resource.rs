//! A resource: one event package of one presentity. Publications and subscriptions hang on it, and its resource entry
//! keeps their order.
use super::event_package::PackageId;
use crate::shm_safe::shm_safe;
use foldhash::quality::FixedState;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

/// Presentity URI and event package, with their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `sip:user@host`.
    pub uri: Vec<u8>,
    /// The event package.
    pub event: PackageId,
    /// The hash of both.
    pub hash: u64,
}

/// How URIs are compared and hashed.
#[derive(Debug, Clone, Copy)]
pub struct UriComparison {
    /// `sip_uri_match` 1.
    pub ignore_case: bool,
    /// A random start value, the same in all processes.
    pub seed: u64,
}

shm_safe!(UriComparison { ignore_case, seed });

impl UriComparison {
    /// The resource of this URI and package.
    pub fn resource(&self, uri: &[u8], event: PackageId) -> Resource {
        self.resource_of(uri.to_vec(), event)
    }

    /// The same of a URI that is given away.
    pub fn resource_of(&self, uri: Vec<u8>, event: PackageId) -> Resource {
        let hash = self.hash(&[&uri], u64::from(event.0));
        Resource { uri, event, hash }
    }

    /// A hash over parts, each with its length, and a number.
    #[inline]
    pub fn hash(&self, parts: &[&[u8]], number: u64) -> u64 {
        let mut hasher = FixedState::with_seed(self.seed ^ number).build_hasher();
        for part in parts {
            hasher.write(&self.folded(part));
        }
        hasher.finish()
    }

    /// A hash over parts that are always compared byte by byte.
    pub fn exact_hash(&self, parts: &[&[u8]]) -> u64 {
        UriComparison { ignore_case: false, seed: self.seed }.hash(parts, 1 << 40)
    }

    /// A URI as all that are the same are written.
    pub fn folded<'u>(&self, uri: &'u [u8]) -> Cow<'u, [u8]> {
        match self.ignore_case && uri.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(uri.to_ascii_lowercase()),
            false => Cow::Borrowed(uri),
        }
    }

    /// Whether two URIs are the same.
    pub fn same(&self, a: &[u8], b: &[u8]) -> bool {
        if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
    }
}
