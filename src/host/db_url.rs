//! The URL of a database, which is never shown with its password: its `Display` and `Debug` mask it.
use std::fmt;

/// `scheme://[user[:password]@]host[:port]/database`, as the configuration has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DbUrl(&'static [u8]);

/// What stands for a password.
const MASK: &str = "***";

/// Schemes whose drivers read the URL with the host's own parser, which writes a URL that it cannot read to the log.
const PARSED_BY_HOST: [&[u8]; 8] =
    [b"mysql", b"postgres", b"sqlite", b"unixodbc", b"redis", b"mongodb", b"cassandra", b"oracle"];

impl DbUrl {
    /// Wraps the text of a parameter.
    pub fn new(text: &'static [u8]) -> DbUrl {
        DbUrl(text)
    }

    /// The whole text, for the driver alone.
    pub fn for_driver(self) -> &'static [u8] {
        self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The scheme: `sqlite`, `mysql`, `postgres`, `text` ...; empty without a colon.
    pub fn scheme(self) -> &'static [u8] {
        let url = self.0.strip_prefix(b"db_").unwrap_or(self.0);
        memchr::memchr(b':', url).map_or(b"", |colon| &url[..colon])
    }

    /// Whether its driver can read it. What it cannot read is not given to it: the host would write it to the log,
    /// password and all.
    pub fn is_readable(self) -> bool {
        let scheme = self.scheme();
        let names_a_module = !scheme.is_empty() && scheme.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'_');
        names_a_module && (!PARSED_BY_HOST.contains(&scheme) || self.has_all_parts())
    }

    fn has_all_parts(self) -> bool {
        let Some(rest) = self.0[self.scheme().len()..].strip_prefix(b"://") else { return false };
        // The last @ ends user and password, which may have others.
        let (has_user, after) = match memchr::memrchr(b'@', rest) {
            Some(at) if !rest[..at].is_empty() && is_user(&rest[..at]) => (true, &rest[at + 1..]),
            _ => (false, rest),
        };
        let Some(slash) = memchr::memchr(b'/', after) else { return false };
        // The path of a file may have an @; anywhere else it is the end of a password with a slash.
        let is_password = !has_user && after.contains(&b'@') && (slash > 0 || self.scheme() != b"sqlite");
        !is_password && is_host(&after[..slash])
    }
}

/// What is before the last @ is a user, or a user and a password; without a slash, where a path would begin.
fn is_user(text: &[u8]) -> bool {
    !text.contains(&b'/')
}

/// A host that may have a port: digits after the last colon, where it is not the address of IPv6 in brackets.
fn is_host(text: &[u8]) -> bool {
    let after_address = if text.first() == Some(&b'[') {
        match memchr::memchr(b']', text) {
            Some(end) => &text[end + 1..],
            None => return false,
        }
    } else {
        text
    };
    match memchr::memchr(b':', after_address) {
        Some(colon) => after_address[colon + 1..].iter().all(u8::is_ascii_digit),
        None => true,
    }
}

impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.0))
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({self})")
    }
}

/// The URL without its password and without its parameters, which may carry one. Where nobody can say what is meant,
/// too much is hidden rather than too little.
fn masked(url: &[u8]) -> String {
    let text = String::from_utf8_lossy(url);
    let Some(slashes) = text.find("://") else {
        // No URL: what follows a colon, or is before an @, may be a password.
        return match text.split_once(':') {
            Some((scheme, _)) if !scheme.contains('@') => format!("{scheme}:{MASK}"),
            _ if text.contains('@') => MASK.to_owned(),
            _ => text.into_owned(),
        };
    };
    let (scheme, rest) = text.split_at(slashes + 3);
    let (user, host) = match rest.rfind('@') {
        Some(at) => rest.split_at(at),
        None => ("", rest),
    };
    let user = match user.find(':') {
        Some(colon) => format!("{}:{MASK}", &user[..colon]),
        None => user.to_owned(),
    };
    format!("{scheme}{user}{}", masked_host(host, &user))
}

