//! Numbers as the sources write them, and as the documents do. Times are compared in microseconds, sizes in bytes.

/// The factor that makes a unit of time microseconds, and a unit of size bytes; 1 for what is counted.
fn factor(unit: &str) -> u64 {
    match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" | "second" | "seconds" => 1_000_000,
        "min" | "minute" | "minutes" => 60_000_000,
        "hour" | "hours" => 3_600_000_000,
        "KB" => 1 << 10,
        "MB" | "MiB" => 1 << 20,
        _ => 1,
    }
}

/// What a number in a row of the documents means: digits, with a unit behind it, or a word.
pub(crate) fn documented(text: &str) -> Result<u64, String> {
    let words = [
        ("a sixteenth", 16),
        ("an eighth", 8),
        ("four", 4),
        ("sixteen", 16),
        ("sixteenth", 16),
        ("an hour", factor("hour")),
        ("one a minute", factor("minute")),
        ("one log line a minute", factor("minute")),
    ];
    if let Some((_, number)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*number);
    }
    if text == "2038-01-19" {
        return Ok(i32::MAX as u64 * factor("s"));
    }
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: f64 = number.replace(',', "").parse().map_err(|_| format!("{text} is no number"))?;
    Ok((number * factor(unit) as f64).round() as u64)
}

/// Whether a row has this number: not as a part of another one.
pub(crate) fn says(row: &str, number: &str) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // A digit beyond the number, or one behind a comma.
    let goes_on = |mut beyond: Box<dyn Iterator<Item = char> + '_>| match beyond.next() {
        Some(',') => is_digit(beyond.next()),
        next => is_digit(next),
    };
    row.match_indices(number).any(|(at, _)| {
        let (before, after) = (&row[..at], &row[at + number.len()..]);
        !goes_on(Box::new(before.chars().rev())) && !goes_on(Box::new(after.chars()))
    })
}

/// The value of a constant: `unit` is that of a plain number.
pub(crate) fn constant(text: &str, name: &str, unit: &str) -> Result<u64, String> {
    let (kind, value) = plain(text, name)?;
    let unit = match kind {
        "Seconds" => "s",
        "Millis" => "ms",
        "Micros" => "us",
        _ => unit,
    };
    Ok(value * factor(unit))
}

/// The type of a constant, and its number without a unit.
fn plain<'t>(text: &'t str, name: &str) -> Result<(&'t str, u64), String> {
    let declared = format!("const {name}: ");
    let rest = text.split_once(&declared).ok_or(format!("there is no {name}"))?.1;
    let (kind, value) = rest.split_once(" = ").ok_or("no value")?;
    let value = value.split_once(';').ok_or("no end")?.0;
    let mut terms = Terms { text, rest: value };
    let value = terms.shift()?;
    if terms.rest.trim().is_empty() { Ok((kind, value)) } else { Err(format!("{} is not read", terms.rest)) }
}

/// The value of an expression of numbers, other constants of its file, and `+`, `*`, `/`, `<<`.
struct Terms<'t> {
    text: &'t str,
    rest: &'t str,
}

impl Terms<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start();
        let is_there = rest.starts_with(sign);
        self.rest = if is_there { &rest[sign.len()..] } else { rest };
        is_there
    }

    fn shift(&mut self) -> Result<u64, String> {
        let mut value = self.sum()?;
        while self.takes("<<") {
            value <<= self.sum()?;
        }
        Ok(value)
    }

    fn sum(&mut self) -> Result<u64, String> {
        let mut value = self.product()?;
        loop {
            if self.takes("+") {
                value += self.product()?;
            } else if self.takes("- ") {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<u64, String> {
        let mut value = self.number()?;
        loop {
            if self.takes("*") {
                value *= self.number()?;
            } else if self.takes("/") {
                value /= self.number()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn number(&mut self) -> Result<u64, String> {
        for opening in ["Seconds(", "Millis(", "Micros(", "Moment::at(", "("] {
            if self.takes(opening) {
                let value = self.shift()?;
                return if self.takes(")") { Ok(value) } else { Err(format!("{} is not read", self.rest)) };
            }
        }
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = match word {
            "i32::MAX" => i32::MAX as u64,
            "u16::MAX" => u16::MAX.into(),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                word.replace('_', "").parse().map_err(|_| format!("{word} is no number"))?
            }
            _ => plain(self.text, word)?.1,
        };
        for tail in [".0", " as i64", " as u64", " as usize", " as u32"] {
            if let Some(rest) = self.rest.strip_prefix(tail) {
                self.rest = rest;
            }
        }
        Ok(value)
    }
}

#[test]
fn numbers_are_read_as_they_are_written() {
    let source = "const A: usize = 12 << 20;\npub const B: Seconds = Seconds(24 * 3600);\nconst C: Millis = \
                  Millis(3 * D.0);\nconst D: Millis = Millis(6_000);\nconst E: Moment = Moment::at(i32::MAX as i64);";
    assert_eq!(constant(source, "A", ""), documented("12 MB"));
    assert_eq!(constant(source, "B", ""), documented("24 hours"));
    assert_eq!(documented("4.5 s"), Ok(4_500_000));
    assert_eq!(constant(source, "C", ""), documented("18 s"));
    assert_eq!(constant(source, "E", "s"), documented("2038-01-19"));
    assert!(constant(source, "F", "").is_err() && documented("many").is_err());
    assert!(says("at most 1,024 of", "1,024") && !says("at most 1,024 of", "1") && !says("at most 1,024 of", "024"));
}
