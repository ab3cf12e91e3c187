//! The reference pages, written from the tables.
use super::command::{Answer, Command, Output};
use super::function::{Function, Named};
use super::parameter::{Allowed, Beyond, On, Origin, Parameter};
use super::setting::ParameterValue;
use std::fmt::Write;

/// The versions of Kamailio that are supported.
const HOSTS: &str = "5.6 and later";

/// A page: the text around the tables, in which each `{{name}}` stands for a part, with the parts put in.
///
/// # Panics
///
/// Panics when the template has no place for a part.
pub fn page(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = template.to_string();
    for (name, part) in parts {
        let place = format!("{{{{{name}}}}}\n");
        assert!(page.contains(&place), "the template has no {place}");
        page = page.replace(&place, part);
    }
    let contents = contents(&page);
    page.replace("{{contents}}\n", &contents)
}

/// A list of the headings of a page: each chapter with its entries.
fn contents(page: &str) -> String {
    let mut list = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ").filter(|title| *title != "Contents") {
            list += if list.is_empty() { "" } else { "\n" };
            let _ = write!(list, "- [{title}](#{})", anchor(title));
        } else if let Some(title) = line.strip_prefix("### ") {
            let name = title.trim_matches('`').split(['(', '[']).next().unwrap_or(title);
            let name = if title.starts_with("`event_route") { title.trim_matches('`') } else { name };
            let _ = write!(list, "\n  - [{name}](#{})", anchor(title));
        }
    }
    list + "\n"
}

/// The anchor of a heading, as GitHub and Python-Markdown make it.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ')).collect();
    kept.trim().replace(' ', "-")
}

/// The chapters of parameters, one for each section of the table.
pub fn parameters(module: &str, table: &[Parameter]) -> String {
    let (mut page, mut section) = (String::new(), "");
    for entry in table {
        if entry.section != section {
            section = entry.section;
            let _ = write!(page, "## {section}\n\n");
        }
        page += &parameter(module, entry);
    }
    page
}

fn parameter(module: &str, entry: &Parameter) -> String {
    let name = entry.name_text();
    let mut page = format!("### `{name}`\n\n{}\n", paragraph(entry.text));
    let unit = if entry.unit.is_empty() { String::new() } else { format!(" ({})", entry.unit) };
    let mut given = vec![("Type", format!("{}{unit}", kind(entry))), ("Default", default(entry))];
    if !matches!(entry.range, Allowed::Any) {
        given.push(("Range", entry.allowed() + &beyond(entry)));
    }
    given.extend(origin(entry.origin, entry.difference));
    page += &facts(&given);
    if !entry.example.is_empty() {
        let quote = if matches!(entry.default, ParameterValue::Text(_)) { "\"" } else { "" };
        let _ = write!(page, "```\nmodparam(\"{module}\", \"{name}\", {quote}{}{quote})\n```\n\n", entry.example);
    }
    page
}

fn kind(entry: &Parameter) -> &'static str {
    match entry.default {
        ParameterValue::Number(_) => "integer",
        ParameterValue::Text(_) => "string",
    }
}

fn default(entry: &Parameter) -> String {
    match entry.default {
        ParameterValue::Number(0) if !entry.zero.is_empty() => format!("0 ({})", entry.zero),
        ParameterValue::Text(b"") => entry.empty.into(),
        value => value.to_string(),
    }
}

/// What becomes of other values, where the page has to say so.
fn beyond(entry: &Parameter) -> String {
    if matches!(entry.origin, Origin::Ours(_)) {
        return String::new();
    }
    let becomes = match (entry.beyond, entry.range) {
        (Beyond::Replaced(other), Allowed::Between(_, most)) => {
            format!("values below count as {other}, above as {most}")
        }
        (_, Allowed::Between(_, most) | Allowed::ZeroOrBetween(_, most)) => {
            format!("values above count as {most}")
        }
        (Beyond::Replaced(number), Allowed::AtLeast(_)) => format!("values below count as {number}"),
        (Beyond::Replaced(number), _) => format!("other values count as {number}"),
        (_, Allowed::Switch(On::NotZero)) => "other values count as 1".into(),
        (_, Allowed::Switch(On::Positive)) => "values above 1 count as 1, values below 0 as 0".into(),
        (_, Allowed::Switch(On::One)) => "other values count as 0".into(),
        (Beyond::Taken, Allowed::Letters(..)) => "others are used as they are".into(),
        (_, Allowed::Letters(..)) => "others count as the default".into(),
        _ => return String::new(),
    };
    format!("; {becomes}, with a warning")
}

