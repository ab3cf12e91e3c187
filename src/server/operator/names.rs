//! Presentities, watchers and event packages as scripts, operators and other modules name them.
use crate::host::log;
use crate::host::msg::parse_uri;
use crate::presence::resource::Resource;
use crate::server::shared::Parts;
use crate::sip::checked::{CheckedParts, HostPart, UserPart};
use crate::sip::uri;

/// User and host of a URI that a script, an RPC command or another module gives, in the form the tables have them.
pub(crate) fn parts_of(uri: &[u8]) -> Option<CheckedParts<'_>> {
    let parts = parse_uri(uri)?;
    Some(CheckedParts { user: UserPart::new(parts.user).ok()?, host: HostPart::new(parts.host).ok()? })
}

fn plain_uri(uri: &[u8]) -> Option<Vec<u8>> {
    parts_of(uri).map(|parts| uri::join(parts.user.bytes(), parts.host.bytes()))
}

/// A URI as the tables have it; what is no URI names nobody.
pub(crate) fn as_stored(uri: &[u8]) -> Vec<u8> {
    plain_uri(uri).unwrap_or_else(|| uri.to_vec())
}

/// Package and resource for a URI and an event name.
pub(crate) fn resource_of(parts: &Parts, uri: &[u8], event: &[u8]) -> Option<Resource> {
    let id = parts.packages().named(event)?;
    Some(parts.shared.tables.rule().resource(&plain_uri(uri)?, id))
}

/// A user as an operator writes one: `bob`, `bob@host`, `sip:BOB@Host`.
pub(crate) struct Name {
    user: Vec<u8>,
    /// None: any.
    host: Option<Vec<u8>>,
    given: Vec<u8>,
}

impl Name {
    /// # Errors
    ///
    /// Fails when it names nobody.
    pub(crate) fn read(given: &[u8]) -> Result<Name, String> {
        if !given.iter().any(|c| c.is_ascii_alphanumeric() || !c.is_ascii()) || given.iter().any(u8::is_ascii_control) {
            return Err(format!("{} names nobody: write bob, bob@host or sip:bob@host", log::show(given)));
        }
        let given = as_stored(given);
        let lower = given.to_ascii_lowercase();
        let scheme = [&b"sip:"[..], b"sips:", b"pres:", b"tel:"].into_iter().find(|scheme| lower.starts_with(scheme));
        let rest = &lower[scheme.map_or(0, <[u8]>::len)..];
        Ok(match rest.iter().rposition(|c| *c == b'@') {
            Some(at) => {
                let host = rest[at + 1..].split(|c| matches!(c, b';' | b'?')).next().unwrap_or_default();
                Name { user: rest[..at].to_vec(), host: Some(host.to_vec()), given }
            }
            None => Name { user: rest.to_vec(), host: None, given },
        })
    }

    pub(crate) fn fits(&self, known: &[u8]) -> bool {
        let uri::PlainUri { user, host } = uri::split(known);
        user.eq_ignore_ascii_case(&self.user)
            && self.host.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            || known == self.given
    }

    /// The URI that is meant, as far as the name says.
    pub(crate) fn uri(&self) -> Vec<u8> {
        if self.given.contains(&b':') { self.given.clone() } else { [&b"sip:"[..], &self.given].concat() }
    }
}

/// Package and resource for a URI and an event name that an operator gives.
///
/// # Errors
///
/// Fails with a sentence that names the known event packages when this one is unknown.
pub(crate) fn known_resource(parts: &Parts, presentity: &[u8], event: &[u8]) -> Result<Resource, String> {
    let id = parts.packages().named(event);
    let id = id.ok_or_else(|| {
        let known = String::from_utf8_lossy(&parts.packages().allow_events()).into_owned();
        format!("no event package {}: there are {known}", log::show(event))
    })?;
    Ok(parts.shared.tables.rule().resource(&as_stored(presentity), id))
}

/// An argument as the URI that it names.
///
/// # Errors
///
/// Fails with a sentence when the argument is missing or is no URI.
pub(crate) fn uri_of(what: &str, given: &[u8]) -> Result<Vec<u8>, String> {
    if given.is_empty() {
        return Err(format!("Empty {what} URI"));
    }
    if !given.contains(&b':') || given.iter().any(u8::is_ascii_control) {
        return Err(format!("{} is no URI: write the {what} as sip:alice@example.org", log::show(given)));
    }
    Ok(as_stored(given))
}
