//! What the load generator can do: one JSON object a line.
use crate::message::Package;
use serde_json::Value;
use std::ops::Range;
use std::time::Duration;

/// What kind of requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SUBSCRIBE outside of a dialog.
    Subscribe,
    /// SUBSCRIBE within its dialog.
    Refresh,
    /// SUBSCRIBE with Expires 0.
    Unsubscribe,
    /// PUBLISH of a new document.
    Publish,
    /// PUBLISH of another document in the place of the last.
    Modify,
    /// PUBLISH with Expires 0.
    Remove,
}

impl Kind {
    const ALL: [(Kind, &'static str); 6] = [
        (Kind::Subscribe, "subscribe"),
        (Kind::Refresh, "refresh"),
        (Kind::Unsubscribe, "unsubscribe"),
        (Kind::Publish, "publish"),
        (Kind::Modify, "modify"),
        (Kind::Remove, "remove"),
    ];

    fn named(name: &str) -> Option<Kind> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// The operation's name in a command.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether it is a SUBSCRIBE, which a NOTIFY follows.
    pub fn is_subscribe(self) -> bool {
        matches!(self, Kind::Subscribe | Kind::Refresh | Kind::Unsubscribe)
    }
}

/// A piece of work: `count` requests of a kind, from number `from` on.
pub struct Work {
    /// What is sent.
    pub kind: Kind,
    /// The first watcher, or the first presentity.
    pub from: usize,
    /// How many requests.
    pub count: usize,
    /// Watcher n watches presentity n modulo this.
    pub presentities: usize,
    /// Seconds asked for.
    pub expires: u32,
    /// How many requests wait for their answers at most.
    pub window: usize,
    /// Requests a second; 0 is as fast as the window allows.
    pub rate: f64,
    /// Whether the next PUBLISH waits until every watcher knows the last document.
    pub lockstep: bool,
    /// How long to wait in the end until every watcher knows the newest document.
    pub timeout: Duration,
    /// The event package.
    pub package: Package,
}

impl Work {
    /// Reads a command; the error says what is wrong with it.
    pub fn read(command: &Value) -> Result<Work, String> {
        let number = |name: &str, default: u64| match command.get(name) {
            None => Ok(default),
            Some(value) => value.as_u64().ok_or(format!("{name}: a whole number is wanted, not {value}")),
        };
        let text =
            |name: &str, default: &'static str| command.get(name).and_then(Value::as_str).unwrap_or(default).to_owned();
        let (kind, package) = (text("do", ""), text("package", "presence"));
        Ok(Work {
            kind: Kind::named(&kind).ok_or(format!("do: unknown work \"{kind}\""))?,
            from: number("from", 0)? as usize,
            count: number("count", 1)? as usize,
            presentities: number("presentities", 1)?.max(1) as usize,
            expires: number("expires", 3600)? as u32,
            window: number("window", 16)?.max(1) as usize,
            rate: command.get("rate").and_then(Value::as_f64).unwrap_or(0.0),
            lockstep: command.get("lockstep").and_then(Value::as_bool).unwrap_or(false),
            timeout: Duration::from_secs(number("timeout", 40)?),
            package: Package::named(&package).ok_or(format!("package: unknown package \"{package}\""))?,
        })
    }

    /// A single request for watcher or presentity `index`.
    pub fn one(kind: Kind, index: usize, presentities: usize, package: Package) -> Work {
        Work {
            kind,
            from: index,
            count: 1,
            presentities,
            expires: 3600,
            window: 1,
            rate: 0.0,
            lockstep: false,
            timeout: Duration::ZERO,
            package,
        }
    }

    /// How many watchers there have to be.
    pub fn watchers_needed(&self) -> usize {
        if self.kind.is_subscribe() { self.from + self.count } else { 0 }
    }

    /// The presentities whose documents change.
    pub fn touched(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        if self.count >= self.presentities {
            return Box::new(0..self.presentities);
        }
        let all: Range<usize> = self.from..self.from + self.count;
        Box::new(all.map(|index| index % self.presentities))
    }
}
