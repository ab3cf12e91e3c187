//! What operators narrow a list to: `name=value` arguments.
use crate::host::log;
use crate::presence::event_package::PackageId;
use crate::presence::subscription::Status;
use crate::server::operator::names::Name;
use crate::server::shared::Parts;
use crate::sip::text;
use crate::time::Seconds;
use std::collections::BTreeSet;

/// How many entries a list has when no limit is given, and at most.
pub(crate) const PAGE: usize = 100;
pub(crate) const LARGEST_PAGE: usize = 1000;

/// The event packages that are meant: one, or all.
///
/// # Errors
///
/// Fails with a sentence that names the known event packages when this one is unknown.
pub(crate) fn packages(parts: &Parts, event: Option<&[u8]>) -> Result<Vec<PackageId>, String> {
    let all = parts.packages();
    match event {
        None | Some(b".") => Ok((0..all.0.len()).map(|index| PackageId(index as u16)).collect()),
        Some(event) => all.named(event).map(|id| vec![id]).ok_or_else(|| {
            let known = String::from_utf8_lossy(&all.allow_events()).into_owned();
            format!("no event package {}: there are {known}", log::show(event))
        }),
    }
}

/// The event package that a list is narrowed to; `None` for `.`, which is all.
fn one_package(parts: &Parts, event: &[u8]) -> Result<Option<PackageId>, String> {
    if event == b"." { Ok(None) } else { packages(parts, Some(event)).map(|found| found.first().copied()) }
}

/// The order in which a page is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOrder {
    /// The smallest first.
    Rising,
    /// The largest first.
    Falling,
}

/// What a list is sorted by.
pub(crate) struct Sorting {
    /// The name of a field.
    pub(crate) by: Vec<u8>,
    /// The largest first.
    pub(crate) order: PageOrder,
}

/// What a list shows: its entries, or how many there are.
pub(crate) enum Listed<T> {
    /// How many there are.
    Count(usize),
    /// One page of them.
    Page(Vec<T>),
}

/// What a list is narrowed to.
pub(crate) struct Filter {
    watcher: Option<Name>,
    presentity: Option<Name>,
    event: Option<PackageId>,
    pub(crate) status: Option<Status>,
    /// At least this old.
    pub(crate) older: Seconds,
    /// At most this old.
    pub(crate) younger: Seconds,
    /// One kind of step in the history.
    pub(crate) what: Option<Vec<u8>>,
    pub(crate) sort: Option<Sorting>,
    /// The number of entries is wanted, not the entries.
    pub(crate) count: bool,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

/// The arguments that one list takes.
pub(crate) struct FilterKeys {
    /// The names of the arguments.
    pub(crate) names: &'static [&'static str],
    /// The fields that `sort=` takes.
    pub(crate) sort: &'static [&'static str],
    /// The steps that `what=` takes.
    pub(crate) what: &'static [&'static str],
    /// How many entries there are when no limit is given.
    pub(crate) page: usize,
}

impl Filter {
    /// Reads `name=value` arguments.
    ///
    /// # Errors
    ///
    /// Fails with a sentence about the first argument that is unknown or has a value that it cannot have.
    pub(crate) fn read(
        arguments: impl Iterator<Item = Vec<u8>>,
        parts: &Parts,
        allowed: &FilterKeys,
    ) -> Result<Filter, String> {
        let mut filter = Filter {
            watcher: None,
            presentity: None,
            event: None,
            status: None,
            older: Seconds::ZERO,
            younger: Seconds(i64::MAX),
            what: None,
            sort: None,
            count: false,
            offset: 0,
            limit: allowed.page,
        };
        let mut seen = BTreeSet::new();
        for argument in arguments {
            let at = argument.iter().position(|c| *c == b'=');
            let (name, value) = match at {
                Some(at) => (&argument[..at], &argument[at + 1..]),
                None => return Err(format!("{} is no name=value", log::show(&argument))),
            };
            if !allowed.names.iter().any(|known| known.as_bytes() == name) {
                let names: Vec<String> = allowed.names.iter().map(|name| format!("{name}=")).collect();
                return Err(format!("{}: allowed is {}", log::show(&argument), names.join(", ")));
            }
            if !seen.insert(name.to_vec()) {
                return Err(format!("{}: {}= is given twice", log::show(&argument), log::show(name)));
            }
            filter.set(parts, name, value, allowed).map_err(|why| match why.is_empty() {
                true => format!("{}: not allowed", log::show(&argument)),
                false => format!("{}: {why}", log::show(&argument)),
            })?;
        }
        Ok(filter)
    }

    fn set(&mut self, parts: &Parts, name: &[u8], value: &[u8], allowed: &FilterKeys) -> Result<(), String> {
        let number = |what: &str| {
            text::parsed::<u32>(value)
                .map(|number| number as usize)
                .ok_or_else(|| format!("allowed is a number{what} below 4294967296"))
        };
        match name {
            b"watcher" => self.watcher = Some(Name::read(value)?),
            b"presentity" => self.presentity = Some(Name::read(value)?),
            b"event" => self.event = one_package(parts, value)?,
            b"status" => {
                let known = [Status::Active, Status::Pending, Status::Terminated, Status::Waiting];
                let found = known.into_iter().find(|status| status.word() == value);
                self.status = Some(found.ok_or("allowed is active, pending, terminated or waiting")?);
            }
            b"older" => self.older = Seconds(number(" of seconds")? as i64),
            b"younger" => self.younger = Seconds(number(" of seconds")? as i64),
            b"offset" => self.offset = number("")?,
            b"limit" => {
                let limit = text::parsed::<usize>(value).filter(|n| (1..=LARGEST_PAGE).contains(n));
                self.limit = limit.ok_or("allowed is 1 to 1000")?;
            }
            b"count" => {
                self.count = match value {
                    b"0" => false,
                    b"1" => true,
                    _ => return Err("allowed is 0 or 1".into()),
                }
            }
            b"what" => self.what = Some(one_of(value, allowed.what)?),
            b"sort" => {
                let (order, by) = match value.strip_prefix(b"-") {
                    Some(by) => (PageOrder::Falling, by),
                    None => (PageOrder::Rising, value),
                };
                self.sort = Some(Sorting { by: one_of(by, allowed.sort)?, order });
            }
            _ => return Err(String::new()),
        }
        Ok(())
    }

    /// Whether a resource is meant.
    pub(crate) fn wants_resource(&self, presentity: &[u8], event: PackageId) -> bool {
        self.presentity.as_ref().is_none_or(|name| name.fits(presentity))
            && self.event.is_none_or(|wanted| wanted == event)
    }

    /// Whether a watcher is meant.
    pub(crate) fn wants_watcher(&self, watcher: &[u8]) -> bool {
        self.watcher.as_ref().is_none_or(|name| name.fits(watcher))
    }

    /// Whether the list is narrowed to a watcher.
    pub(crate) fn names_watcher(&self) -> bool {
        self.watcher.is_some()
    }
}

fn one_of(value: &[u8], known: &[&str]) -> Result<Vec<u8>, String> {
    match known.iter().any(|known| known.as_bytes() == value) {
        true => Ok(value.to_vec()),
        false => Err(format!("allowed is {}", known.join(", "))),
    }
}
