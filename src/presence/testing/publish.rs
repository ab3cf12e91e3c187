//! PUBLISH (RFC 3903): what is stored, answered and refused.
use super::actors::{Publish, Subscribe, code, dialog, pidf};
use super::fixtures::config;
use super::{DIALOG, MemoryPorts, PRESENCE, VOICEMAIL};
use crate::presence::composition::late::LateSelection;
use crate::presence::config::Config;
use crate::presence::expiry;
use crate::presence::ports::publications::Publications;
use crate::presence::publication::direct_publish;
use crate::presence::publication::direct_publish::{Direct, DirectKind};
use crate::presence::publication::publish;
use crate::presence::publication::publish_request::PublishRequest;
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;
use std::num::NonZeroUsize;

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

fn an_entity_tag_that_matches_nothing_is_refused((user, tag, expires): (&str, Option<&str>, u32)) {
    let mut server = MemoryPorts::default();
    let body = pidf("open");
    let of_alice = Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    let etag = Some(tag.unwrap_or(&of_alice));
    let publish = Publish { etag, expires: Some(expires), ..Publish::new(user, PRESENCE, &body) };
    assert_eq!(code(publish.send(&mut server)), 412);
    assert_eq!(bodies(&mut server, "alice", PRESENCE).len(), 1, "a refused request changes nothing");
}

table! { an_entity_tag_that_matches_nothing_is_refused:
    an_empty_one => ("alice", Some(""), 600);
    an_unknown_one => ("alice", Some("unknown"), 600);
    the_removal_of_an_unknown_one => ("alice", Some("a.1.2.3.4"), 0);
    one_of_the_longest_that_a_row_takes => ("alice", Some(&"x".repeat(64)), 600);
    one_that_is_longer => ("alice", Some(&"x".repeat(65)), 600);
    that_of_another_user => ("bob", None, 600);
    the_removal_of_that_of_another_user => ("bob", None, 0);
}

fn whole() -> PublishRequest<'static> {
    PublishRequest {
        event: Some(b"presence"),
        user: b"alice",
        domain: b"example.org",
        content_type: Some(b"application/pidf+xml"),
        body: Some(b"<presence/>"),
        ..PublishRequest::default()
    }
}

/// `a document` as zlib packs it.
const ZIPPED: &[u8] = b"x\x9cKTH\xc9O.\xcdM\xcd+\x01\0\x13\xeb\x03\xe1";

fn mail() -> PublishRequest<'static> {
    PublishRequest {
        event: Some(b"message-summary"),
        content_type: Some(b"application/simple-message-summary"),
        body: Some(b"Messages-Waiting: yes\r\n\tVoice-Message: 1/0\r\n"),
        ..whole()
    }
}

