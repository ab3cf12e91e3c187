//! One entry of a table of parameters: name, type, default, range, and what the reference page says.
use super::setting::ParameterValue;
use std::ffi::CStr;
use std::fmt;

/// A module parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The parameter's name in `modparam`.
    pub name: &'static CStr,
    /// The value without `modparam`; its kind is the type of the parameter.
    pub default: ParameterValue,
    /// What a number counts: `seconds`, `bytes`; empty: nothing in particular.
    pub unit: &'static str,
    /// The values that are allowed.
    pub range: Allowed,
    /// What becomes of other values.
    pub beyond: Beyond,
    /// How many bytes a text has at most.
    pub longest: usize,
    /// What 0 means, where it is no amount.
    pub zero: &'static str,
    /// What an empty text means.
    pub empty: &'static str,
    /// A condition on other parameters, for the page and for messages.
    pub condition: &'static str,
    /// A value for the example, as it is written in a configuration.
    pub example: &'static str,
    /// Where the parameter comes from.
    pub origin: Origin,
    /// How it differs from the stock module's, where it does.
    pub difference: &'static str,
    /// What `config` commands show: another name, or nothing.
    pub shown: ConfigDisplay,
    /// The section of the page.
    pub section: &'static str,
    /// What it does: a paragraph of Markdown.
    pub text: &'static str,
}

/// The values that a parameter allows.
#[derive(Debug, Clone, Copy)]
pub enum Allowed {
    /// Anything of its type.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers between two, both included.
    Between(i64, i64),
    /// 0, or numbers between two, both included.
    ZeroOrBetween(i64, i64),
    /// One of some numbers, each with its meaning.
    OneOf(&'static [(i64, &'static str)]),
    /// 0 and 1, for off and on.
    Switch(On),
    /// A text that is not empty, of letters, digits and these characters; and how the page puts it.
    Letters(&'static [u8], &'static str),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// A text that is this word, or a number between two, both included.
    WordOrBetween(&'static str, i64, i64),
    /// A text that the reader of the parameter checks; how the page puts it.
    Text(&'static str),
}

/// Which numbers turn a switch on. Stock reads its switches in these three ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// All but 0.
    NotZero,
    /// All above 0.
    Positive,
    /// 1 alone.
    One,
}

/// What becomes of a value that is not in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// The server does not start. Of a parameter that stock has, a number above a range counts as the largest, and a
    /// text that is no name counts without its control characters, or as the default, with a warning.
    Refused,
    /// A number that is used where the value is below the range, and the largest where it is above, with a warning.
    Replaced(i64),
    /// The value is used as it is, with a warning: the database decides about it.
    Taken,
}

/// Where a parameter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The stock module of every supported Kamailio has it.
    Stock,
    /// The stock module has it from this version of Kamailio on; ours has it with every one.
    StockSince(&'static str),
    /// The stock module does not have it. It came with this version of ours.
    Ours(&'static str),
    /// OpenSER's module had it.
    OpenSer,
}

/// How a `config` command shows a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigDisplay {
    /// Under its own name.
    Itself,
    /// Under another name: whether there is a value, but not which.
    Whether(&'static CStr),
    /// Under its own name: that there is a value, but not which.
    Secret,
}

/// How many bytes a text has at most where the table says nothing else: what the widest columns hold.
pub const LONGEST_TEXT: usize = 255;

/// The same of a database's URL.
pub const LONGEST_URL: usize = 1023;

/// The same of a list.
pub const LONGEST_LIST: usize = 4095;

const fn entry(name: &'static CStr, default: ParameterValue) -> Parameter {
    Parameter {
        name,
        default,
        unit: "",
        range: Allowed::Any,
        beyond: Beyond::Refused,
        longest: LONGEST_TEXT,
        zero: "",
        empty: "none",
        condition: "",
        example: "",
        origin: Origin::Stock,
        difference: "",
        shown: ConfigDisplay::Itself,
        section: "",
        text: "",
    }
}

/// A number, and its default.
pub const fn integer(name: &'static CStr, default: i64) -> Parameter {
    entry(name, ParameterValue::Number(default))
}

/// What a parameter that is 0 or 1 is by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// 0.
    Off = 0,
    /// 1.
    On = 1,
}

