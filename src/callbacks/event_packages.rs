//! Event packages as other modules register them (`pres_ev_t`), and their callbacks.
use crate::host::bytes::{lend, null, view};
use crate::host::msg::SipMsg;
use crate::host::no_memory::NoMemory;
use crate::host::pkg::{FreeText, PkgStr};
use crate::host::{shm, symbols};
use crate::presence::authorization::{Authorization, NoVerdict};
use crate::presence::event_package::{Bodies, BodyCheck, Package, PackageId, PackageVerdict, Packages, Trait, Traits};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::sys;
use crate::time::Moment;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// The packages of this process. Modules register them while the server starts, before any process is forked.
pub struct PackageRegistry {
    packages: Cell<&'static Packages>,
    entries: Cell<&'static [Registered]>,
    head: Cell<*mut sys::pres_ev>,
    /// The rules of the pass under way: of which presentity and package.
    rules: RefCell<PassRules>,
    /// What is found for packages that have none.
    no_rules: Rc<Rules>,
    missing_rules: Rc<Rules>,
    /// A rule has asked for the presentity's sphere, and it could not be read.
    is_sphere_unread: Cell<bool>,
}

/// Rules that a pass over watchers asks for once.
#[derive(Default)]
struct PassRules {
    presentity: Vec<u8>,
    /// Of which package; `None`: nobody has asked.
    found: Option<(PackageId, Result<Rc<Rules>, NoVerdict>)>,
}

/// The C structure of a registered package. Other modules hold its address, so no reference to it is ever made: it is
/// copied out and copied in.
#[derive(Clone, Copy)]
struct Registered(*mut sys::pres_ev);

impl Registered {
    /// Puts a structure where modules find it for ever.
    fn new(event: sys::pres_ev) -> Result<Registered, NoMemory> {
        Ok(Registered(shm::leak(event)?))
    }

    fn get(self) -> sys::pres_ev {
        // SAFETY: `new` is the only constructor, and what it leaks is never freed. It is written by `set` alone, while
        // the server starts and has one process.
        unsafe { self.0.read() }
    }

    fn set(self, event: sys::pres_ev) {
        // SAFETY: the block is never freed (`new`), and no reference to it exists (`get` copies).
        unsafe { self.0.write(event) };
    }

    /// Names the package of watcher information and the package that is watched as each other's.
    fn pair(self, other: Registered) {
        self.set(sys::pres_ev { wipeer: other.0, ..self.get() });
        other.set(sys::pres_ev { wipeer: self.0, ..other.get() });
    }
}

impl Default for PackageRegistry {
    fn default() -> Self {
        PackageRegistry {
            packages: Cell::new(Box::leak(Box::default())),
            entries: Cell::new(&[]),
            head: Cell::new(std::ptr::null_mut()),
            rules: RefCell::default(),
            no_rules: Rc::new(Rules { document: None, is_missing: false }),
            missing_rules: Rc::new(Rules { document: None, is_missing: true }),
            is_sphere_unread: Cell::new(false),
        }
    }
}

/// Why a package was not registered.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The package has no name.
    #[error("an event package without a name")]
    NoName,
    /// No shared memory.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

impl PackageRegistry {
    /// A registry that knows of packages which no module has registered.
    #[cfg(test)]
    pub(crate) fn of_packages(packages: Packages) -> PackageRegistry {
        PackageRegistry { packages: Cell::new(Box::leak(Box::new(packages))), ..PackageRegistry::default() }
    }

