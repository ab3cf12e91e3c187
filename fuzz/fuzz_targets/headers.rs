//! URIs and Event headers: what is split can be put together again.
#![no_main]
use kamailio_presence_fuzz::presence::resource::UriComparison;
use kamailio_presence_fuzz::sip::checked::{UserPart, is_clean, unfolded};
use kamailio_presence_fuzz::sip::{event::EventHeader, text, uri};
use kamailio_presence_fuzz::{packages, presence::event_package::PackageId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let uri::PlainUri { user, host } = uri::split(data);
    assert!(user.len() + host.len() <= data.len());
    let joined = uri::join(user, host);
    let again = uri::split(&joined);
    assert_eq!(uri::join(again.user, again.host), joined, "a URI that was put together stays what it is");
    if let Some(event) = EventHeader::parse(data) {
        assert!(event.same_package(&event));
        assert!(event.params().all(|(name, value)| name.len() + value.len() <= data.len()));
        let _ = (event.id(), packages().find(&event));
    }
    for ignore_case in [false, true] {
        let rule = UriComparison { ignore_case, seed: 7 };
        let (one, two) = (rule.resource(data, PackageId(0)), rule.resource(&data.to_ascii_uppercase(), PackageId(0)));
        assert!(!rule.same(&one.uri, &two.uri) || one.hash == two.hash, "what is the same has the same hash");
    }
    if let Ok(user) = UserPart::new(data) {
        let transient_body = user.bytes().to_vec();
        assert!(
            UserPart::new(&transient_body).is_ok_and(|again| again.bytes() == transient_body),
            "one form stays \
            one"
        );
        assert!(is_clean(&transient_body) && std::str::from_utf8(&transient_body).is_ok());
    }
    assert!(unfolded(data).is_none_or(|text| is_clean(&text)));
    let mut out = Vec::new();
    text::push_xml(&mut out, data);
    let shown = std::str::from_utf8(&out).expect("what is written is UTF-8");
    assert!(!shown.contains(['<', '>', '"']));
});
