//! Bodies that differ by watcher in the version alone (RFC 4235 4.3): those of the others are made from one that the
//! package made.
use crate::sip::text::push_number;
use std::borrow::Cow;

/// What is known of the bodies a package makes for each watcher in one pass: once two of them were seen to be the same
/// at the same version, or to differ in the version alone, the rest are made from them.
#[derive(Default)]
pub(crate) struct PerWatcher {
    first: Option<(u32, Vec<u8>)>,
    same_at_first: bool,
    template: Option<(Vec<u8>, Vec<u8>)>,
}

impl PerWatcher {
    /// Whether it is known how the body for a watcher at this version is made.
    pub(crate) fn is_known_for(&self, version: u32) -> bool {
        self.template.is_some() || self.is_first(version)
    }

    fn is_first(&self, version: u32) -> bool {
        self.same_at_first && self.first.as_ref().is_some_and(|(first, _)| *first == version)
    }

    /// The body for a watcher at this version, once it is known how. One that is lent stays in its place.
    pub(crate) fn made_for(&self, version: u32) -> Option<Cow<'_, [u8]>> {
        match &self.first {
            Some((_, body)) if self.is_first(version) => Some(Cow::Borrowed(body)),
            _ => self.made_of_template(version).map(Cow::Owned),
        }
    }

    fn made_of_template(&self, version: u32) -> Option<Vec<u8>> {
        let (before, after) = self.template.as_ref()?;
        let mut body = Vec::with_capacity(before.len() + after.len() + 10);
        body.extend_from_slice(before);
        push_number(&mut body, i64::from(version));
        body.extend_from_slice(after);
        Some(body)
    }

    /// Looks at a body that the package made.
    pub(crate) fn learn(&mut self, version: u32, body: &[u8]) {
        let Some((first, earlier)) = &self.first else {
            self.first = Some((version, body.to_vec()));
            return;
        };
        if *first == version {
            self.same_at_first = earlier == body;
        } else if self.template.is_none() {
            let Some((before, after)) = split_at_version(earlier, *first) else { return };
            let template = Some((before.to_vec(), after.to_vec()));
            let candidate = PerWatcher { template, ..PerWatcher::default() };
            if candidate.made_for(version).as_deref() == Some(body) {
                self.template = candidate.template;
            }
        }
    }
}

/// The parts of a document before and after `version` in its first `version="..."`.
fn split_at_version(document: &[u8], version: u32) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(document, b" version=\"").map(|at| at + 10)?;
    // The XML declaration has a version of its own.
    let at = match document[at..].starts_with(b"1.0\"") {
        true => at + memchr::memmem::find(&document[at..], b" version=\"")? + 10,
        false => at,
    };
    let mut digits = Vec::new();
    push_number(&mut digits, i64::from(version));
    let after = document[at..].strip_prefix(digits.as_slice())?;
    after.starts_with(b"\"").then_some((&document[..at], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(version: u32, rest: &str) -> Vec<u8> {
        format!("<?xml version=\"1.0\"?>\n<dialog-info version=\"{version}\" state=\"full\">{rest}</dialog-info>")
            .into_bytes()
    }

    #[test]
    fn bodies_that_differ_in_the_version_are_made_from_each_other() {
        let mut own = PerWatcher::default();
        own.learn(9, &document(9, "x"));
        assert_eq!(own.made_for(10), None);
        own.learn(10, &document(10, "x"));
        assert_eq!(own.made_for(123).as_deref(), Some(&*document(123, "x")));
    }

    #[test]
    fn bodies_that_differ_otherwise_are_not() {
        let mut own = PerWatcher::default();
        own.learn(1, &document(1, "alice"));
        own.learn(2, &document(2, "bob"));
        assert_eq!(own.made_for(3), None);
        own.learn(1, &document(1, "carol"));
        assert_eq!((own.made_for(1), own.made_for(3)), (None, None));
    }

    #[test]
    fn the_same_body_at_the_same_version_is_used_again_at_that_version_only() {
        let mut own = PerWatcher::default();
        own.learn(4, &document(4, "x"));
        own.learn(4, &document(4, "x"));
        assert_eq!(own.made_for(4).as_deref(), Some(&*document(4, "x")));
        assert_eq!(own.made_for(5), None);
    }
}