    /// What presence knows of the packages.
    pub fn packages(&self) -> &'static Packages {
        self.packages.get()
    }

    /// The C structure of a package, as other modules see it.
    pub fn raw(&self, id: PackageId) -> *mut sys::pres_ev {
        self.registered(id).map_or(std::ptr::null_mut(), |entry| entry.0)
    }

    fn registered(&self, id: PackageId) -> Option<Registered> {
        self.entries.get().get(usize::from(id.0)).copied()
    }

    /// What the package has registered.
    fn event(&self, id: PackageId) -> Option<sys::pres_ev> {
        self.registered(id).map(Registered::get)
    }

    /// The package with this C structure.
    pub fn id_of(&self, raw: *const sys::pres_ev) -> Option<PackageId> {
        self.entries.get().iter().position(|entry| std::ptr::eq(entry.0, raw)).map(|at| PackageId(at as u16))
    }

    /// Registers a package, or fills what an earlier registration of the same name left open.
    ///
    /// # Safety
    /// `given` is a copy of the `pres_ev_t` that the calling module registers; its strings live during the call, its
    /// functions as long as the server.
    ///
    /// # Errors
    ///
    /// Fails when the package has no name, and when shared memory runs out.
    pub unsafe fn add(&self, given: sys::pres_ev) -> Result<PackageId, AddError> {
        // SAFETY: the caller vouches for the strings.
        let name = unsafe { view(&given.name) }.trim_ascii();
        if name.is_empty() {
            return Err(AddError::NoName);
        }
        let (id, entry) = self.find_or_append(name)?;
        // SAFETY: the module that registers wrote `given`, and keeps what it points at; the entry was made for it.
        entry.set(unsafe { filled(entry.get(), &given) }?);
        self.pair_by_name(name, entry);
        self.describe();
        Ok(id)
    }

    /// A package and that of its watcher information belong together, in whichever order they are registered. The one
    /// does not bring the other: what no module registers is refused as an unknown event.
    fn pair_by_name(&self, name: &[u8], entry: Registered) {
        let other = name.strip_suffix(b".winfo").map_or_else(|| [name, b".winfo"].concat(), <[u8]>::to_vec);
        let all = self.packages().0.iter();
        if let Some((_, other)) = all.zip(self.entries.get()).find(|(package, _)| package.name == other) {
            entry.pair(*other);
        }
    }

    fn find_or_append(&self, name: &[u8]) -> Result<(PackageId, Registered), AddError> {
        match self.packages().named(name).and_then(|id| Some((id, self.registered(id)?))) {
            Some(found) => Ok(found),
            None => self.append(name),
        }
    }

    fn append(&self, name: &[u8]) -> Result<(PackageId, Registered), AddError> {
        let name: &'static [u8] = shm::ShmBox::leak(shm::copy(name)?);
        let event = shm::leak(sys::event::default())?;
        // SAFETY: the name lives for ever; parameters are allocated by the host and never freed.
        unsafe { sys::kr_event_parser(name.as_ptr() as *mut _, name.len() as i32, event) };
        let entry = Registered::new(sys::pres_ev {
            name: lend(name).unbound(),
            default_expires: 3600,
            evp: event,
            next: self.head.get(),
            ..Default::default()
        })?;
        self.head.set(entry.0);
        let entries = [self.entries.get(), &[entry]].concat();
        let id = PackageId((entries.len() - 1) as u16);
        self.entries.set(Box::leak(entries.into_boxed_slice()));
        self.describe();
        Ok((id, entry))
    }

    /// Makes the Rust view of all registered structures.
    fn describe(&self) {
        let all = self.entries.get().iter().map(|entry| self.description(*entry)).collect();
        self.packages.set(Box::leak(Box::new(Packages(all))));
    }

    fn description(&self, entry: Registered) -> Package {
        let ev = entry.get();
        Package {
            // SAFETY: `append` leaked the name in shared memory.
            name: unsafe { view(&ev.name) },
            // SAFETY: empty, or leaked in shared memory by `filled`.
            content_type: unsafe { view(&ev.content_type) },
            default_expires: ev.default_expires.into(),
            traits: [
                (Trait::Winfo, ev.type_ & 1 != 0),
                (Trait::KeepsEntityTag, ev.etag_not_new != 0),
                (Trait::NeedsAuthorization, ev.req_auth != 0),
                (Trait::Aggregates, ev.agg_nbody.is_some()),
                (Trait::FiltersBody, ev.apply_auth_nbody.is_some()),
            ]
            .into_iter()
            .filter_map(|(of, holds)| holds.then_some(of))
            .fold(Traits::NONE, Traits::with),
            bodies: match ev.aux_body_processing.map(|make| make as usize) {
                None => Bodies::Shared,
                // These write the subscription's version into the common body, on every host version.
                Some(make)
                    if symbols::is(make, "/presence_dialoginfo.so", c"dlginfo_body_setversion")
                        || symbols::is(make, "/presence_conference.so", c"conf_body_setversion") =>
                {
                    Bodies::ByVersion
                }
                Some(_) => Bodies::ByWatcher,
            },
            check: match ev.evs_publ_handl.map(|check| check as usize) {
                None => BodyCheck::None,
                // On every host version: parses the body, and answers 415 where that fails.
                Some(check) if symbols::is(check, "/presence_xml.so", c"xml_publ_handl") => BodyCheck::Form,
                Some(_) => BodyCheck::Content,
            },
            peer: self.id_of(ev.wipeer),
        }
    }

    /// `evs_publ_handl`: the package checks the body of the request in hand.
    pub fn check_publish(&self, id: PackageId, msg: SipMsg<'_>) -> PackageVerdict {
        verdict(self.event(id).and_then(|ev| ev.evs_publ_handl), msg)
    }

    /// `evs_subs_handl`: the package looks at the SUBSCRIBE in hand.
    pub fn check_subscribe(&self, id: PackageId, msg: SipMsg<'_>) -> PackageVerdict {
        verdict(self.event(id).and_then(|ev| ev.evs_subs_handl), msg)
    }

    /// `agg_nbody`: several documents become one.
    pub fn aggregate(
        &self,
        id: PackageId,
        user: &[u8],
        domain: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>> {
        let body = self.aggregate_raw(id, user, domain, documents, offline);
        // SAFETY: what `agg_nbody` returns is the caller's, and `free_body` of the same package frees its text.
        unsafe { take_body(body, self.event(id)?.free_body) }
    }

    /// The same, in the package's own memory; null when the package puts nothing together.
    pub fn aggregate_raw(
        &self,
        id: PackageId,
        user: &[u8],
        domain: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> *mut sys::_str {
        let Some(aggregate) = self.event(id).and_then(|ev| ev.agg_nbody) else { return std::ptr::null_mut() };
        let mut bodies: Vec<sys::_str> = documents.iter().map(|document| lend(document).unbound()).collect();
        let mut pointers: Vec<*mut sys::_str> = bodies.iter_mut().map(|body| body as *mut _).collect();
        let offline = offline.map_or(-1, |at| at as i32);
        let list = if pointers.is_empty() { std::ptr::null_mut() } else { pointers.as_mut_ptr() };
        // SAFETY: `agg_nbody` reads two strings and as many documents as it is given the number of; all of them live
        // until it returns.
        unsafe { aggregate(&mut *lend(user), &mut *lend(domain), list, documents.len() as i32, offline) }
    }

    /// `apply_auth_nbody`: the body as the presentity's rules let this watcher see it. `None` leaves it as it is.
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read or applied.
    pub fn filter_body(
        &self,
        id: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict> {
        let Some(ev) = self.event(id) else { return Ok(None) };
        let Some(filter) = ev.apply_auth_nbody else { return Ok(None) };
        let rules = self.rules_of_pass(id, &ev, subscription)?;
        // In memory only a watcher is active without a document: there is nothing to filter by.
        let Some(document) = &rules.document else { return Ok(None) };
        let mut raw = self.lend_subscription(subscription);
        raw.show_rules(document);
        let mut filtered = std::ptr::null_mut();
        self.is_sphere_unread.set(false);
        // SAFETY: body, subscription and rules are lent until the function returns; it reads them, and sets `filtered`.
        if unsafe { filter(&mut *lend(body), &mut *raw, &mut filtered) } < 0 {
            return Err(NoVerdict::Unclear);
        }
        // SAFETY: the filtered body is the caller's, and `free_body` of the same package frees its text.
        let shown = unsafe { take_body(filtered, ev.free_body) };
        if self.is_sphere_unread.take() { Err(NoVerdict::Unreadable) } else { Ok(shown) }
    }

    /// The rules of a presentity, asked for once in a pass over its watchers, whether they can be read or not: a table
    /// that is away may take long to say so.
    fn rules_of_pass(
        &self,
        id: PackageId,
        ev: &sys::pres_ev,
        subscription: &Subscription,
    ) -> Result<Rc<Rules>, NoVerdict> {
        if ev.get_rules_doc.is_none() {
            return Ok(self.no_rules.clone());
        }
        let uri = subscription.get(Field::PresUri);
        if let PassRules { presentity, found: Some((package, found)) } = &*self.rules.borrow() {
            if *package == id && presentity == uri {
                return found.clone();
            }
        }
        // Nothing is borrowed while the package works: it may call us.
        let crate::sip::uri::PlainUri { user, host: domain } = crate::sip::uri::split(uri);
        let found = Rules::of_user(ev, user, domain).map(|rules| match rules.is_missing {
            true => self.missing_rules.clone(),
            false => Rc::new(rules),
        });
        let mut rules = self.rules.borrow_mut();
        rules.presentity.clear();
        rules.presentity.extend_from_slice(uri);
        rules.found = Some((id, found.clone()));
        found
    }

    /// The package has asked for a sphere that cannot be read: what it says next does not count.
    pub fn note_unread_sphere(&self) {
        self.is_sphere_unread.set(true);
    }

    /// A pass begins: rules may have changed since the last one.
    pub fn begin_pass(&self) {
        self.rules.borrow_mut().found = None;
    }

    /// `aux_body_processing`: the body made for one watcher.
    pub fn watcher_body(&self, id: PackageId, subscription: &Subscription, body: Option<&[u8]>) -> Option<Vec<u8>> {
        let ev = self.event(id)?;
        let process = ev.aux_body_processing?;
        let mut raw = self.lend_subscription(subscription);
        // The package may work in place: it gets a copy with a NUL behind it.
        let mut copy = body.map(|body| [body, &[0]].concat());
        let mut given =
            copy.as_mut().map(|copy| sys::_str { s: copy.as_mut_ptr() as *mut _, len: copy.len() as i32 - 1 });
        let pointer = given.as_mut().map_or(std::ptr::null_mut(), |given| given as *mut _);
        // SAFETY: the subscription is lent and the body is a copy of its own; both live until the function returns.
        let result = unsafe { process(&mut *raw, pointer) };
        // SAFETY: what it returns is the caller's, and one of the two functions of the same package frees its text.
        let own = unsafe { take_body(result, ev.aux_free_body.or(ev.free_body)) };
        // SAFETY: `given` describes `copy`, which the package may have changed in place, within its length.
        own.or_else(|| given.as_ref().map(|given| unsafe { view(given) }.to_vec()))
    }

    /// `get_rules_doc` and `get_auth_status`: what the presentity's rules say about a watcher. Where no rule matches,
    /// packages decide by how the watcher stood before. `without_rules`: the status where the presentity has no rules
    /// document, if the package is not to say it. The rules are read once in a pass, see
    /// [`PackageRegistry::begin_pass`].
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read, and when the package cannot say what they mean.
    pub fn evaluate_rules(
        &self,
        id: PackageId,
        subscription: &Subscription,
        before: Status,
        without_rules: Option<Status>,
    ) -> Result<Authorization, NoVerdict> {
        let ev = self.event(id).ok_or(NoVerdict::Unclear)?;
        let Some(evaluate_rules) = ev.get_auth_status else {
            return Ok(Authorization { status: Status::Active, reason: Vec::new() });
        };
        let rules = self.rules_of_pass(id, &ev, subscription)?;
        if let Some(status) = without_rules.filter(|_| rules.is_missing) {
            return Ok(Authorization { status, reason: Vec::new() });
        }
        let mut raw = self.lend_subscription(subscription);
        if let Some(document) = &rules.document {
            raw.show_rules(document);
        }
        raw.reason = null();
        raw.status = before as u32;
        self.is_sphere_unread.set(false);
        // SAFETY: the subscription and the rules are lent until the function returns.
        if unsafe { evaluate_rules(&mut *raw) } < 0 {
            return Err(NoVerdict::Unclear);
        }
        if self.is_sphere_unread.take() {
            return Err(NoVerdict::Unreadable);
        }
        // SAFETY: the reason is empty or a constant of the package.
        let reason = unsafe { view(&raw.reason) }.to_vec();
        let status = Status::from_number(i64::from(raw.status)).ok_or(NoVerdict::Unclear)?;
        Ok(Authorization { status, reason })
    }

    /// Whether the presentity has a rules document.
    ///
    /// # Errors
    ///
    /// Fails when that cannot be read.
    pub fn has_rules(&self, id: PackageId, user: &[u8], domain: &[u8]) -> Result<bool, NoVerdict> {
        let Some(ev) = self.event(id) else { return Ok(false) };
        Ok(Rules::of_user(&ev, user, domain)?.document.is_some())
    }

    /// `get_pidf_doc`: the presentity's manipulation document in this file, if it has one.
    ///
    /// # Errors
    ///
    /// Fails when the package cannot say.
    pub fn manipulation_document(
        &self,
        id: PackageId,
        user: &[u8],
        domain: &[u8],
        file_uri: &[u8],
    ) -> Result<Option<Vec<u8>>, CannotSay> {
        let load = self.event(id).and_then(|event| event.get_pidf_doc).ok_or(CannotSay)?;
        let mut document = std::ptr::null_mut();
        // SAFETY: the function reads three strings, which live until it returns, and sets `document`.
        if unsafe { load(&mut *lend(user), &mut *lend(domain), &mut *lend(file_uri), &mut document) } < 0 {
            return Err(CannotSay);
        }
        // SAFETY: `get_pidf_doc` hands over a private `str` with private text, or leaves null.
        Ok(unsafe { take_body(document, None) })
    }

    /// A C view of a subscription for a callback.
    fn lend_subscription<'a>(&self, subscription: &'a Subscription) -> LentSubscription<'a> {
        let text = |field| lend(subscription.get(field)).unbound();
        let n = &subscription.state;
        let raw = sys::subscription {
            pres_uri: text(Field::PresUri),
            to_user: text(Field::ToUser),
            to_domain: text(Field::ToDomain),
            from_user: text(Field::FromUser),
            from_domain: text(Field::FromDomain),
            watcher_user: text(Field::WatcherUser),
            watcher_domain: text(Field::WatcherDomain),
            event: self.raw(n.event),
            event_id: text(Field::EventId),
            to_tag: text(Field::ToTag),
            from_tag: text(Field::FromTag),
            callid: text(Field::CallId),
            sockinfo_str: text(Field::Socket),
            remote_cseq: n.remote_cseq,
            local_cseq: n.local_cseq,
            contact: text(Field::Contact),
            local_contact: text(Field::LocalContact),
            record_route: text(Field::RecordRoute),
            expires: (n.expires_at - Moment::EPOCH).as_expires(),
            status: n.status as u32,
            reason: text(Field::Reason),
            version: n.version as i32,
            updated: n.updated,
            updated_winfo: n.updated_winfo,
            flags: n.flags,
            user_agent: text(Field::UserAgent),
            ..Default::default()
        };
        LentSubscription { raw, lenders: PhantomData }
    }
}

