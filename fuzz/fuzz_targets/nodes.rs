//! What other nodes say. What is read and written again is read as the same.
#![no_main]
use kamailio_presence_fuzz::packages;
use kamailio_presence_fuzz::presence::replication::node_messages::{self, NodeMessage};
use kamailio_presence_fuzz::presence::replication::replica;
use kamailio_presence_fuzz::time::Moment;
use libfuzzer_sys::fuzz_target;

const NOW: Moment = Moment::at(1000);

fuzz_target!(|data: &[u8]| {
    if let Some(replica::ReplicaMessage::Update(replica)) = replica::parse(data) {
        let written = replica.to_json();
        let Some(replica::ReplicaMessage::Update(again)) = replica::parse(&written) else {
            panic!("cannot be read again: {}", String::from_utf8_lossy(&written))
        };
        assert_eq!(again.to_json(), written);
    }
    let packages = packages();
    match node_messages::parse(data, &packages, NOW) {
        Some((node, NodeMessage::Subscription(said))) => {
            let written = said.to_json(&node, &packages, NOW);
            let Some((_, NodeMessage::Subscription(again))) = node_messages::parse(&written, &packages, NOW) else {
                panic!("cannot be read again: {}", String::from_utf8_lossy(&written))
            };
            assert_eq!((again.subscription.fields(), again.claim), (said.subscription.fields(), said.claim));
        }
        Some((node, NodeMessage::End(said))) => {
            let again = node_messages::parse(&said.to_json(&node), &packages, NOW);
            assert!(matches!(again, Some((_, NodeMessage::End(again))) if again == said));
        }
        _ => {}
    }
});
