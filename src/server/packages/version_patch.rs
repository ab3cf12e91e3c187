//! Bodies that a package makes for each watcher by writing a version into the common one: dialog-info leaves room for
//! it (`version="00000000000"`). Where a package was seen to do just that, it is not asked each time.
use crate::sip::text::push_number;

const ROOM: &[u8] = b" version=\"00000000000\"";

/// The common body with this version in its place; `None` without room for one.
pub fn with_version(body: &[u8], version: u32) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(body, ROOM)?;
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(&body[..at]);
    out.extend_from_slice(b" version=\"");
    push_number(&mut out, i64::from(version));
    out.push(b'"');
    out.extend_from_slice(&body[at + ROOM.len()..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::server::packages::prediction::Predictions;
    use std::cell::Cell;

    const COMMON: &[u8] = b"<?xml version=\"1.0\"?>\n<dialog-info version=\"00000000000\" state=\"full\"/>\n";

    #[test]
    fn a_package_that_writes_the_version_is_asked_less_and_less() {
        let (versions, asked) = (Predictions::default(), Cell::new(0));
        for version in 0..100 {
            let wanted =
                format!("<?xml version=\"1.0\"?>\n<dialog-info version=\"{version}\" state=\"full\"/>\n").into_bytes();
            let ask = || {
                asked.set(asked.get() + 1);
                Some(wanted.clone())
            };
            assert_eq!(versions.body(PackageId(1), || with_version(COMMON, version), ask), Some(wanted.clone()));
        }
        assert_eq!(asked.get(), 4);
    }

    #[test]
    fn a_body_without_room_is_left_to_the_package() {
        let versions = Predictions::default();
        for _ in 0..10 {
            assert_eq!(versions.body(PackageId(0), || with_version(b"<a version=\"7\"/>", 3), || None), None);
        }
    }
}