/// A C view of a subscription that borrows its strings, and the rules that are shown with it: it cannot outlive them.
struct LentSubscription<'a> {
    raw: sys::subscription,
    lenders: PhantomData<(&'a Subscription, &'a PkgStr)>,
}

impl<'a> LentSubscription<'a> {
    /// Lets the package see a presentity's rules document.
    fn show_rules(&mut self, document: &'a PkgStr) {
        self.raw.auth_rules_doc = document.as_ptr();
    }
}

impl Deref for LentSubscription<'_> {
    type Target = sys::subscription;
    fn deref(&self) -> &sys::subscription {
        &self.raw
    }
}

impl DerefMut for LentSubscription<'_> {
    fn deref_mut(&mut self) -> &mut sys::subscription {
        &mut self.raw
    }
}

/// A presentity's rules document, given back when dropped.
struct Rules {
    document: Option<PkgStr>,
    /// The package has looked for it, and there is none.
    is_missing: bool,
}

impl Rules {
    fn of_user(ev: &sys::pres_ev, user: &[u8], domain: &[u8]) -> Result<Rules, NoVerdict> {
        let mut document = std::ptr::null_mut();
        let Some(load) = ev.get_rules_doc else { return Ok(Rules { document: None, is_missing: false }) };
        // SAFETY: the function reads user and domain, which live until it returns, and sets `document`.
        if unsafe { load(&mut *lend(user), &mut *lend(domain), &mut document) } < 0 {
            // It may be there and cannot be read now: that is not the same as none.
            return Err(NoVerdict::Unreadable);
        }
        // SAFETY: `get_rules_doc` hands over a private `str` with private text, or leaves null.
        let document = unsafe { PkgStr::from_raw(document, None) };
        Ok(Rules { is_missing: document.is_none(), document })
    }
}

