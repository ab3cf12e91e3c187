//! The route set of a dialog, as Record-Route headers have it (RFC 3261 12.1, 20.30).
use super::checked::unfolded;
use super::uri::is_sip_uri;

/// The routes of a dialog, in the order in which a request passes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteSet {
    /// The routes up to the first one that cannot be read, separated by commas.
    pub routes: Vec<u8>,
    /// There is one after them that cannot be read.
    pub is_cut_off: bool,
}

impl RouteSet {
    /// That of the one who received the request: the headers from the top down, as the request or its answer has them.
    pub fn of_callee<'a>(headers: impl Iterator<Item = &'a [u8]>) -> RouteSet {
        let mut set = RouteSet::default();
        for header in headers {
            let (routes, is_whole) = read(header);
            routes.iter().for_each(|route| set.push(route));
            set.is_cut_off = !is_whole;
            if !is_whole {
                break;
            }
        }
        set
    }

    /// That of the one who sent the request: from the bottom up.
    pub fn of_caller<'a>(headers: impl Iterator<Item = &'a [u8]>) -> RouteSet {
        let mut set = RouteSet::default();
        for header in headers.collect::<Vec<_>>().into_iter().rev() {
            let (routes, is_whole) = read(header);
            if !is_whole {
                // Which of its routes the last one is cannot be said.
                set.is_cut_off = true;
                break;
            }
            routes.iter().rev().for_each(|route| set.push(route));
        }
        set
    }

    fn push(&mut self, route: &[u8]) {
        if !self.routes.is_empty() {
            self.routes.push(b',');
        }
        self.routes.extend_from_slice(route);
    }
}

/// The routes of one header, and whether they are all that it has.
fn read(header: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut routes, mut rest) = (Vec::new(), header);
    loop {
        let end = end_of_route(rest);
        let (first, after) = rest.split_at(end);
        let Some(route) = unfolded(first.trim_ascii()).filter(|route| is_route(route)) else { return (routes, false) };
        routes.push(route.into_owned());
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
            b'"' if !in_brackets => in_quotes = !in_quotes,
            b'<' if !in_quotes => in_brackets = true,
            b'>' if !in_quotes => in_brackets = false,
            b',' if !in_quotes && !in_brackets => return at,
            _ => {}
        }
    }
    text.len()
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
        let set = RouteSet::of_callee(headers.iter().map(|header| header.as_bytes()));
        (String::from_utf8(set.routes).unwrap(), set.is_cut_off)
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
                RouteSet::of_caller([broken, "<sip:b;lr>, <sip:c;lr>", good].map(str::as_bytes).into_iter());
            assert_eq!(
                (&*from_below.routes, from_below.is_cut_off),
                (&b"<sip:edge;lr>,<sip:c;lr>,<sip:b;lr>"[..], true)
            );
        }
    }

    #[test]
    fn a_caller_passes_them_from_below() {
        let set = RouteSet::of_caller(["<sip:a>, <sip:b>", "<sip:c>"].map(str::as_bytes).into_iter());
        assert_eq!((&*set.routes, set.is_cut_off), (&b"<sip:c>,<sip:b>,<sip:a>"[..], false));
    }
}
