//! Carries out on the host what the presence user agent asks for.
pub mod bodies;
pub mod callbacks;
pub mod flights;
#[cfg(test)]
mod interleavings;
pub mod records;
pub mod rows;
#[cfg(test)]
mod scenarios;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod world;
