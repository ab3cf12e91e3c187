//! The Event header (RFC 6665 8.2.1): a package name, the parameters that belong to the name, and the `id`.

/// An Event header taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeader<'a> {
    /// The package with its templates: `presence.winfo`.
    pub package: &'a [u8],
    params: &'a [u8],
}

impl<'a> EventHeader<'a> {
    /// Parses a header value; `None` when there is no package name.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let end = value.iter().position(|c| *c == b';').unwrap_or(value.len());
        let package = value[..end].trim_ascii();
        let token = |c: &u8| c.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(c);
        if package.is_empty() || !package.iter().all(token) {
            return None;
        }
        Some(EventHeader { package, params: value.get(end + 1..).unwrap_or(&[]) })
    }

    /// The parameters as name and value, in order; a parameter without `=` has an empty value.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.params.split(|c| *c == b';').filter_map(|part| {
            let mut halves = part.splitn(2, |c| *c == b'=');
            let name = halves.next().unwrap_or(&[]).trim_ascii();
            let value = halves.next().unwrap_or(&[]).trim_ascii();
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// The `id` parameter: it tells subscriptions of one dialog apart and is echoed in NOTIFY.
    pub fn id(&self) -> Option<&'a [u8]> {
        self.params().find(|(name, _)| name.eq_ignore_ascii_case(b"id")).map(|(_, value)| value)
    }

    /// Whether this header names the same package as `registered` (`dialog;sla`): name and all parameters but `id`.
    pub fn same_package(&self, registered: &EventHeader<'_>) -> bool {
        let of = |header: &EventHeader<'_>| {
            let mut all: Vec<(Vec<u8>, Vec<u8>)> = header
                .params()
                .filter(|(name, _)| !name.eq_ignore_ascii_case(b"id"))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
                .collect();
            all.sort();
            all
        };
        self.package.eq_ignore_ascii_case(registered.package) && of(self) == of(registered)
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
        assert_eq!(event(" presence ; id=5 ").id(), Some(&b"5"[..]));
    }

    #[test]
    fn other_parameters_do() {
        assert!(event("dialog;sla").same_package(&event("dialog;sla")));
        assert!(event("dialog;id=1;sla").same_package(&event("dialog;sla")));
        assert!(!event("dialog").same_package(&event("dialog;sla")));
        assert!(!event("presence.winfo").same_package(&event("presence")));
    }

    #[test]
    fn a_header_without_a_name_is_refused() {
        for bad in ["", ";;;", " ", "pre sence", "a<b"] {
            assert_eq!(EventHeader::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
