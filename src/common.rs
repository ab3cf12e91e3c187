//! What the presence server and the user agent share on the host: the database, statistics, ids.
pub mod compared_rows;
pub mod counters;
pub mod database;
pub mod ended_rows;
pub mod failures;
pub mod ids;
pub mod metrics;
pub mod opening;
pub mod paging;
pub mod rest;
pub mod row_groups;
pub mod shared_commits;
pub mod unwritten_rows;