/// What a package returned, copied and given back.
///
/// # Safety
/// As [`PkgStr::from_raw`].
unsafe fn take_body(body: *mut sys::_str, free: Option<FreeText>) -> Option<Vec<u8>> {
    // SAFETY: the caller vouches for both.
    unsafe { PkgStr::from_raw(body, free) }.map(|body| body.bytes().to_vec())
}

/// What a package says of the request in hand.
fn verdict(check: sys::publ_handling_t, msg: SipMsg<'_>) -> PackageVerdict {
    // SAFETY: packages check any message that the host has parsed, and keep nothing of it.
    match check.map(|check| unsafe { check(msg.raw()) }) {
        Some(result) if result < 0 => PackageVerdict::Refused,
        _ => PackageVerdict::Fine,
    }
}

/// A package has no such function, or the function has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotSay;

/// A registered package with what another registration adds.
///
/// # Safety
/// The strings of `given` live during the call.
unsafe fn filled(mut target: sys::pres_ev, given: &sys::pres_ev) -> Result<sys::pres_ev, NoMemory> {
    // SAFETY: the caller vouches for the strings of `given`.
    let content_type = unsafe { view(&given.content_type) };
    if !content_type.is_empty() {
        target.content_type = lend(shm::ShmBox::leak(shm::copy(content_type)?)).unbound();
    }
    target.type_ |= given.type_;
    target.etag_not_new |= given.etag_not_new;
    target.req_auth |= given.req_auth;
    if given.default_expires != 0 {
        target.default_expires = given.default_expires;
    }
    macro_rules! take {
        ($($field:ident)*) => { $( if given.$field.is_some() { target.$field = given.$field; } )* };
    }
    take! { get_rules_doc get_pidf_doc apply_auth_nbody get_auth_status agg_nbody evs_publ_handl evs_subs_handl
    free_body aux_body_processing aux_free_body }
    Ok(target)
}
