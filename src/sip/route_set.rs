//! The route set of a dialog, as Record-Route headers have it (RFC 3261 12.1, 20.30).
use super::checked::unfolded;
use super::text::unquoted;
use super::uri::is_sip_uri;

/// The routes of a dialog, in the order in which a request passes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSet {
    /// The routes up to the first one that cannot be read, separated by commas.
    pub routes: Vec<u8>,
    /// There is one after them that cannot be read.
    pub is_cut_off: bool,
    is_unusual: bool,
}

impl RouteSet {
    /// The route set of the one who received the request: the headers from the top down, as the request or its answer
    /// has them.
    pub fn of_callee<'a>(headers: impl Iterator<Item = &'a [u8]> + Clone, host: HostParser) -> RouteSet {
        RouteSet::sendable(|host| RouteSet::from_above(headers.clone(), host), host)
    }

    /// The route set of the one who sent the request: from the bottom up.
    pub fn of_caller<'a>(headers: impl Iterator<Item = &'a [u8]> + Clone, host: HostParser) -> RouteSet {
        RouteSet::sendable(|host| RouteSet::from_below(headers.clone(), host), host)
    }

    /// The routes as the host reads them; where it could not read them on one line again, when it sends, those of the
    /// usual form.
    fn sendable(set_by: impl Fn(HostParser) -> RouteSet, host: HostParser) -> RouteSet {
        let set = set_by(host);
        let is_sendable = !set.is_unusual || set.routes.is_empty() || host(&set.routes).is_some();
        if is_sendable { set } else { set_by(|_| None) }
    }

    fn from_above<'a>(headers: impl Iterator<Item = &'a [u8]>, host: HostParser) -> RouteSet {
        let mut set = RouteSet::default();
        for header in headers {
            let found = read(header, host);
            set.is_unusual |= found.is_unusual;
            set.is_cut_off = !(found.routes.iter().all(|route| set.push(route)) && found.is_whole);
            if set.is_cut_off {
                break;
            }
        }
        set
    }

    fn from_below<'a>(headers: impl Iterator<Item = &'a [u8]>, host: HostParser) -> RouteSet {
        let mut set = RouteSet::default();
        for header in headers.collect::<Vec<_>>().into_iter().rev() {
            let found = read(header, host);
            set.is_unusual |= found.is_unusual;
            // Which of the routes of a broken one is the last cannot be said.
            set.is_cut_off = !(found.is_whole && found.routes.iter().rev().all(|route| set.push(route)));
            if set.is_cut_off {
                break;
            }
        }
        set
    }

    /// Appends a route; `false`: requests could not go there first.
    fn push(&mut self, route: &[u8]) -> bool {
        match self.routes.is_empty() {
            true if !leads_somewhere(route) => return false,
            true => {}
            false => self.routes.push(b','),
        }
        self.routes.extend_from_slice(route);
        true
    }
}

/// Reads the value of a Record-Route header as the host does, and gives its routes as they stand there; `None` where
/// the host refuses it. The text has no control characters.
pub type HostParser = fn(&[u8]) -> Option<Vec<&[u8]>>;

/// The routes of one header.
struct HeaderRoutes {
    routes: Vec<Vec<u8>>,
    /// Whether the routes are all that it has.
    is_whole: bool,
    /// The host has read them.
    is_unusual: bool,
}

/// Reads one header. URIs are taken as they came (RFC 3261 12.1.1): what has another form than the usual one is left to
/// the host's parser, which will send by it.
fn read(header: &[u8], host: HostParser) -> HeaderRoutes {
    let (routes, is_whole) = read_by(header, |route| is_route(route).then(|| route.to_vec()));
    if is_whole {
        return HeaderRoutes { routes, is_whole, is_unusual: false };
    }
    if let Some(routes) = unfolded(header).as_deref().and_then(host) {
        let routes = routes.into_iter().map(<[u8]>::to_vec).collect();
        return HeaderRoutes { routes, is_whole: true, is_unusual: true };
    }
    // One of them is broken: those before it are taken.
    let by_host = |route: &[u8]| match host(route).as_deref() {
        Some([one]) => Some(one.to_vec()),
        _ => None,
    };
    let (routes, is_whole) =
        read_by(header, |route| if is_route(route) { Some(route.to_vec()) } else { by_host(route) });
    HeaderRoutes { routes, is_whole, is_unusual: true }
}