/// Host, port and database. Without a user before them, what follows a colon and is no port is taken for a password.
fn masked_host(host: &str, user: &str) -> String {
    let (place, parameters) = match host.find('?') {
        Some(mark) => (&host[..mark], "?***"),
        None => (host, ""),
    };
    let end = place.find('/').unwrap_or(place.len());
    let (authority, database) = place.split_at(end);
    if user.is_empty() && !authority.starts_with('[') && !is_host(authority.as_bytes()) {
        let colon = authority.find(':').unwrap_or(0);
        return format!("{}:{MASK}{parameters}", &authority[..colon]);
    }
    format!("{authority}{database}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &'static str) -> String {
        DbUrl::new(url.as_bytes()).to_string()
    }

    fn readable(url: &'static str) -> bool {
        DbUrl::new(url.as_bytes()).is_readable()
    }

    #[test]
    fn the_password_is_masked_whatever_is_in_it() {
        for url in [
            "mysql://kamailio:S3cret@db.example.org:3306/kamailio",
            "mysql://kamailio:S3cret:@db.example.org:3306/kamailio",
            "mysql://kamailio:@S3cret@db.example.org:3306/kamailio",
            "mysql://kamailio:%40S3cret%3A@db.example.org:3306/kamailio",
            "mysql://kamailio:a/S3cret?x@db.example.org:3306/kamailio",
        ] {
            assert_eq!(shown(url), "mysql://kamailio:***@db.example.org:3306/kamailio");
        }
        assert_eq!(format!("{:?}", DbUrl::new(b"mysql://k:S3cret@h/d")), "DbUrl(mysql://k:***@h/d)");
    }

    #[test]
    fn what_is_no_password_is_shown() {
        for url in [
            "mysql://kamailio@db/kamailio",
            "sqlite:////var/lib/kamailio.sqlite",
            "text:///etc/kamailio/dbtext",
            "postgres://db.example.org:5432/kamailio",
            "mysql://k@[2001:db8::1]:3306/kamailio",
            "cluster://dbcluster",
        ] {
            assert_eq!(shown(url), url);
        }
    }

    #[test]
    fn no_malformed_url_shows_a_password() {
        for url in [
            "kamailio:S3cret@localhost/kamailio",
            "mysql:/kamailio:S3cret@localhost/kamailio",
            "mysql:kamailio:S3cret@localhost",
            "mysql:kamailio:S3cret",
            "kamailio:S3cret",
            "S3cret@localhost",
            "S3cret@localhost:5432",
            "mysql//kamailio:S3cret@localhost/k",
            "mysql://kamailio:S3cret",
            "mysql://kamailio:S3cret/kamailio",
            "mysql://kamailio:S3cret@localhost",
            "mysql://localhost/kamailio?password=S3cret",
            "mysql:///kamailio:S3cret@localhost/k",
            "mysql://kamailio:33/S3cret@localhost/k",
        ] {
            assert!(!shown(url).contains("S3cret"), "{}", shown(url));
        }
    }

    #[test]
    fn only_what_the_driver_reads_is_given_to_it() {
        for url in [
            "mysql://kamailio:p:@%@localhost:3306/kamailio",
            "mysql://kamailio@localhost/kamailio",
            "mysql://localhost/kamailio",
            "sqlite:////tmp/a@b.sqlite",
            "postgres://k:x@[::1]:5432/kamailio",
            "text:///tmp/dbtext",
            "cluster://name",
        ] {
            assert!(readable(url), "{url}");
        }
        for url in [
            "kamailio",
            "mysql",
            "mysql:/k:S3cret@localhost/k",
            "mysql://k:S3cret@localhost",
            "mysql://k:S3cret/x@localhost/k",
            "mysql://k:33/S3cret@localhost/k",
            "mysql:///k:S3cret@localhost/k",
            "my sql://k:S3cret@h/d",
        ] {
            assert!(!readable(url), "{url}");
        }
    }
}