/// 0 or 1, and its default.
pub const fn switch(name: &'static CStr, default: Switch) -> Parameter {
    entry(name, ParameterValue::Number(default as i64)).range(Allowed::Switch(On::NotZero))
}

/// A text, and its default.
pub const fn text(name: &'static CStr, default: &'static str) -> Parameter {
    entry(name, ParameterValue::Text(default.as_bytes()))
}

/// Changes of an entry, for the tables.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => { impl Parameter { $(
        $(#[$doc])*
        pub const fn $name(mut self, $name: $type) -> Parameter {
            self.$name = $name;
            self
        }
    )* } };
}
setters! {
    /// What the number counts.
    unit: &'static str,
    /// The values that are allowed.
    range: Allowed,
    /// How many bytes a text has at most.
    longest: usize,
    /// What 0 means.
    zero: &'static str,
    /// What an empty text means.
    empty: &'static str,
    /// A condition on other parameters.
    condition: &'static str,
    /// A value for the example.
    example: &'static str,
    /// How it differs from stock's.
    difference: &'static str,
    /// What `config` commands show.
    shown: ConfigDisplay,
    /// Where it comes from.
    origin: Origin,
}

impl Parameter {
    /// A value below the range counts as this one, with a warning, and one above it as the largest.
    pub const fn replaced_by(mut self, number: i64) -> Parameter {
        self.beyond = Beyond::Replaced(number);
        self
    }

    /// The stock module does not have it; since which version of ours.
    pub const fn ours(mut self, since: &'static str) -> Parameter {
        self.origin = Origin::Ours(since);
        self
    }

    /// Another value is used as it is, with a warning: it goes to the database, which decides about it.
    pub const fn taken(mut self) -> Parameter {
        self.beyond = Beyond::Taken;
        self
    }

    /// With its place on the page; the table sets both.
    pub const fn placed(mut self, section: &'static str, text: &'static str) -> Parameter {
        self.section = section;
        self.text = text;
        self
    }

