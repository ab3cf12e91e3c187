//! The presence user agent: publishes (RFC 3903) and subscribes (RFC 6665) for other modules. It asks for everything it
//! needs through [`ports::AgentPorts`].
#![deny(unsafe_code)]
pub mod client_request;
pub mod config;
pub mod dialog;
pub mod digest;
pub mod error;
pub mod event;
pub mod flags;
pub mod headers;
pub mod next_step;
pub mod pending_request;
pub mod ports;
pub mod publication;
pub mod publish;
pub mod queue;
pub mod record;
pub mod refresh;
pub mod request;
pub mod response;
pub mod subscriber;
