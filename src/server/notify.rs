//! NOTIFY (RFC 6665 4.2.2): the queue of each resource and the sender processes for large fan-outs.
pub mod engine;
pub mod fan_out;
pub mod held_queues;
pub mod marked_turns;
pub mod missed_changes;
pub mod named_sender;
pub mod named_targets;
pub mod notifier_process;
pub mod outstanding;
pub mod queue;
pub mod row_queue;
pub mod row_run;
pub mod senders;
pub mod transactions;
pub mod turn_retries;
pub mod under_way;
pub mod work;
