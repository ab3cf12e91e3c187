//! Digest authentication of our requests (RFC 3261 22, RFC 7616, RFC 8760): which challenge is answered, and how.
use super::request::{Request, RequestField, RequestOptions};
use super::response::{Challenge, Challenger, FinalResponse, ResponseStatus};
use md5::{Digest, Md5};
use sha2::Sha256;

/// How often one request is sent again with credentials: a proxy and the server may ask for their own.
pub const MOST_CHALLENGES: u8 = 3;

/// The longest challenge that is looked at, in bytes.
const LONGEST_CHALLENGE: usize = 2048;

/// User and password in a realm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    user: &'a [u8],
    realm: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credential<'a> {
    /// Reads `user:realm:password`, as the `uac` module has it.
    pub fn read(text: &'a [u8]) -> Option<Credential<'a>> {
        let mut parts = text.splitn(3, |c| *c == b':');
        let (user, realm, password) = (parts.next()?, parts.next()?, parts.next()?);
        let is_quotable = |part: &[u8]| !part.is_empty() && !part.iter().any(|c| c.is_ascii_control() || *c == b'"');
        (is_quotable(user) && is_quotable(realm)).then_some(Credential { user, realm, password })
    }
}

/// The credentials that a parameter lists, one for each realm.
pub fn credentials(listed: &[u8]) -> impl Iterator<Item = Credential<'_>> {
    listed.split(|c| *c == b',').filter_map(|entry| Credential::read(entry.trim_ascii()))
}

/// Whether every entry of the parameter can be read.
pub fn are_readable(listed: &[u8]) -> bool {
    listed.is_empty() || listed.split(|c| *c == b',').all(|entry| Credential::read(entry.trim_ascii()).is_some())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    fn hex_of(self, parts: &[&[u8]]) -> String {
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let whole = parts.join(&b':');
        match self {
            Algorithm::Md5 => hex(&Md5::digest(&whole)),
            Algorithm::Sha256 => hex(&Sha256::digest(&whole)),
        }
    }
}

/// What a challenge says.
struct ParsedChallenge<'a> {
    realm: &'a [u8],
    nonce: &'a [u8],
    opaque: Option<&'a [u8]>,
    /// As it was written.
    algorithm_text: Option<&'a [u8]>,
    algorithm: Algorithm,
    wants_qop: bool,
    is_stale: bool,
}

/// A parameter of a challenge.
struct ChallengeParameter<'a> {
    name: &'a [u8],
    /// The value, the quotes taken off.
    value: &'a [u8],
}

/// The parameters of a challenge.
fn parameters(mut rest: &[u8]) -> Vec<ChallengeParameter<'_>> {
    let mut found = Vec::new();
    while let Some(at) = rest.iter().position(|c| *c == b'=') {
        let name = rest[..at].trim_ascii();
        let value = rest[at + 1..].trim_ascii_start();
        let (value, after) = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = quoted.iter().position(|c| *c == b'"').unwrap_or(quoted.len());
                (&quoted[..end], quoted.get(end + 1..).unwrap_or_default())
            }
            None => {
                let end = value.iter().position(|c| *c == b',').unwrap_or(value.len());
                (value[..end].trim_ascii(), &value[end..])
            }
        };
        found.push(ChallengeParameter { name, value });
        rest = after.iter().position(|c| *c == b',').map_or(&[][..], |comma| &after[comma + 1..]);
    }
    found
}

