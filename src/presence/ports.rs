//! What the presence server asks of its surroundings, a trait for each part of them. The parts of `server` carry them
//! out on Kamailio, `testing` in plain collections.
pub mod authorizations;
pub mod cluster;
pub mod event_packages;
pub mod notifications;
pub mod publications;
pub mod recorder;
pub mod server;
pub mod subscriptions;
pub mod transaction;

use authorizations::Authorizations;
use cluster::Cluster;
use event_packages::EventPackages;
use notifications::Notifications;
use publications::Publications;
use recorder::Recorder;
use server::Server;
use subscriptions::Subscriptions;
use transaction::ServerTransaction;

/// All that the decisions of this layer ask of the server that carries them out.
pub trait Ports:
    Server
    + ServerTransaction
    + EventPackages
    + Publications
    + Subscriptions
    + Authorizations
    + Notifications
    + Cluster
    + Recorder
{
}

impl<P> Ports for P where
    P: Server
        + ServerTransaction
        + EventPackages
        + Publications
        + Subscriptions
        + Authorizations
        + Notifications
        + Cluster
        + Recorder
{
}