/// The routes up to the first one that cannot be read in this way, and whether they are all.
fn read_by(header: &[u8], take: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (Vec<Vec<u8>>, bool) {
    let (mut routes, mut rest) = (Vec::new(), header);
    loop {
        let end = end_of_route(rest);
        let (first, after) = rest.split_at(end);
        let Some(route) = unfolded(first.trim_ascii()).and_then(|route| take(&route)) else { return (routes, false) };
        routes.push(route);
        match after {
            [] => return (routes, true),
            // The comma.
            after => rest = &after[1..],
        }
    }
}

/// Where the comma after the first route is, or the end of the text.
fn end_of_route(text: &[u8]) -> usize {
    let (mut in_brackets, mut in_quotes, mut is_escaped) = (false, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_quotes => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            b'<' if !in_quotes => in_brackets = true,
            b'>' if !in_quotes => in_brackets = false,
            b',' if !in_quotes && !in_brackets => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether a request can go to a route first: its URI is one of SIP.
fn leads_somewhere(route: &[u8]) -> bool {
    let uri = unquoted(route, b'<').map_or(&b""[..], |at| &route[at + 1..]);
    is_sip_uri(&uri[..unquoted(uri, b'>').unwrap_or(uri.len())])
}

/// `"name" <sip:host;lr>;parameter=value`.
fn is_route(text: &[u8]) -> bool {
    let Some((name, rest)) = split_name(text) else { return false };
    let Some(end) = rest.iter().position(|byte| *byte == b'>') else { return false };
    let (uri, parameters) = (&rest[..end], &rest[end + 1..]);
    let is_plain = |byte: &u8| !byte.is_ascii_whitespace() && !matches!(byte, b'<' | b'"');
    is_name(name.trim_ascii()) && is_sip_uri(uri) && uri.iter().all(is_plain) && are_parameters(parameters)
}

/// The name before the bracket, and what follows the bracket.
fn split_name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let after_quoted = if text.starts_with(b"\"") { 1 + end_of_quoted(&text[1..])? } else { 0 };
    let bracket = after_quoted + text[after_quoted..].iter().position(|byte| *byte == b'<')?;
    Some((&text[..bracket], &text[bracket + 1..]))
}

/// Where a quoted string ends that begins before this text: behind its second quote.
fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter()
        .position(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            ends
        })
        .map(|at| at + 1)
}

fn is_name(name: &[u8]) -> bool {
    match name {
        [b'"', rest @ ..] => end_of_quoted(rest) == Some(rest.len()),
        words => words.iter().all(|byte| is_token(*byte) || matches!(byte, b' ' | b'\t')),
    }
}

fn are_parameters(text: &[u8]) -> bool {
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix(b";").and_then(|parameter| after_parameter(parameter.trim_ascii())) else {
            return false;
        };
        rest = after.trim_ascii();
    }
    true
}

/// What follows a parameter: `lr`, `x=1`, `x="a b"`.
fn after_parameter(text: &[u8]) -> Option<&[u8]> {
    let rest = after_word(text, is_token)?.trim_ascii();
    match rest.strip_prefix(b"=").map(<[u8]>::trim_ascii) {
        None => Some(rest),
        Some([b'"', quoted @ ..]) => end_of_quoted(quoted).map(|end| &quoted[end..]),
        Some(value) => after_word(value, |byte| is_token(byte) || matches!(byte, b'[' | b']' | b':')),
    }
}