impl<'a> ParsedChallenge<'a> {
    /// Reads a challenge; `None` for one that cannot be answered.
    fn read(challenge: &'a [u8]) -> Option<ParsedChallenge<'a>> {
        if challenge.len() > LONGEST_CHALLENGE || challenge.iter().any(|c| c.is_ascii_control() || *c == b'\\') {
            return None;
        }
        let challenge = challenge.trim_ascii();
        let scheme = challenge.get(..7)?;
        if !scheme.eq_ignore_ascii_case(b"Digest ") {
            return None;
        }
        let listed = parameters(&challenge[7..]);
        let get =
            |name: &[u8]| listed.iter().find(|known| known.name.eq_ignore_ascii_case(name)).map(|found| found.value);
        let algorithm_text = get(b"algorithm");
        let algorithm = match algorithm_text {
            None => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"MD5") => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case(b"SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        let qop = get(b"qop").filter(|list| !list.is_empty());
        let has_auth = |list: &[u8]| list.split(|c| *c == b',').any(|q| q.trim_ascii().eq_ignore_ascii_case(b"auth"));
        if qop.is_some_and(|list| !has_auth(list)) {
            return None;
        }
        Some(ParsedChallenge {
            realm: get(b"realm")?,
            nonce: get(b"nonce")?,
            opaque: get(b"opaque"),
            algorithm_text,
            algorithm,
            wants_qop: qop.is_some(),
            is_stale: get(b"stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
        })
    }
}

/// A challenge as it is kept, in one line.
struct ChallengeLine<'a> {
    /// A letter for who asked.
    who: u8,
    /// What it said.
    said: &'a [u8],
}

impl<'a> ChallengeLine<'a> {
    fn read(line: &'a [u8]) -> Option<ChallengeLine<'a>> {
        line.split_first().map(|(who, said)| ChallengeLine { who: *who, said })
    }
}

/// The challenges that a request answers because its server has asked it.
pub fn challenges(request: &Request) -> &[u8] {
    if request.options.challenges > 0 { request.get(RequestField::Challenges) } else { b"" }
}

fn lines(request: &Request) -> impl Iterator<Item = ChallengeLine<'_>> {
    challenges(request).split(|c| *c == b'\n').filter_map(ChallengeLine::read)
}

/// The challenges of a request, and those of its server that it has no newer one for.
pub fn with_known(own: &[u8], known: &[u8]) -> Vec<u8> {
    let of_others = known.split(|c| *c == b'\n').filter(|line| {
        let is_newer = |newer: &[u8]| protect_the_same(newer, line);
        !line.is_empty() && !own.split(|c| *c == b'\n').any(is_newer)
    });
    let own = Some(own).filter(|own| !own.is_empty());
    own.into_iter().chain(of_others).collect::<Vec<_>>().join(&b'\n')
}

/// Whether two lines of [`challenges`] are of the same asker for the same realm: the later one takes the place of the
/// other.
pub fn protect_the_same(one: &[u8], other: &[u8]) -> bool {
    let key = |line: &[u8]| {
        let ChallengeLine { who, said } = ChallengeLine::read(line)?;
        Some((who, ParsedChallenge::read(said)?.realm.to_vec()))
    };
    key(one).is_some_and(|known| key(other) == Some(known))
}

fn letter(challenge: &Challenge) -> u8 {
    match challenge.of {
        Challenger::Server => b'S',
        Challenger::Proxy => b'P',
    }
}

/// The request once more with an answer to the challenges that came; `None`: there are no credentials for them, or they
/// were refused.
pub fn with_credentials(listed: &[u8], request: &Request, answer: &FinalResponse) -> Option<Request> {
    if listed.is_empty()
        || !matches!(answer.status, ResponseStatus::Code(401 | 407))
        || request.options.challenges >= MOST_CHALLENGES
    {
        return None;
    }
    let known = |realm: &[u8]| credentials(listed).any(|credential| credential.realm == realm);
    let tried = |who: u8, realm: &[u8]| {
        let was_for = |line: ChallengeLine<'_>| ParsedChallenge::read(line.said).is_some_and(|it| it.realm == realm);
        lines(request).any(|line| line.who == who && was_for(line))
    };
    // The server prefers the first one that it names (RFC 8760 2.4).
    let (chosen, asked) = answer.challenges.iter().find_map(|challenge| {
        let asked = ParsedChallenge::read(&challenge.text).filter(|asked| known(asked.realm))?;
        (asked.is_stale || !tried(letter(challenge), asked.realm)).then_some((challenge, asked))
    })?;
    let mut kept: Vec<u8> = Vec::new();
    for ChallengeLine { who, said } in lines(request) {
        let is_other =
            who != letter(chosen) || ParsedChallenge::read(said).is_some_and(|other| other.realm != asked.realm);
        if is_other {
            kept.extend_from_slice(&[&[who], said, b"\n"].concat());
        }
    }
    kept.extend_from_slice(&[&[letter(chosen)], chosen.text.as_slice()].concat());
    let options = RequestOptions { challenges: request.options.challenges + 1, ..request.options };
    Some(request.with(&[(RequestField::Challenges, &kept)]).with_options(options))
}

/// What of a request goes into the answer to a challenge.
#[derive(Debug, Clone, Copy)]
pub struct DigestedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The request URI.
    pub uri: &'a [u8],
    /// The nonce of the client.
    pub cnonce: &'a [u8],
}

/// Appends the header lines that answer these challenges; `count` says how often the nonce of a line has been used,
/// this time included.
pub fn push_lines(
    out: &mut Vec<u8>,
    listed: &[u8],
    challenges: &[u8],
    request: DigestedRequest<'_>,
    mut count: impl FnMut(&[u8]) -> u32,
) {
    for line in challenges.split(|c| *c == b'\n') {
        let Some(ChallengeLine { who, said }) = ChallengeLine::read(line) else { continue };
        let Some(asked) = ParsedChallenge::read(said) else { continue };
        let Some(credential) = credentials(listed).find(|credential| credential.realm == asked.realm) else { continue };
        out.extend_from_slice(if who == b'P' { b"Proxy-Authorization: " } else { b"Authorization: " });
        push_answer(out, &asked, &credential, request, count(line));
        out.extend_from_slice(b"\r\n");
    }
}

fn push_answer(
    out: &mut Vec<u8>,
    asked: &ParsedChallenge<'_>,
    credential: &Credential<'_>,
    DigestedRequest { method, uri, cnonce }: DigestedRequest<'_>,
    count: u32,
) {
    let count = format!("{count:08x}").into_bytes();
    let algorithm = asked.algorithm;
    let secret = algorithm.hex_of(&[credential.user, credential.realm, credential.password]);
    let what = algorithm.hex_of(&[method.as_bytes(), uri]);
    let response = match asked.wants_qop {
        true => algorithm.hex_of(&[secret.as_bytes(), asked.nonce, &count, cnonce, b"auth", what.as_bytes()]),
        false => algorithm.hex_of(&[secret.as_bytes(), asked.nonce, what.as_bytes()]),
    };
    let quoted = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        out.extend_from_slice(value);
        out.push(b'"');
    };
    quoted(out, "Digest username", credential.user);
    quoted(out, ", realm", asked.realm);
    quoted(out, ", nonce", asked.nonce);
    quoted(out, ", uri", uri);
    quoted(out, ", response", response.as_bytes());
    if let Some(name) = asked.algorithm_text {
        out.extend_from_slice(b", algorithm=");
        out.extend_from_slice(name);
    }
    if asked.wants_qop {
        out.extend_from_slice(b", qop=auth, nc=");
        out.extend_from_slice(&count);
        quoted(out, ", cnonce", cnonce);
    }
    if let Some(opaque) = asked.opaque {
        quoted(out, ", opaque", opaque);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::new(RequestOptions::default(), &[(RequestField::PresUri, b"sip:a@b")])
    }

