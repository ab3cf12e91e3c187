//! One entry of a table of RPC commands: name, arguments, what is answered, and what the reference page says.
use super::parameter::Origin;
use std::ffi::CStr;

/// An RPC command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// The command's name: `presence.explain`.
    pub name: &'static CStr,
    /// The command's arguments as they are written in a synopsis; what may be left out is in brackets.
    pub arguments: &'static str,
    /// What is answered.
    pub answer: Answer,
    /// How the command is called, as a line of a shell.
    pub example: &'static str,
    /// Where the command comes from.
    pub origin: Origin,
    /// What it does: a paragraph of Markdown.
    pub text: &'static str,
}

/// What a command answers.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The answer says only that it was done.
    Nothing,
    /// One text.
    Text(&'static str),
    /// One structure with these fields.
    One(&'static [Output]),
    /// Any number of structures with these fields.
    Many(&'static [Output]),
    /// One structure with a field for each parameter.
    Settings,
}

/// A field of an answer: its name, and what it holds.
pub type Output = (&'static str, &'static str);

/// A command without arguments and answer.
pub const fn command(name: &'static CStr) -> Command {
    Command { name, arguments: "", answer: Answer::Nothing, example: "", origin: Origin::Stock, text: "" }
}

impl Command {
    /// With these arguments.
    pub const fn arguments(mut self, arguments: &'static str) -> Command {
        self.arguments = arguments;
        self
    }

    /// With this answer.
    pub const fn answer(mut self, answer: Answer) -> Command {
        self.answer = answer;
        self
    }

    /// With an example.
    pub const fn example(mut self, example: &'static str) -> Command {
        self.example = example;
        self
    }

    /// The stock module does not have it; since which version of ours.
    pub const fn ours(mut self, since: &'static str) -> Command {
        self.origin = Origin::Ours(since);
        self
    }

    /// With its text; the table sets it.
    pub const fn described(mut self, text: &'static str) -> Command {
        self.text = text;
        self
    }

    /// The text that the host's `help` shows.
    pub fn help(&self) -> String {
        let text = self.text.trim().replace('`', "");
        match self.arguments {
            "" => text,
            arguments => format!("{text} Parameters: {arguments}."),
        }
    }
}
