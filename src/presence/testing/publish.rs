//! PUBLISH (RFC 3903): what is stored, answered and refused.
use super::actors::{Publish, Subscribe, code, dialog, pidf};
use super::fixtures::config;
use super::{DIALOG, MemoryPorts, PRESENCE, VOICEMAIL};
use crate::presence::config::{BelowMinimum, Config};
use crate::presence::ports::Ports;
use crate::presence::{expiry, publish};

fn bodies(server: &mut MemoryPorts, user: &str, event: super::PackageId) -> Vec<String> {
    let resource = server.resource(user, event);
    let documents = server.documents(&resource).expect("documents");
    documents.into_iter().map(|document| String::from_utf8_lossy(&document.body).into_owned()).collect()
}

#[test]
fn a_publication_lives_from_its_first_publish_to_its_removal() {
    let mut server = MemoryPorts::default();
    let (open, closed) = (pidf("open"), pidf("closed"));
    let first = Publish::new("alice", PRESENCE, &open).send(&mut server).expect("stored");
    assert_eq!(bodies(&mut server, "alice", PRESENCE), std::slice::from_ref(&open));
    let refresh = Publish { etag: Some(&first), body: None, ..Publish::new("alice", PRESENCE, "") };
    let second = refresh.send(&mut server).expect("refreshed");
    assert_ne!(first, second, "each answer carries a new entity tag (RFC 3903 4.1)");
    assert_eq!(bodies(&mut server, "alice", PRESENCE), [open], "a refresh keeps the document (RFC 3903 4.3)");
    let modify = Publish { etag: Some(&second), ..Publish::new("alice", PRESENCE, &closed) };
    let third = modify.send(&mut server).expect("modified");
    assert_eq!(bodies(&mut server, "alice", PRESENCE), [closed]);
    let remove = Publish { etag: Some(&third), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
    remove.send(&mut server).expect("removed");
    assert!(bodies(&mut server, "alice", PRESENCE).is_empty());
    assert_eq!(code(remove.send(&mut server)), 412, "what was removed is unknown");
}

#[test]
fn entity_tags_that_match_nothing_are_refused() {
    let mut server = MemoryPorts::default();
    let body = pidf("open");
    let etag = Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    let long = "x".repeat(65);
    for (user, tag, expires) in [
        ("alice", "", 600),
        ("alice", "unknown", 600),
        ("alice", "a.1.2.3.4", 0),
        ("alice", long.as_str(), 600),
        ("bob", etag.as_str(), 600),
        ("bob", etag.as_str(), 0),
    ] {
        let publish = Publish { etag: Some(tag), expires: Some(expires), ..Publish::new(user, PRESENCE, &body) };
        assert_eq!(code(publish.send(&mut server)), 412, "{user} {tag} {expires}");
    }
    assert_eq!(bodies(&mut server, "alice", PRESENCE).len(), 1, "a refused request changes nothing");
}

#[test]
fn requests_that_cannot_be_understood_are_refused() {
    let body = pidf("open");
    let whole = publish::Request {
        event: Some(b"presence"),
        user: b"alice",
        domain: b"example.org",
        content_type: Some(b"application/pidf+xml"),
        body: Some(body.as_bytes()),
        ..publish::Request::default()
    };
    let cases: [(u16, publish::Request<'_>); 14] = [
        (489, publish::Request { event: None, ..whole }),
        (489, publish::Request { event: Some(b""), ..whole }),
        (489, publish::Request { event: Some(b"no such package"), ..whole }),
        (489, publish::Request { event: Some(b"nothing"), ..whole }),
        (400, publish::Request { body: None, ..whole }),
        (400, publish::Request { content_type: None, ..whole }),
        (415, publish::Request { content_type: Some(b"text/plain"), ..whole }),
        (415, publish::Request { content_type: Some(b"application/dialog-info+xml"), ..whole }),
        (415, publish::Request { body: Some(b"<a>"), ..whole }),
        (415, publish::Request { body: Some(b"text"), ..whole }),
        (415, publish::Request { body: Some(b"<a/><b/>"), ..whole }),
        (415, publish::Request { body: Some(b"<a></b>"), ..whole }),
        (200, publish::Request { content_type: Some(b"Application/PIDF+XML; charset=utf-8"), ..whole }),
        (200, publish::Request { event: Some(b"presence;id=7"), ..whole }),
    ];
    for (wanted, request) in cases {
        let mut server = MemoryPorts::default();
        let event = request.event.map(String::from_utf8_lossy);
        assert_eq!(code(publish::handle(&mut server, &request)), wanted, "{event:?} {:?}", request.content_type);
        assert_eq!(bodies(&mut server, "alice", PRESENCE).len(), usize::from(wanted == 200));
    }
}

#[test]
fn intervals_are_granted_within_the_limits() {
    use BelowMinimum::{Raise, Reject};
    for (asked, minimum, action, wanted) in [
        (None, 0, Reject, Ok("3600")),
        (Some(1), 0, Reject, Ok("1")),
        (Some(60), 60, Reject, Ok("60")),
        (Some(59), 60, Reject, Err(423)),
        (Some(59), 60, Raise, Ok("60")),
        (Some(0), 60, Reject, Ok("0")),
        (Some(3601), 0, Reject, Ok("3600")),
        (Some(u32::MAX), 0, Reject, Ok("3600")),
    ] {
        let mut server = MemoryPorts::default();
        server.config.min_expires = minimum;
        server.config.below_minimum = action;
        let body = pidf("open");
        let answer = Publish { expires: asked, ..Publish::new("alice", PRESENCE, &body) }.send(&mut server);
        match wanted {
            Ok(granted) => {
                answer.expect("granted");
                assert_eq!(server.replies[0].header("Expires"), Some(granted), "{asked:?}");
            }
            Err(refused) => assert_eq!(code(answer), refused, "{asked:?}"),
        }
    }
}

#[test]
fn limits_refuse_what_exceeds_them() {
    let body = pidf("open");
    for (max_body_size, max_publications, wanted) in
        [(body.len(), 0, 200), (body.len() - 1, 0, 413), (0, 2, 200), (0, 1, 403)]
    {
        let mut server = MemoryPorts::default();
        Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
        server.config = Config { max_body_size, max_publications, ..config() };
        let answer = code(Publish::new("alice", PRESENCE, &body).send(&mut server));
        assert_eq!(answer, wanted, "{max_body_size} {max_publications}");
    }
}

#[test]
fn a_document_takes_the_place_of_those_of_its_dialogs() {
    for (first, second, left) in [
        (dialog("a", "early"), dialog("a", "confirmed"), 1),
        (dialog("a", "early"), dialog("b", "early"), 2),
        (dialog("a", "early"), "<dialog-info/>".into(), 2),
    ] {
        let mut server = MemoryPorts::default();
        Publish::new("alice", DIALOG, &first).send(&mut server).expect("stored");
        Publish::new("alice", DIALOG, &second).send(&mut server).expect("stored");
        assert_eq!(bodies(&mut server, "alice", DIALOG).len(), left, "{second}");
    }
}

#[test]
fn an_initial_publish_with_expires_0_stores_nothing() {
    for (event, body) in [(PRESENCE, pidf("open")), (DIALOG, dialog("a", "terminated")), (VOICEMAIL, "x".into())] {
        let mut server = MemoryPorts::default();
        let publish = Publish { expires: Some(0), ..Publish::new("alice", event, &body) };
        publish.send(&mut server).expect("answered");
        assert!(bodies(&mut server, "alice", event).is_empty(), "{body}");
        assert_eq!(server.replies[0].header("Expires"), Some("0"));
    }
}

#[test]
fn a_store_that_fails_leaves_the_state_as_it_was() {
    let mut server = MemoryPorts::default();
    let (open, closed) = (pidf("open"), pidf("closed"));
    let etag = Publish::new("alice", PRESENCE, &open).send(&mut server).expect("stored");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let sent = server.sent.len();
    server.stores_left = Some(0);
    assert_eq!(code(Publish::new("alice", PRESENCE, &closed).send(&mut server)), 500);
    let modify = Publish { etag: Some(&etag), ..Publish::new("alice", PRESENCE, &closed) };
    assert_eq!(code(modify.send(&mut server)), 500);
    let remove = Publish { expires: Some(0), ..modify };
    assert_eq!(code(remove.send(&mut server)), 500);
    assert_eq!((server.replies.len(), server.sent.len()), (2, sent), "nobody is answered or notified");
    server.stores_left = None;
    assert_eq!(bodies(&mut server, "alice", PRESENCE), [open]);
    modify.send(&mut server).expect("the entity tag is still good");
}

#[test]
fn publications_end_by_themselves() {
    let mut server = MemoryPorts::default();
    let body = pidf("open");
    for (user, expires) in [("alice", 10), ("bob", 20), ("carol", 3600)] {
        let publish = Publish { expires: Some(expires), ..Publish::new(user, PRESENCE, &body) };
        publish.send(&mut server).expect("stored");
    }
    server.now += 15;
    assert!(bodies(&mut server, "alice", PRESENCE).is_empty(), "an expired document is not shown");
    assert_eq!(expiry::publications(&mut server).expect("ended"), 1);
    server.now += 15;
    assert_eq!(expiry::publications(&mut server).expect("ended"), 1);
    assert_eq!(expiry::publications(&mut server).expect("ended"), 0);
    assert_eq!(bodies(&mut server, "carol", PRESENCE).len(), 1);
}

#[test]
fn late_state_is_held_back_and_shows_when_nothing_follows() {
    let state = |version: u32, state: &str| {
        let dialog = format!("<dialog id=\"x\"><state>{state}</state></dialog>");
        format!("<dialog-info version=\"{version}\">{dialog}</dialog-info>")
    };
    let (end, late, newer) = (state(5, "terminated"), state(0, "confirmed"), state(6, "early"));
    for (what, follows, shown) in
        [("nothing", None, &late), ("a refresh", Some(None), &late), ("a document", Some(Some(&newer)), &newer)]
    {
        let mut server = MemoryPorts::default();
        let tag = Publish::new("alice", DIALOG, &end).send(&mut server).expect("published");
        Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
        let publish = Publish { etag: Some(&tag), ..Publish::new("alice", DIALOG, &late) };
        let tag = publish.send(&mut server).expect("published");
        expiry::late_documents(&mut server, false).expect("shown");
        assert_eq!((bodies(&mut server, "alice", DIALOG), server.sent.len()), (vec![end.clone()], 1), "{what}");
        if let Some(body) = follows {
            let next =
                Publish { etag: Some(&tag), body: body.map(String::as_str), ..Publish::new("alice", DIALOG, "") };
            next.send(&mut server).expect("published");
        }
        server.now += 6;
        expiry::late_documents(&mut server, false).expect("shown");
        assert_eq!(bodies(&mut server, "alice", DIALOG), std::slice::from_ref(shown), "{what}");
        assert_eq!(server.sent.len(), 2, "{what}");
    }
}