fn after_word(text: &[u8], is_of_word: impl Fn(u8) -> bool) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_of_word(*byte)).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_callee(headers: &[&str]) -> (String, bool) {
        let set = RouteSet::of_callee(headers.iter().map(|header| header.as_bytes()), |_| None);
        (String::from_utf8(set.routes).unwrap(), set.is_cut_off)
    }

    /// A host that takes what has brackets and no question mark, and cuts it behind them.
    fn host(value: &[u8]) -> Option<Vec<&[u8]>> {
        let routes = value.split_inclusive(|byte| *byte == b'>').map(|route| route.strip_prefix(b",").unwrap_or(route));
        (value.ends_with(b">") && !value.contains(&b'?')).then(|| routes.collect())
    }

    fn by_host(headers: &[&str]) -> (String, bool) {
        let set = RouteSet::of_callee(headers.iter().map(|header| header.as_bytes()), host);
        (String::from_utf8(set.routes).unwrap(), set.is_cut_off)
    }

    #[test]
    fn the_host_reads_what_has_another_form() {
        let odd = "<sip:a;lr;x=\"y, z\">";
        assert_eq!(by_host(&[odd, "<sip:b;lr>"]), (format!("{odd},<sip:b;lr>"), false));
        assert_eq!(by_host(&["<sip:b;lr>,,<sip:a b>"]), ("<sip:b;lr>,,<sip:a b>".into(), false));
        assert_eq!(by_host(&["<sip:a;x=\"1\r\n 2\">"]), ("<sip:a;x=\"1 2\">".into(), false));
        // It refuses the whole for one of them: those before it are read by themselves.
        assert_eq!(by_host(&[&format!("{odd}, <sip:a?\">, {odd}")]), (odd.into(), true));
        assert_eq!(by_host(&["<sip:a;x=\"\x01\">"]), (String::new(), true));
        for nowhere in ["<tel:1>", "<>", "<sip:>", "< sip:a>", "\"name\" <tel:1>"] {
            assert_eq!(by_host(&[nowhere, "<sip:a>"]), (String::new(), true), "{nowhere}");
            assert_eq!(by_host(&["<sip:a>", nowhere]), (format!("<sip:a>,{nowhere}"), false), "{nowhere}");
        }
        // What it could not read again in its place is not taken.
        let joined_badly: HostParser = |value| host(value).filter(|_| !value.ends_with(b"b>"));
        let headers = [odd, "<sip:a>", "<sip:b>"].map(str::as_bytes);
        let set = RouteSet::of_callee(headers.into_iter(), joined_badly);
        assert_eq!((set.routes, set.is_cut_off), (Vec::new(), true));
        let set = RouteSet::of_callee(headers[..2].iter().copied(), joined_badly);
        assert_eq!((set.routes, set.is_cut_off), (format!("{odd},<sip:a>").into_bytes(), false));
        let set = RouteSet::of_caller([odd, "<sip:b>,,<sip:c d>"].map(str::as_bytes).into_iter(), host);
        assert_eq!((set.routes, set.is_cut_off), (format!(",<sip:c d>,<sip:b>,{odd}").into_bytes(), false));
    }

    #[test]
    fn routes_that_can_be_read() {
        for route in [
            "<sip:edge;lr>",
            "<sips:u@[2001:db8::1]:5061;transport=tls;lr=on>",
            "\"a, <b>\\\" c\" <sip:edge;lr>;x=1 ; y=\"a, ;b\"",
            "My Edge <sip:edge;lr;ftag=a,b>;lr",
            "<sip:edge?a=b>;x=[::1]:5060",
        ] {
            assert_eq!(of_callee(&[route]), (route.into(), false));
            assert_eq!(of_callee(&[&format!("{route} , {route}"), route]), ([route; 3].join(","), false));
        }
        assert_eq!(of_callee(&["<sip:a;lr>\r\n ;x=1"]), ("<sip:a;lr> ;x=1".into(), false));
        assert_eq!(of_callee(&[]), (String::new(), false));
    }

    #[test]
    fn what_is_above_a_broken_one_stays() {
        let good = "<sip:edge;lr>";
        for broken in [
            "",
            "<",
            "nonsense",
            "sip:edge",
            "<>",
            "<sip:>",
            "<tel:1>",
            "<sip:a",
            "<sip:a>>",
            "<sip:a<b>",
            "<sip:a>;",
            "<sip:a>;;x",
            "<sip:a>;x=",
            "<sip:a>;x=\"b",
            "\"a <sip:a>",
            "<sip:a> b",
            "<sip:a b>",
            "<sip:\x01a>",
            "a\"b\" <sip:a>",
            "<sip:a>x=1",
            "<sip:a>;x=1;=2",
            "<sip:a\r\nX: b>",
        ] {
            assert_eq!(of_callee(&[good, broken, "<sip:below;lr>"]), (good.into(), true), "{broken}");
            assert_eq!(of_callee(&[&format!("{good}, {broken}")]), (good.into(), true), "{broken}");
            assert_eq!(of_callee(&[broken]), (String::new(), true), "{broken}");
            let from_below =
                RouteSet::of_caller([broken, "<sip:b;lr>, <sip:c;lr>", good].map(str::as_bytes).into_iter(), |_| None);
            assert_eq!(
                (&*from_below.routes, from_below.is_cut_off),
                (&b"<sip:edge;lr>,<sip:c;lr>,<sip:b;lr>"[..], true)
            );
        }
    }

    #[test]
    fn a_caller_passes_them_from_below() {
        let set = RouteSet::of_caller(["<sip:a>, <sip:b>", "<sip:c>"].map(str::as_bytes).into_iter(), |_| None);
        assert_eq!((&*set.routes, set.is_cut_off), (&b"<sip:c>,<sip:b>,<sip:a>"[..], false));
    }
}
