//! What is remembered of changes, NOTIFYs and ends, and what it says of a lamp.
pub mod ended;
pub mod explain;
pub mod occurrence;
pub mod remembered;
