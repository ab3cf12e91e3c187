//! Entries of the tables of script functions, variables and event routes.
use super::command::Output;

/// A script function.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// The function's name and arguments: `handle_publish([sender_uri])`.
    pub synopsis: &'static str,
    /// The numbers of arguments with which it can be called.
    pub arities: &'static [usize],
    /// Where it may be called: `REQUEST_ROUTE`, `ANY_ROUTE`.
    pub routes: &'static str,
    /// What it returns.
    pub returns: &'static str,
    /// The same for KEMI scripts; empty: there it does not exist.
    pub kemi: &'static [&'static str],
    /// How it differs from the stock module's; empty: it does not.
    pub difference: &'static str,
    /// What it does: a paragraph of Markdown.
    pub text: &'static str,
    /// Lines of a configuration.
    pub example: &'static str,
}

impl Function {
    /// The name alone.
    pub fn name(&self) -> &'static str {
        self.synopsis.split('(').next().unwrap_or_default()
    }
}

/// A variable, or an event route: something of a script that is no function.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// How it is written.
    pub synopsis: &'static str,
    /// Whether the stock module has it.
    pub stock: bool,
    /// What it is: a paragraph of Markdown.
    pub text: &'static str,
    /// The names inside the parentheses, and what each holds.
    pub attributes: &'static [Output],
    /// Lines of a configuration.
    pub example: &'static str,
}
