//! What an answer to a request of ours says to the decisions of [`crate::pua`].
use crate::host::msg::{Header, SipMsg, routes_of};
use crate::host::tm::FinalStatus;
use crate::pua::response::{Challenge, Challenger, FinalResponse, ResponseStatus};
use crate::sip::checked::UriText;
use crate::sip::entity_tag::EntityTag;
use crate::sip::route_set::RouteSet;
use crate::time::Seconds;

/// What a reply with this status says; `None` for a reply that cannot be read. What this machine could not send is not
/// answered either.
pub fn read_answer(reply: Option<SipMsg<'_>>, status: FinalStatus) -> Option<FinalResponse> {
    let (Some(reply), Some(code)) = (reply, status.answer()) else { return Some(FinalResponse::silence()) };
    if !reply.parse_headers() {
        return None;
    }
    let number = |name: &[u8]| crate::sip::text::leading_number(reply.find(name)?.trim_ascii());
    Some(FinalResponse {
        status: ResponseStatus::Code(code),
        expires: match reply.parsed_expires() {
            Header::Value(seconds) => Some(Seconds::from(seconds)),
            _ => None,
        },
        min_expires: number(b"Min-Expires").map(Seconds),
        retry_after: number(b"Retry-After").map(Seconds),
        etag: reply
            .find(b"SIP-ETag")
            .map(|tag| tag.trim_ascii().to_vec())
            .filter(|tag| !tag.is_empty())
            .map(EntityTag::new),
        to_tag: reply.to().map(|to| to.tag.to_vec()).unwrap_or_default(),
        contact: match reply.contact() {
            Header::Value(uri) => UriText::of_target(uri).map_or_else(Vec::new, |uri| uri.bytes().to_vec()),
            _ => Vec::new(),
        },
        challenges: if matches!(code, 401 | 407) { challenges(reply) } else { Vec::new() },
        route_set: RouteSet::of_caller(reply.record_routes(), routes_of).routes,
    })
}

/// How many challenges of one answer are looked at.
const MOST_CHALLENGES: usize = 8;

fn challenges(reply: SipMsg<'_>) -> Vec<Challenge> {
    let kinds = [(b"WWW-Authenticate".as_slice(), Challenger::Server), (b"Proxy-Authenticate", Challenger::Proxy)];
    kinds.into_iter().flat_map(|(name, of)| challenges_of(reply.find_all(name), of)).collect()
}

/// The first challenges among the headers of one kind.
fn challenges_of<'a>(headers: impl Iterator<Item = &'a [u8]>, of: Challenger) -> impl Iterator<Item = Challenge> {
    headers.take(MOST_CHALLENGES).map(move |text| Challenge { of, text: text.trim_ascii().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_challenges_of_each_kind_are_looked_at() {
        let texts: Vec<String> = (0..20).map(|n| format!(" Digest realm=\"{n}\"")).collect();
        let found: Vec<Challenge> = challenges_of(texts.iter().map(String::as_bytes), Challenger::Proxy).collect();
        assert_eq!(found.len(), MOST_CHALLENGES);
        assert_eq!(found[MOST_CHALLENGES - 1].text, b"Digest realm=\"7\"");
    }
}
