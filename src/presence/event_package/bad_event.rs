//! Which event package a request asks for, and 489 (Bad Event) where there is none of that name (RFC 6665 8.3.2).
use crate::presence::error::Failure;
use crate::presence::event_package::{PackageId, Packages};
use crate::sip::event::EventHeader;

/// The package that an Event header names, and the header itself.
///
/// # Errors
///
/// Fails with 489 and the packages there are when there is no Event, it cannot be read, or it names none of them.
pub fn asked_for<'a>(packages: &Packages, event: Option<&'a [u8]>) -> Result<(PackageId, EventHeader<'a>), Failure> {
    let refuse = |why: &str| Failure::bad_event(&packages.allow_events(), why);
    let event = event.ok_or_else(|| refuse("no Event header"))?;
    let header = EventHeader::parse(event).ok_or_else(|| refuse("unreadable Event header"))?;
    let unknown = || refuse(&format!("unsupported event package: {}", String::from_utf8_lossy(event)));
    Ok((packages.find(&header).ok_or_else(unknown)?, header))
}