fn a_request_that_cannot_be_understood_is_refused((wanted, request): (u16, PublishRequest<'_>)) {
    let mut server = MemoryPorts::default();
    assert_eq!(code(publish::handle(&mut server, &request)), wanted);
    let stored = [PRESENCE, VOICEMAIL].map(|event| bodies(&mut server, "alice", event).len());
    assert_eq!(stored.iter().sum::<usize>(), usize::from(wanted == 200));
}

table! { a_request_that_cannot_be_understood_is_refused:
    no_event => (489, PublishRequest { event: None, ..whole() });
    an_empty_event => (489, PublishRequest { event: Some(b""), ..whole() });
    an_event_of_three_words => (489, PublishRequest { event: Some(b"no such package"), ..whole() });
    an_unknown_package => (489, PublishRequest { event: Some(b"nothing"), ..whole() });
    no_body => (400, PublishRequest { body: None, ..whole() });
    no_content_type => (400, PublishRequest { content_type: None, ..whole() });
    a_body_that_is_zipped => (415, PublishRequest {
        content_coding: Some(b"gzip"), body: Some(ZIPPED), ..whole()
    });
    a_body_that_the_host_has_unzipped => (200, PublishRequest { content_coding: Some(b"gzip"), ..whole() });
    zipped_text => (415, PublishRequest { content_coding: Some(b"deflate"), body: Some(ZIPPED), ..mail() });
    text_that_the_host_has_unzipped => (200, PublishRequest { content_coding: Some(b"deflate"), ..mail() });
    plain_text => (415, PublishRequest { content_type: Some(b"text/plain"), ..whole() });
    the_type_of_another_package => (415, PublishRequest { content_type: Some(b"message/sip"), ..whole() });
    an_element_that_stays_open => (415, PublishRequest { body: Some(b"<a>"), ..whole() });
    a_body_that_is_no_xml => (415, PublishRequest { body: Some(b"text"), ..whole() });
    two_roots => (415, PublishRequest { body: Some(b"<a/><b/>"), ..whole() });
    crossed_elements => (415, PublishRequest { body: Some(b"<a></b>"), ..whole() });
    an_empty_body => (415, PublishRequest { body: Some(b""), ..whole() });
    a_document_type => (415, PublishRequest { body: Some(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"), ..whole() });
    a_type_with_parameters_in_any_case => (200, PublishRequest { content_type: Some(b"Application/PIDF+XML; \
        charset=utf-8"), ..whole() });
    a_type_with_white_space => (200, PublishRequest {
        content_type: Some(b"application\t / \r\n PIDF+xml ;x=\"a;b / c\""), ..whole()
    });
    a_type_with_a_space_in_its_name => (415, PublishRequest {
        content_type: Some(b"application/pidf +xml"), ..whole()
    });
    two_types => (415, PublishRequest { content_type: Some(b"application/pidf+xml, text/plain"), ..whole() });
    an_event_with_parameters => (200, PublishRequest { event: Some(b"presence;id=7"), ..whole() });
    the_event_in_any_case => (200, PublishRequest { event: Some(b"Presence"), ..whole() });
}

fn limits_refuse_what_exceeds_them((max_body_size, max_publications, wanted): (usize, usize, u16)) {
    let body = pidf("open");
    let mut server = MemoryPorts::default();
    Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    let [max_body_size, max_publications] = [max_body_size, max_publications].map(NonZeroUsize::new);
    server.config = Config { max_body_size, max_publications, ..config() };
    let answer = code(Publish::new("alice", PRESENCE, &body).send(&mut server));
    assert_eq!(answer, wanted, "{max_body_size:?} {max_publications:?}");
}

table! { limits_refuse_what_exceeds_them:
    a_body_of_the_size => (pidf("open").len(), 0, 200);
    a_body_that_is_larger => (pidf("open").len() - 1, 0, 413);
    as_many_publications => (0, 2, 200);
    one_publication_more => (0, 1, 403);
    no_limits => (0, 0, 200);
}

fn a_document_takes_the_place_of_those_of_its_dialogs((first, second, left): (String, String, usize)) {
    let mut server = MemoryPorts::default();
    Publish::new("alice", DIALOG, &first).send(&mut server).expect("stored");
    Publish::new("alice", DIALOG, &second).send(&mut server).expect("stored");
    assert_eq!(bodies(&mut server, "alice", DIALOG).len(), left, "{second}");
}

table! { a_document_takes_the_place_of_those_of_its_dialogs:
    the_same_dialog => (dialog("a", "early"), dialog("a", "confirmed"), 1);
    another_dialog => (dialog("a", "early"), dialog("b", "early"), 2);
    no_dialog => (dialog("a", "early"), "<dialog-info/>".into(), 2);
}

fn an_initial_publish_with_expires_0_stores_nothing((event, body): (super::PackageId, String)) {
    let mut server = MemoryPorts::default();
    let publish = Publish { expires: Some(0), ..Publish::new("alice", event, &body) };
    publish.send(&mut server).expect("answered");
    assert!(bodies(&mut server, "alice", event).is_empty(), "{body}");
    assert_eq!(server.replies[0].header("Expires"), Some("0"));
}

table! { an_initial_publish_with_expires_0_stores_nothing:
    presence => (PRESENCE, pidf("open"));
    a_dialog => (DIALOG, dialog("a", "terminated"));
    voicemail => (VOICEMAIL, "x".into());
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
    server.now += Seconds(15);
    assert!(bodies(&mut server, "alice", PRESENCE).is_empty(), "an expired document is not shown");
    assert_eq!(expiry::publications(&mut server).expect("ended"), 1);
    server.now += Seconds(15);
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
        expiry::late_documents(&mut server, LateSelection::Due).expect("shown");
        assert_eq!((bodies(&mut server, "alice", DIALOG), server.sent.len()), (vec![end.clone()], 1), "{what}");
        if let Some(body) = follows {
            let next =
                Publish { etag: Some(&tag), body: body.map(String::as_str), ..Publish::new("alice", DIALOG, "") };
            next.send(&mut server).expect("published");
        }
        server.now += Seconds(6);
        expiry::late_documents(&mut server, LateSelection::Due).expect("shown");
        assert_eq!(bodies(&mut server, "alice", DIALOG), std::slice::from_ref(shown), "{what}");
        assert_eq!(server.sent.len(), 2, "{what}");
    }
}

/// What is held back has been answered with 200: it shows in the end, whatever fails on the way.
fn late_state_outlives_failures((fails, body): (&str, Option<&str>)) {
    let (end, late) = (dialog("x", "terminated"), dialog("x", "confirmed"));
    let versioned = |version: u32, text: &str| text.replacen('>', &format!(" version=\"{version}\">"), 1);
    let (end, late) = (versioned(5, &end), versioned(0, &late));
    let mut server = MemoryPorts::default();
    let tag = Publish::new("alice", DIALOG, &end).send(&mut server).expect("published");
    let publish = Publish { etag: Some(&tag), ..Publish::new("alice", DIALOG, &late) };
    let tag = publish.send(&mut server).expect("published");
    assert_eq!(bodies(&mut server, "alice", DIALOG), std::slice::from_ref(&end), "it is held back");
    server.stores_left = Some(0);
    match fails {
        "a PUBLISH" => {
            let next = Publish { etag: Some(&tag), body, ..Publish::new("alice", DIALOG, "") };
            assert_eq!(code(next.send(&mut server)), 500);
        }
        "another module" => {
            let direct = update_of_a_module(&tag, body.unwrap_or_default());
            assert!(direct_publish::publish(&mut server, &direct).is_err());
        }
        _ => {
            server.now += Seconds(6);
            assert!(expiry::late_documents(&mut server, LateSelection::Due).is_err());
        }
    }
    server.stores_left = None;
    server.now += Seconds(6);
    expiry::late_documents(&mut server, LateSelection::Due).expect("shown");
    assert_eq!(bodies(&mut server, "alice", DIALOG), [late], "{fails}");
    server.now += Seconds(6);
    assert!(server.due_late(LateSelection::All).is_empty(), "it is held no longer");
}

/// Another module's change of alice's dialog document with this entity tag; without a `body` it is refreshed.
fn update_of_a_module<'a>(tag: &'a str, body: &'a str) -> Direct<'a> {
    Direct {
        event: DIALOG,
        user: b"alice",
        domain: b"example.org",
        etag: EntityTag::new(tag.as_bytes()),
        sender: b"",
        body: body.as_bytes(),
        expires: 600.into(),
        kind: DirectKind::Update,
    }
}

table! { late_state_outlives_failures:
    a_refresh => ("a PUBLISH", None);
    a_newer_document => ("a PUBLISH", Some("<dialog-info version=\"6\"/>"));
    a_refresh_by_a_module => ("another module", None);
    a_newer_document_of_a_module => ("another module", Some("<dialog-info version=\"6\"/>"));
    its_own_time => ("its time", None);
}

#[test]
fn a_module_that_refreshes_late_state_shows_it() {
    let versioned = |version: u32, text: &str| text.replacen('>', &format!(" version=\"{version}\">"), 1);
    let (end, late) = (versioned(5, &dialog("x", "terminated")), versioned(0, &dialog("x", "confirmed")));
    let mut server = MemoryPorts::default();
    let tag = Publish::new("alice", DIALOG, &end).send(&mut server).expect("published");
    let publish = Publish { etag: Some(&tag), ..Publish::new("alice", DIALOG, &late) };
    let tag = publish.send(&mut server).expect("published");
    direct_publish::publish(&mut server, &update_of_a_module(&tag, "")).expect("refreshed");
    assert_eq!(bodies(&mut server, "alice", DIALOG), [late]);
}