    /// The name as text.
    ///
    /// # Panics
    ///
    /// Panics when the name is not UTF-8; names of parameters are ASCII.
    pub const fn name_text(&self) -> &'static str {
        match self.name.to_str() {
            Ok(name) => name,
            Err(_) => panic!("names of parameters are ASCII"),
        }
    }

    /// What is allowed, for a sentence: `0 (off) to 99 percent`.
    pub fn allowed(&self) -> String {
        let mut sentence = self.bare_range();
        if !self.unit.is_empty() {
            sentence += " ";
            sentence += self.unit;
        }
        if !self.condition.is_empty() {
            sentence += "; ";
            sentence += self.condition;
        }
        sentence
    }

    fn bare_range(&self) -> String {
        let zero = |least: i64| match (self.zero, least) {
            ("", 0) => "0 or more".to_string(),
            (zero, 0) => format!("0 ({zero}) or more"),
            (_, least) => format!("{least} or more"),
        };
        match self.range {
            Allowed::Any => "any".into(),
            Allowed::AtLeast(least) => zero(least),
            Allowed::Between(0, most) if !self.zero.is_empty() => format!("0 ({}) to {most}", self.zero),
            Allowed::Between(least, most) => format!("{least} to {most}"),
            Allowed::ZeroOrBetween(least, most) if self.zero.is_empty() => format!("0, or {least} to {most}"),
            Allowed::ZeroOrBetween(least, most) => format!("0 ({}), or {least} to {most}", self.zero),
            Allowed::OneOf(values) => one_of(values),
            Allowed::Switch(_) => "0 or 1".into(),
            Allowed::Words(words) => words.join(", "),
            Allowed::WordOrBetween(word, least, most) => format!("{word}, or {least} to {most}"),
            Allowed::Letters(_, words) | Allowed::Text(words) => words.into(),
        }
    }

    /// What is wrong with a text whatever it means, for a sentence that says what is allowed.
    pub fn flaw(&self, value: ParameterValue) -> Option<String> {
        let ParameterValue::Text(text) = value else { return None };
        if text.iter().any(u8::is_ascii_control) {
            return Some("a text without control characters".into());
        }
        (text.len() > self.longest).then(|| format!("a text of at most {} bytes", self.longest))
    }

    /// The value that is used in place of one that is not in the range, where the server starts all the same. It does
    /// where stock's starts with such a value in files that work. What decides where state lives or how long (modes,
    /// tables, `min_expires`, `dmq_peer_id`) is refused, and parameters that stock does not have allow their range
    /// alone.
    pub fn in_place_of(&self, value: ParameterValue) -> Option<ParameterValue> {
        match value {
            _ if matches!(self.origin, Origin::Ours(_)) => None,
            ParameterValue::Number(number) => self.number_in_place_of(number).map(ParameterValue::Number),
            ParameterValue::Text(_) if self.beyond == Beyond::Taken => Some(value),
            // The name of a table: another one would be used than is meant.
            ParameterValue::Text(_) if matches!(self.range, Allowed::Letters(..)) => None,
            ParameterValue::Text(text) => {
                let printable = ParameterValue::Text(without_controls(text));
                Some(if self.allows(printable) { printable } else { self.default })
            }
        }
    }

    fn number_in_place_of(&self, number: i64) -> Option<i64> {
        match (self.beyond, self.range) {
            (_, Allowed::Between(_, most) | Allowed::ZeroOrBetween(_, most)) if number > most => Some(most),
            (Beyond::Replaced(other), _) => Some(other),
            (_, Allowed::Switch(on)) => Some(i64::from(on.is_met_by(number))),
            _ => None,
        }
    }

    /// Whether a value is in the range.
    pub fn allows(&self, value: ParameterValue) -> bool {
        match (self.range, value) {
            (Allowed::Switch(_), ParameterValue::Number(number)) => matches!(number, 0 | 1),
            (Allowed::AtLeast(least), ParameterValue::Number(number)) => number >= least,
            (Allowed::Between(least, most), ParameterValue::Number(number)) => (least..=most).contains(&number),
            (Allowed::ZeroOrBetween(least, most), ParameterValue::Number(number)) => {
                number == 0 || (least..=most).contains(&number)
            }
            (Allowed::OneOf(values), ParameterValue::Number(number)) => {
                values.iter().any(|(known, _)| *known == number)
            }
            (Allowed::Words(words), ParameterValue::Text(text)) => words.iter().any(|word| word.as_bytes() == text),
            (Allowed::WordOrBetween(word, least, most), ParameterValue::Text(text)) => {
                let number = || std::str::from_utf8(text).ok()?.parse().ok();
                let has_sign = text.starts_with(b"+");
                text == word.as_bytes() || !has_sign && number().is_some_and(|n| (least..=most).contains(&n))
            }
            (Allowed::Letters(others, _), ParameterValue::Text(text)) => {
                !text.is_empty() && text.iter().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
            }
            _ => true,
        }
    }
}

impl On {
    fn is_met_by(self, number: i64) -> bool {
        match self {
            On::NotZero => number != 0,
            On::Positive => number > 0,
            On::One => number == 1,
        }
    }
}

/// A text without its control characters.
fn without_controls(text: &'static [u8]) -> &'static [u8] {
    if !text.iter().any(u8::is_ascii_control) {
        return text;
    }
    text.iter().copied().filter(|byte| !byte.is_ascii_control()).collect::<Vec<u8>>().leak()
}

/// `0 (memory), 1 (table) or 2 (both)`.
fn one_of(values: &[(i64, &str)]) -> String {
    let words: Vec<String> = values.iter().map(|(number, meaning)| format!("{number} ({meaning})")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParameterValue::Number(number) => write!(f, "{number}"),
            ParameterValue::Text(text) => write!(f, "{}", String::from_utf8_lossy(text)),
        }
    }
}
