//! What every decision needs of its user agent: settings, clock, log.
use crate::pua::config::Config;
use crate::time::Moment;

/// The user agent itself.
pub trait UserAgent {
    /// The settings.
    fn config(&self) -> &Config;
    /// The moment.
    fn now(&self) -> Moment;
    /// One line for the log.
    fn warn(&self, what: &str);
}
