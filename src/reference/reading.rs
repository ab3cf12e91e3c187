//! Reading a configuration by a table: what is wrong with a value, and what is used in its place.
use super::parameter::{ConfigDisplay, Parameter};
use super::setting::{ParameterValue, Setting, SettingField};

/// A parameter has a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter {name} is {value}: allowed is {allowed}")]
pub struct BadParameter {
    /// The parameter.
    pub name: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl BadParameter {
    /// A value that its parameter cannot have beside the others.
    pub fn new(name: &'static str, value: impl ToString, allowed: impl Into<String>) -> BadParameter {
        let value = Some(value.to_string()).filter(|value| !value.is_empty()).unwrap_or_else(|| "empty".into());
        BadParameter { name, value, allowed: allowed.into().replace('`', "") }
    }
}

/// How much of a bad value a message shows, in characters.
const SHOWN: usize = 80;

/// A bad value for a message: no secret, and no more of it than shows what it is.
fn quoted(entry: &Parameter, given: ParameterValue) -> String {
    if entry.shown != ConfigDisplay::Itself {
        return "a text that is not shown here".into();
    }
    let text = given.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

/// The values of a table, in its order, as they are read one after the other.
pub struct Reading<'a> {
    table: &'static [Parameter],
    given: &'a dyn Fn(usize) -> ParameterValue,
    at: usize,
    warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    /// Of the values that the configuration gives: `given` answers by the place in the table.
    pub fn new(table: &'static [Parameter], given: &'a dyn Fn(usize) -> ParameterValue) -> Reading<'a> {
        Reading { table, given, at: 0, warnings: Vec::new() }
    }

    /// The next setting.
    ///
    /// # Errors
    ///
    /// Fails when the value is not in its parameter's range, and the parameter has no other in its place.
    pub fn next_setting<T: SettingField>(&mut self) -> Result<T, BadParameter> {
        let (entry, given) = (&self.table[self.at], (self.given)(self.at));
        self.at += 1;
        let flaw = entry.flaw(given).or_else(|| (!entry.allows(given)).then(|| entry.allowed()));
        let Some(allowed) = flaw else { return Ok(T::from_value(given)) };
        let (name, bad) = (entry.name_text(), quoted(entry, given));
        let Some(used) = entry.in_place_of(given) else { return Err(BadParameter::new(name, bad, allowed)) };
        let instead = if used == given { "it".into() } else { quoted(entry, used) };
        let allowed = allowed.replace('`', "");
        self.warnings.push(format!("parameter {name} is {bad}, which is not {allowed}: {instead} is used"));
        Ok(T::from_value(used))
    }

    /// What was given for the rest of the table: parameters without effect.
    pub fn without_effect(&self) -> Vec<Setting> {
        (self.at..self.table.len()).map(|at| (self.table[at].name, (self.given)(at))).collect()
    }

    /// What was corrected: one sentence each.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}
