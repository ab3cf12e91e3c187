//! The interval that is granted (RFC 3903 4.1, RFC 6665 4.2.1.1): that of the request or of the package, within the
//! bounds of the server, for PUBLISH and SUBSCRIBE alike.
use super::actors::{Publish, Subscribe, code, pidf};
use super::{MemoryPorts, PRESENCE};
use crate::presence::config::BelowMinimum;
use crate::presence::error::Failure;
use crate::time::Seconds;

/// What a request asks for, the bounds, and what comes of it: the seconds in Expires, or `None` for a 423.
type Case = (Option<u32>, (u32, u32), BelowMinimum, Option<u32>);

use BelowMinimum::{Raise, Reject};

fn server((least, most): (u32, u32), below: BelowMinimum) -> MemoryPorts {
    let mut server = MemoryPorts::default();
    server.config.min_expires = least.into();
    server.config.max_expires = most.into();
    server.config.below_minimum = below;
    server
}

/// What was answered: the granted seconds, or nothing after a 423 that names the minimum.
fn granted<T: std::fmt::Debug>(server: &MemoryPorts, result: Result<T, Failure>) -> Option<u32> {
    match &result {
        Err(Failure::Reject { code: 423, headers, .. }) => {
            let wanted = format!("Min-Expires: {}", server.config.min_expires.0);
            assert!(String::from_utf8_lossy(headers).contains(&wanted), "a 423 names the minimum");
            None
        }
        Err(_) => panic!("answered {}", code(result)),
        Ok(_) => server.replies.last()?.header("Expires")?.parse().ok(),
    }
}

fn a_publication((asked, bounds, below, wanted): Case) {
    let mut server = server(bounds, below);
    let body = pidf("open");
    let result = Publish { expires: asked, ..Publish::new("alice", PRESENCE, &body) }.send(&mut server);
    assert_eq!(granted(&server, result), wanted, "{asked:?} within {bounds:?}, {below:?}");
}

fn a_subscription((asked, bounds, below, wanted): Case) {
    let mut server = server(bounds, below);
    let result = Subscribe { expires: asked, ..Subscribe::new("bob", "alice", "presence") }.send(&mut server);
    assert_eq!(granted(&server, result), wanted, "{asked:?} within {bounds:?}, {below:?}");
    let ends = server.stored("bob").map(|stored| stored.state.expires_at - server.now);
    assert_eq!(ends, wanted.map(Seconds::from), "it is stored for as long");
}

fn a_refresh((asked, bounds, below, wanted): Case) {
    let mut server = server((0, 10_000), Reject);
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.now += Seconds(100);
    server.config.min_expires = bounds.0.into();
    server.config.max_expires = bounds.1.into();
    server.config.below_minimum = below;
    let refresh = Subscribe { expires: asked, ..Subscribe::new("bob", "alice", "presence") };
    let result = refresh.in_dialog(&server, 2).send(&mut server);
    assert_eq!(granted(&server, result), wanted, "{asked:?} within {bounds:?}, {below:?}");
    // A refused refresh leaves the subscription as it was.
    let ends = server.stored("bob").map(|stored| stored.state.expires_at - server.now);
    assert_eq!(ends, Some(wanted.map_or(Seconds(500), Seconds::from)));
}

/// The same rows for each kind of request.
macro_rules! each_request {
    ($($name:ident => $row:expr;)+) => {
        table! { a_publication: $($name => $row;)+ }
        table! { a_subscription: $($name => $row;)+ }
        table! { a_refresh: $($name => $row;)+ }
    };
}

each_request! {
    as_asked => (Some(600), (0, 3600), Reject, Some(600));
    one_second => (Some(1), (0, 3600), Reject, Some(1));
    the_most => (Some(3600), (0, 3600), Reject, Some(3600));
    more_than_the_most => (Some(3601), (0, 3600), Reject, Some(3600));
    the_largest_number => (Some(u32::MAX), (0, 3600), Reject, Some(3600));
    the_default_of_the_package => (None, (0, 7200), Reject, Some(3600));
    the_default_beyond_the_most => (None, (0, 600), Reject, Some(600));
    the_default_where_least_and_most_are_one => (None, (600, 600), Reject, Some(600));
    below_the_least => (Some(59), (60, 3600), Reject, None);
    far_below_the_least => (Some(1), (60, 3600), Reject, None);
    the_least => (Some(60), (60, 3600), Reject, Some(60));
    above_the_least => (Some(61), (60, 3600), Reject, Some(61));
    raised_to_the_least => (Some(59), (60, 3600), Raise, Some(60));
    raised_from_one_second => (Some(1), (60, 3600), Raise, Some(60));
    the_least_needs_no_raising => (Some(60), (60, 3600), Raise, Some(60));
    lowered_to_the_most => (Some(4000), (60, 3600), Raise, Some(3600));
    lowered_though_short_ones_are_refused => (Some(4000), (60, 3600), Reject, Some(3600));
    below_the_only_one => (Some(599), (600, 600), Reject, None);
    raised_to_the_only_one => (Some(599), (600, 600), Raise, Some(600));
    lowered_to_the_only_one => (Some(601), (600, 600), Raise, Some(600));
    the_default_though_short_ones_are_raised => (None, (60, 3600), Raise, Some(3600));
    the_default_that_is_the_least => (None, (3600, 3600), Reject, Some(3600));
}
