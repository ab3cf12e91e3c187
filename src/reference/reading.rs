//! Reading a configuration by a table: what is wrong with a value, and what is used in its place.
use super::parameter::{Beyond, Parameter};
use super::setting::{Field, Value};

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
        BadParameter { name, value: value.to_string(), allowed: allowed.into().replace('`', "") }
    }
}

/// The values of a table, in its order, as they are read one after the other.
pub struct Reading<'a> {
    table: &'static [Parameter],
    given: &'a dyn Fn(usize) -> Value,
    at: usize,
    warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    /// Of the values that the configuration gives: `given` answers by the place in the table.
    pub fn new(table: &'static [Parameter], given: &'a dyn Fn(usize) -> Value) -> Reading<'a> {
        Reading { table, given, at: 0, warnings: Vec::new() }
    }

    /// The next setting.
    ///
    /// # Errors
    /// The value is not in its parameter's range, and the parameter has no other in its place.
    pub fn next_setting<T: Field>(&mut self) -> Result<T, BadParameter> {
        let (entry, given) = (&self.table[self.at], (self.given)(self.at));
        self.at += 1;
        let value = match (entry.allows(given), entry.beyond) {
            (true, _) | (false, Beyond::Taken) => given,
            (false, Beyond::Refused) => return Err(BadParameter::new(entry.name_text(), given, entry.allowed())),
            (false, Beyond::Replaced(number)) => {
                let name = entry.name_text();
                self.warnings
                    .push(format!("parameter {name} is {given}, which is not {}: {number} is used", entry.allowed()));
                Value::Number(number)
            }
        };
        Ok(T::from_value(entry.normal(value)))
    }

    /// What was corrected: one sentence each.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}
