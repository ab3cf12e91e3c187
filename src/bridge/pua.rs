//! Carries out on the host what the presence user agent asks for.
pub mod bodies;
pub mod callbacks;
pub mod flights;
pub mod records;
pub mod rows;
pub mod settings;
pub mod world;
