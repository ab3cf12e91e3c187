//! The answer to a SUBSCRIBE with a string that the database does not take.
use super::field::room_of;
use crate::presence::error::{Failure, StoreError};
use crate::presence::ports::Ports;
use crate::presence::subscription::{self, Subscription};
use crate::sip::columns;

/// A database that refuses a subscription, or a question about it, because of a string that its column does not take:
/// the watcher has to change it.
pub(crate) fn refused_subscription<P: Ports>(ports: &P, error: StoreError, subscription: &Subscription) -> Failure {
    let is_refused = error == StoreError::Refused && ports.row_limits().is_some();
    match subscription::misfit(subscription).filter(|_| is_refused) {
        Some(field) => {
            let flaw = columns::flaw_of(subscription.get(field), room_of(field));
            Failure::bad_request(format!("the {} {flaw}", field.name()))
        }
        None => error.into(),
    }
}
