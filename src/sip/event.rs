//! The Event header (RFC 6665 8.2.1): a package name, the parameters that belong to the name, the `id`, and parameters
//! that packages define for their own use (RFC 4235 3.2, RFC 6080 5.2, RFC 6446 5).
use super::byte_class::{kind, kinds_in};

/// An Event header taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeader<'a> {
    /// The package with its templates: `presence.winfo`.
    pub package: &'a [u8],
    params: &'a [u8],
}

/// The parameters of a header value, between semicolons that are not quoted.
struct Params<'a>(&'a [u8]);

impl<'a> Iterator for Params<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.iter().position(|c| {
            let was_escaped = std::mem::take(&mut escaped);
            match c {
                b'\\' if quoted && !was_escaped => escaped = true,
                b'"' if !was_escaped => quoted = !quoted,
                _ => {}
            }
            *c == b';' && !quoted
        });
        let (part, rest) = match end {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, &self.0[..0]),
        };
        self.0 = rest;
        Some(part)
    }
}

impl<'a> EventHeader<'a> {
    /// Parses a header value; `None` when there is no package name.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let end = value.iter().position(|c| *c == b';').unwrap_or(value.len());
        let package = value[..end].trim_ascii();
        if package.is_empty() || kinds_in(package) & kind::NO_TOKEN != 0 {
            return None;
        }
        Some(EventHeader { package, params: value.get(end + 1..).unwrap_or(&[]) })
    }

    /// The parameters as name and value, in order; a parameter without `=` has an empty value. Values keep their
    /// quotes.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        Params(self.params).filter_map(|part| {
            let mut halves = part.splitn(2, |c| *c == b'=');
            let name = halves.next().unwrap_or(&[]).trim_ascii();
            let value = halves.next().unwrap_or(&[]).trim_ascii();
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// Whether there is anything besides the package's name.
    pub fn has_params(&self) -> bool {
        !self.params.is_empty()
    }

    /// The `id` parameter: it distinguishes the subscriptions of one dialog and is echoed in NOTIFY. Quotes are not
    /// part of it.
    pub fn id(&self) -> Option<&'a [u8]> {
        if !self.has_params() {
            return None;
        }
        let (_, value) = self.params().find(|(name, _)| name.eq_ignore_ascii_case(b"id"))?;
        let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(inner.unwrap_or(value))
    }

    /// Whether this header names the same package as `registered` (`dialog;sla`): name and all parameters but `id`.
    pub fn same_package(&self, registered: &EventHeader<'_>) -> bool {
        registered.belongs_to(self) && self.belongs_to(registered)
    }

    /// How well `registered` fits this header: `None` when the name or a parameter of its own is missing here, else the
    /// number of its parameters. Other parameters are their package's business and never refuse a subscription.
    pub fn fitness(&self, registered: &EventHeader<'_>) -> Option<usize> {
        registered.belongs_to(self).then(|| registered.own_params().count())
    }

    fn own_params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.params().filter(|(name, _)| !name.eq_ignore_ascii_case(b"id"))
    }

    /// Whether the package's name is the same and all own parameters are among those of `header`.
    fn belongs_to(&self, header: &EventHeader<'_>) -> bool {
        let has = |(name, value): (&[u8], &[u8])| {
            header.own_params().any(|(n, v)| n.eq_ignore_ascii_case(name) && v == value)
        };
        self.package.eq_ignore_ascii_case(header.package) && self.own_params().all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> EventHeader<'_> {
        EventHeader::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn id_does_not_change_the_package() {
        assert!(event("presence;id=5").same_package(&event("presence")));
        assert_eq!(event(" presence ; ID = \"5\" ").id(), Some(&b"5"[..]));
        assert_eq!(event("presence\r\n ;\r\n id=5").id(), Some(&b"5"[..]));
    }

    #[test]
    fn other_parameters_do() {
        assert!(event("dialog;sla").same_package(&event("dialog;sla")));
        assert!(event("dialog;id=1;sla").same_package(&event("dialog;sla")));
        assert!(!event("dialog").same_package(&event("dialog;sla")));
        assert!(!event("dialog;sla").same_package(&event("dialog")));
        assert!(!event("presence.winfo").same_package(&event("presence")));
    }

    #[test]
    fn parameters_of_a_package_refuse_nothing() {
        let fits = |header, registered| event(header).fitness(&event(registered));
        assert_eq!(fits("dialog;call-id=\"a;id=7\";include-session-description", "dialog"), Some(0));
        assert_eq!(fits("Dialog ; SLA;call-id=x", "dialog;sla"), Some(1));
        assert_eq!(fits("dialog;call-id=x", "dialog;sla"), None);
        assert_eq!(fits("dialog.winfo;x=1", "dialog"), None);
    }

    #[test]
    fn what_is_quoted_is_one_value() {
        let header = event("dialog;call-id=\"a\\\";id=7\";id=8");
        assert_eq!(header.id(), Some(&b"8"[..]));
        assert_eq!(header.params().next(), Some((&b"call-id"[..], &b"\"a\\\";id=7\""[..])));
    }

    #[test]
    fn a_header_without_a_name_is_refused() {
        for bad in ["", ";;;", " ", "pre sence", "a<b"] {
            assert_eq!(EventHeader::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
