//! An entity tag (RFC 3903 4.1): the name of one version of a publication. SIP-ETag carries it, SIP-If-Match asks for
//! it.
use super::blocks::find;
use crate::shm_safe::{ShmSafe, shm_safe};

/// An entity tag, or a view of one (`EntityTag<&[u8]>`).
#[derive(Debug, Clone, Copy, Default, Hash)]
pub struct EntityTag<B = Vec<u8>>(B);

shm_safe!([B: ShmSafe] EntityTag<B>(bytes));

impl<B: AsRef<[u8]>> EntityTag<B> {
    /// The tag of these bytes.
    pub const fn new(bytes: B) -> Self {
        EntityTag(bytes)
    }

    /// The tag of these bytes; `None` where there are none, and nothing is named.
    pub fn named(bytes: B) -> Option<Self> {
        Some(EntityTag(bytes)).filter(|tag| !tag.is_empty())
    }

    /// The tag's bytes, as a header field and a row have them.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// A view of it.
    pub fn view(&self) -> EntityTag<&[u8]> {
        EntityTag(self.0.as_ref())
    }

    /// The tag with its bytes in a block made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<EntityTag<C>, E> {
        copy(self.bytes()).map(EntityTag)
    }

    /// A copy of its own.
    pub fn to_owned_tag(&self) -> EntityTag {
        EntityTag(self.0.as_ref().to_vec())
    }

    /// Whether it has no bytes, and names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_empty()
    }

    /// The last number of a tag of ours or of stock: how often the publication has changed. 0 where there is none.
    pub fn changes(&self) -> u32 {
        let mut rest = self.0.as_ref();
        for _ in 0..4 {
            let Some(dot) = find(b'.', rest) else { return 0 };
            rest = &rest[dot + 1..];
        }
        let count = &rest[..find(b'.', rest).unwrap_or(rest.len())];
        std::str::from_utf8(count).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl<'a> EntityTag<&'a [u8]> {
    /// The bytes that are viewed.
    pub const fn into_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<B: AsRef<[u8]>, C: AsRef<[u8]>> PartialEq<EntityTag<C>> for EntityTag<B> {
    fn eq(&self, other: &EntityTag<C>) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<B: AsRef<[u8]>> Eq for EntityTag<B> {}

impl From<&str> for EntityTag {
    fn from(text: &str) -> Self {
        EntityTag(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts_the_changes() {
        for (tag, changes) in [
            ("a.1795226396.11999.24.2", 2),
            ("bogus", 0),
            ("a.1.2.3.", 0),
            ("a.1.2.3.7.8", 7),
            ("....5", 5),
            ("a.1.2.3", 0),
            ("", 0),
            ("a.1.2.3.x", 0),
        ] {
            assert_eq!(EntityTag::from(tag).changes(), changes, "{tag}");
        }
    }
}
