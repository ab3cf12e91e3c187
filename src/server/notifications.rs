//! NOTIFYs that are due, missed or under way, as processes share them, and how a process keeps near the answers.
pub mod change_counts;
pub mod engine;
pub mod held_queues;
pub mod joined_writes;
pub mod marked_turns;
pub mod missed_changes;
pub mod named_targets;
pub mod outstanding;
pub mod pacing;
pub mod receive_buffers;
pub mod row_run;
pub mod senders;
pub mod transactions;
pub mod turn_retries;
pub mod under_way;
pub mod unread;
