//! Event packages (RFC 6665 5): what presence knows of each; the package's own code stays behind the ports.
pub mod bad_event;

use super::expires::Expires;
use crate::shm_safe::shm_safe;
use crate::sip::event::EventHeader;

/// The place of a package in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageId(pub u16);

shm_safe!(PackageId(value));

/// What the module of a package has registered for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trait {
    /// The package reports on watchers (RFC 3857).
    Winfo = 1,
    /// The entity tag stays when a publication changes.
    KeepsEntityTag = 2,
    /// Subscriptions need the presentity's rules.
    NeedsAuthorization = 4,
    /// The package puts several documents together.
    Aggregates = 8,
    /// Bodies differ by the watcher's rules.
    FiltersBody = 16,
}

/// A set of [`Trait`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits(u8);

impl Traits {
    /// None of them.
    pub const NONE: Traits = Traits(0);

    /// The same, and this one.
    pub const fn with(self, of: Trait) -> Traits {
        Traits(self.0 | of as u8)
    }

    /// The set of these traits.
    pub fn of_list(traits: &[Trait]) -> Traits {
        traits.iter().fold(Traits::NONE, |all, one| all.with(*one))
    }
}

/// How the bodies of one state differ by watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// Bodies do not differ, apart from the watcher's rules.
    Shared,
    /// In the version and in nothing else: known packages only.
    ByVersion,
    /// The package may make what one watcher sees and no other may.
    ByWatcher,
}

/// What a package checks of published bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyCheck {
    /// The package checks nothing.
    None,
    /// Whether they are well-formed XML, which is known before it is asked.
    Form,
    /// More than that.
    Content,
}

/// One registered event package.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// The package's name as registered: `dialog;sla`.
    pub name: &'static [u8],
    /// The type of its bodies; empty for none.
    pub content_type: &'static [u8],
    /// The interval of a request that names none.
    pub default_expires: Expires,
    /// What it does besides.
    pub traits: Traits,
    /// How bodies differ by watcher.
    pub bodies: Bodies,
    /// What it checks of published bodies.
    pub check: BodyCheck,
    /// The package's winfo package, or the package a winfo package reports on.
    pub peer: Option<PackageId>,
}

impl Package {
    /// A package of which only this is registered.
    pub const fn plain(name: &'static [u8], content_type: &'static [u8]) -> Package {
        Package {
            name,
            content_type,
            default_expires: Expires::HOUR,
            traits: Traits::NONE,
            bodies: Bodies::Shared,
            check: BodyCheck::None,
            peer: None,
        }
    }

    /// Whether it has this trait.
    pub const fn has_trait(&self, of: Trait) -> bool {
        self.traits.0 & of as u8 != 0
    }

    /// Whether it reports on watchers (RFC 3857).
    pub const fn is_winfo(&self) -> bool {
        self.has_trait(Trait::Winfo)
    }

    /// The name of the package that a winfo package reports on (RFC 3857 5), whether that is registered or not.
    pub fn watched_name(&self) -> &'static [u8] {
        self.name.strip_suffix(b".winfo").unwrap_or(self.name)
    }

    /// Whether documents are dialog-info (RFC 4235), whose dialogs have ids and final states.
    pub fn is_dialog(&self) -> bool {
        self.name == b"dialog" || self.name.starts_with(b"dialog;")
    }

    /// Whether documents belong to a line that several phones share (BLA, SLA).
    pub fn is_shared_line(&self) -> bool {
        let mut parameters = self.name.split(|c| *c == b';').skip(1);
        self.is_dialog() && parameters.any(|parameter| parameter == b"sla" || parameter == b"ma")
    }

    /// How well this package fits an Event header; `None`: not at all.
    fn fitness(&self, header: &EventHeader<'_>) -> Option<usize> {
        let (start, parameters) = self.name.split_at_checked(header.package.len())?;
        if start != header.package && !start.eq_ignore_ascii_case(header.package) {
            return None;
        }
        // The names of most packages have no parameters and need not be parsed.
        if parameters.is_empty() { Some(0) } else { header.fitness(&EventHeader::parse(self.name)?) }
    }
}

/// All packages in the order they were registered; Allow-Events lists the newest first, as stock does.
#[derive(Debug, Clone, Default)]
pub struct Packages(pub Vec<Package>);

impl Packages {
    /// The package with this id.
    pub fn get(&self, id: PackageId) -> &Package {
        &self.0[usize::from(id.0)]
    }

    /// The package an Event header names: `dialog;sla;call-id=x` is one of `dialog;sla` where that is registered, and
    /// of `dialog` where it is not.
    pub fn find(&self, header: &EventHeader<'_>) -> Option<PackageId> {
        if !header.has_params() {
            // What nearly all clients write: the package of this name, if there is one, has no parameters either.
            let plain = self.0.iter().position(|package| package.name == header.package);
            if let Some(at) = plain {
                return Some(PackageId(at as u16));
            }
        }
        let fits = self.0.iter().enumerate().filter_map(|(at, package)| Some((package.fitness(header)?, at)));
        fits.max_by_key(|(fitness, at)| (*fitness, usize::MAX - at)).map(|(_, at)| PackageId(at as u16))
    }

    /// The package with exactly this name; an `id` is not part of it.
    pub fn named(&self, name: &[u8]) -> Option<PackageId> {
        let name = EventHeader::parse(name)?;
        let same = |package: &Package| EventHeader::parse(package.name).is_some_and(|own| name.same_package(&own));
        self.0.iter().position(same).map(|at| PackageId(at as u16))
    }

    /// The value of Allow-Events.
    pub fn allow_events(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.0.iter().rev().map(|package| package.name).collect();
        names.join(&b", "[..])
    }
}

/// How the message's own body was judged by its package.
#[derive(Debug, PartialEq, Eq)]
pub enum PackageVerdict {
    /// The package accepts the body.
    Fine,
    /// The package refuses the body, and has answered the request.
    Refused,
}