    fn asked_by(of: Challenger, code: u16, texts: &[&str]) -> FinalResponse {
        let challenges = texts.iter().map(|text| Challenge { of, text: text.as_bytes().to_vec() }).collect();
        FinalResponse { challenges, ..FinalResponse::of_code(code) }
    }

    fn header(listed: &str, request: &Request, method: &str, uri: &str, cnonce: &str) -> String {
        let mut out = Vec::new();
        let what = DigestedRequest { method, uri: uri.as_bytes(), cnonce: cnonce.as_bytes() };
        push_lines(&mut out, listed.as_bytes(), challenges(request), what, |_| 1);
        String::from_utf8(out).unwrap()
    }

    /// The examples of RFC 7616 3.9.1.
    #[test]
    fn the_examples_of_the_rfc() {
        let listed = "Mufasa:http-auth@example.org:Circle of Life";
        let rest = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                    nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                    opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = format!("Digest {rest}, algorithm={algorithm}");
            let again =
                with_credentials(listed.as_bytes(), &request(), &asked_by(Challenger::Server, 401, &[&challenge]))
                    .unwrap();
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let line = header(listed, &again, "GET", "/dir/index.html", cnonce);
            assert!(line.starts_with("Authorization: Digest username=\"Mufasa\""), "{line}");
            assert!(line.contains(&format!("response=\"{response}\"")), "{line}");
            assert!(line.contains("nc=00000001") && line.contains("opaque=\"FQhe"), "{line}");
            assert!(line.ends_with("\r\n") && line.lines().count() == 1);
        }
    }

    /// The example of RFC 2069 as RFC 2617 has it, without quality of protection.
    #[test]
    fn a_challenge_without_quality_of_protection() {
        let listed = "x:other:y, Mufasa:testrealm@host.com:CircleOfLife";
        let challenge = "Digest realm=\"testrealm@host.com\",nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let again =
            with_credentials(listed.as_bytes(), &request(), &asked_by(Challenger::Proxy, 407, &[challenge])).unwrap();
        let line = header(listed, &again, "GET", "/dir/index.html", "");
        assert!(line.starts_with("Proxy-Authorization: ") && !line.contains("qop") && !line.contains("algorithm"));
        assert!(line.contains("response=\"1949323746fe6a43ef61f9606e7febea\""), "{line}");
    }

    #[test]
    fn only_what_can_help_is_sent_again() {
        let listed = b"u:r:p";
        let good = "Digest realm=\"r\", nonce=\"1\"";
        let stale = "Digest realm=\"r\", nonce=\"2\", stale=TRUE";
        let first = with_credentials(listed, &request(), &asked_by(Challenger::Server, 401, &[good])).unwrap();
        let refused = |listed: &[u8], request: &Request, answer: FinalResponse| {
            assert_eq!(with_credentials(listed, request, &answer), None, "{answer:?}");
        };
        for said in [
            "Digest realm=\"x\", nonce=\"1\"",
            "Basic realm=\"r\"",
            "Digest realm=\"r\", nonce=\"1\", algorithm=X",
            "Digest realm=\"r\", nonce=\"1\r\nX: y\"",
            "Digest realm=\"r\"",
        ] {
            refused(listed, &request(), asked_by(Challenger::Server, 401, &[said]));
        }
        refused(listed, &request(), asked_by(Challenger::Server, 401, &[]));
        refused(listed, &request(), asked_by(Challenger::Server, 403, &[good]));
        refused(b"", &request(), asked_by(Challenger::Server, 401, &[good]));
        // The password is wrong.
        refused(listed, &first, asked_by(Challenger::Server, 401, &[good]));
        let second = with_credentials(listed, &first, &asked_by(Challenger::Server, 401, &[stale])).unwrap();
        assert!(header("u:r:p", &second, "PUBLISH", "sip:a@b", "c").contains("nonce=\"2\""));
        // A proxy and the server: both are answered.
        let both = with_credentials(listed, &second, &asked_by(Challenger::Proxy, 407, &[good])).unwrap();
        let lines = header("u:r:p", &both, "PUBLISH", "sip:a@b", "c");
        assert!(lines.contains("\r\nProxy-Authorization: ") && lines.starts_with("Authorization: "), "{lines}");
        refused(listed, &both, asked_by(Challenger::Proxy, 407, &[stale]));
    }

    #[test]
    fn the_first_algorithm_that_can_be_answered_is_taken() {
        let said = [
            "Digest realm=\"r\", nonce=\"1\", algorithm=SHA-512-256",
            "Digest realm=\"r\", nonce=\"2\", algorithm=SHA-256",
            "Digest realm=\"r\", nonce=\"3\", algorithm=MD5",
        ];
        let again = with_credentials(b"u:r:p", &request(), &asked_by(Challenger::Server, 401, &said)).unwrap();
        assert!(header("u:r:p", &again, "PUBLISH", "sip:a@b", "c").contains("nonce=\"2\""));
    }

    #[test]
    fn credentials_are_read_as_uac_has_them() {
        assert!(
            are_readable(b"")
                && are_readable(b"u:r:p:with:colons, u2:r2:")
                && !are_readable(b"u:r")
                && !are_readable(b":r:p")
        );
        assert!(!are_readable(b"u\":r:p"));
        assert_eq!(credentials(b"u:r:p, v:s:").count(), 2);
    }

    #[test]
    fn a_challenge_that_is_too_long_is_not_looked_at() {
        let answer = |length: usize| {
            let start = "Digest realm=\"r\", nonce=\"1\", opaque=\"";
            let text = format!("{start}{}\"", "x".repeat(length - start.len() - 1));
            assert_eq!(text.len(), length);
            with_credentials(b"u:r:p", &request(), &asked_by(Challenger::Server, 401, &[&text]))
        };
        assert!(answer(LONGEST_CHALLENGE).is_some() && answer(LONGEST_CHALLENGE + 1).is_none());
    }
}