/// Since when, with which hosts, and what the stock module has.
fn origin(origin: Origin, difference: &str) -> Vec<(&'static str, String)> {
    let (since, stock) = match origin {
        Origin::Stock if difference.is_empty() => ("1.0.0", "the same".to_string()),
        Origin::Stock => ("1.0.0", difference.to_string()),
        Origin::StockSince(version) => ("1.0.0", format!("the same, from Kamailio {version} on")),
        Origin::Ours(since) => (since, "does not have it".to_string()),
        Origin::OpenSer => ("1.0.0", "does not have it; OpenSER's had it".to_string()),
    };
    vec![("Since", format!("{since}, with Kamailio {HOSTS}")), ("Stock module", stock)]
}

/// A list of facts, each under its name.
fn facts(facts: &[(&str, String)]) -> String {
    let lines: String = facts.iter().map(|(name, fact)| item(name, fact)).collect();
    lines + "\n"
}

/// An item of a list, its further lines below its text.
fn item(name: &str, fact: &str) -> String {
    let lines = wrapped(&format!("- **{name}:** {fact}"));
    lines.trim_end().replace('\n', "\n  ") + "\n"
}

/// A doc comment as one paragraph: each of its lines begins with a space.
fn paragraph(text: &str) -> String {
    wrapped(text.trim())
}

/// Lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let (mut page, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let needed = word.chars().count();
        if length > 0 && length + 1 + needed > 120 {
            page += "\n";
            length = 0;
        } else if length > 0 {
            page += " ";
            length += 1;
        }
        page += word;
        length += needed;
    }
    page + "\n"
}

/// The entries of commands.
pub fn commands<'a>(table: impl Iterator<Item = &'a Command>) -> String {
    table.map(command).collect()
}

fn command(entry: &Command) -> String {
    let name = entry.name.to_string_lossy();
    let mut page = format!("### `{name}`\n\n{}\n", paragraph(entry.text));
    let arguments = if entry.arguments.is_empty() { "none".into() } else { format!("`{}`", entry.arguments) };
    let answer = match entry.answer {
        Answer::Nothing => "nothing".into(),
        Answer::Text(text) => format!("a text: {text}"),
        Answer::One(_) => "one structure".into(),
        Answer::Many(_) => "a list of structures".into(),
        Answer::Settings => {
            "one structure with a field for each parameter; of secrets it says only whether they are set, and \
             parameters without effect are marked"
                .to_string()
        }
    };
    let mut given = vec![("Parameters", arguments), ("Answer", answer)];
    given.extend(origin(entry.origin, ""));
    page += &facts(&given);
    if let Answer::One(fields) | Answer::Many(fields) = entry.answer {
        page += &outputs("Field", fields);
    }
    if !entry.example.is_empty() {
        let _ = write!(page, "```\n{}\n```\n\n", entry.example);
    }
    page
}

fn outputs(title: &str, fields: &[Output]) -> String {
    let row = |(name, text): &Output| format!("| `{name}` | {text} |\n");
    let rows = fields.iter().map(row).collect::<Vec<_>>().concat();
    format!("| {title} | Meaning |\n|---|---|\n{rows}\n")
}

/// The entries of functions.
pub fn functions(table: &[Function]) -> String {
    table.iter().map(function).collect()
}

fn function(entry: &Function) -> String {
    let mut page = format!("### `{}`\n\n{}\n", entry.synopsis, paragraph(entry.text));
    let difference = if entry.difference.is_empty() { "the same" } else { entry.difference };
    let kemi: Vec<String> = entry.kemi.iter().map(|name| format!("`KSR.{name}`")).collect();
    page += &facts(&[
        ("Returns", entry.returns.into()),
        ("Routes", format!("`{}`", entry.routes)),
        ("KEMI", if kemi.is_empty() { "no".into() } else { kemi.join(", ") }),
        ("Since", format!("1.0.0, with Kamailio {HOSTS}")),
        ("Stock module", difference.into()),
    ]);
    let _ = write!(page, "```\n{}\n```\n\n", entry.example);
    page
}

/// The entries of variables and event routes.
pub fn named(table: &[Named]) -> String {
    table.iter().map(named_entry).collect()
}

fn named_entry(entry: &Named) -> String {
    let mut page = format!("### `{}`\n\n{}\n", entry.synopsis, paragraph(entry.text));
    let stock = if entry.stock { "the same" } else { "does not have it" };
    page += &facts(&[("Since", format!("1.0.0, with Kamailio {HOSTS}")), ("Stock module", stock.into())]);
    if !entry.attributes.is_empty() {
        page += &outputs("Name", entry.attributes);
    }
    let _ = write!(page, "```\n{}\n```\n\n", entry.example);
    page
}

/// A table of statistics.
pub fn statistics<'a>(all: impl Iterator<Item = (String, &'a str)>) -> String {
    let rows = all.map(|(name, text)| format!("| `{name}` | {text} |\n")).collect::<Vec<_>>().concat();
    format!("| Statistic | Meaning |\n|---|---|\n{rows}\n")
}
