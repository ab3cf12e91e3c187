//! NOTIFY (RFC 6665 4.2.2): the queue of each resource and the sender processes for large fan-outs.
pub mod by_tm;
pub mod completion;
pub mod fan_out;
pub mod missed_sweep;
pub mod named_sender;
pub mod notifier_process;
pub mod queue;
#[cfg(test)]
mod queue_tests;
pub mod responses;
pub mod retries;
pub mod row_queue;
pub(crate) mod sending;
