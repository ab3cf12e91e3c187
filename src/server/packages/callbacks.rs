//! The one place of `bridge` that touches C: event packages as other modules register them (`pres_ev_t`), and their
//! callbacks.
use crate::host::bytes::{lend, null, view, view_ptr};
use crate::host::msg::SipMsg;
use crate::host::no_memory::NoMemory;
use crate::host::shm;
use crate::host::symbols;
use crate::presence::authorization::Authorization;
use crate::presence::event_package::{Package, PackageId, PackageVerdict, Packages};
use crate::presence::subscription::{Status, Subscription};
use crate::presence::subscription_field::Field;
use crate::sys;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The packages of this process. Modules register them while the server starts, before any process is forked.
pub struct Registry {
    packages: Cell<&'static Packages>,
    entries: Cell<&'static [*mut sys::pres_ev]>,
    head: Cell<*mut sys::pres_ev>,
    /// The rules of the pass under way: of which presentity and package.
    rules: RefCell<Option<PassRules>>,
}

type PassRules = (Vec<u8>, *const sys::pres_ev, Rc<Rules>);

impl Default for Registry {
    fn default() -> Self {
        Registry {
            packages: Cell::new(Box::leak(Box::default())),
            entries: Cell::new(&[]),
            head: Cell::new(std::ptr::null_mut()),
            rules: RefCell::new(None),
        }
    }
}

/// Why a package was not registered.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It has no name.
    #[error("an event package without a name")]
    NoName,
    /// No shared memory.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
}

impl Registry {
    /// What presence knows of the packages.
    pub fn packages(&self) -> &'static Packages {
        self.packages.get()
    }

    /// The C structure of a package, as other modules see it.
    pub fn raw(&self, id: PackageId) -> *mut sys::pres_ev {
        self.entries.get().get(usize::from(id.0)).copied().unwrap_or(std::ptr::null_mut())
    }

    /// The package with this C structure.
    pub fn id_of(&self, raw: *const sys::pres_ev) -> Option<PackageId> {
        self.entries.get().iter().position(|entry| std::ptr::eq(*entry, raw)).map(|at| PackageId(at as u16))
    }

    /// Registers a package, or fills what an earlier registration of the same name left open.
    ///
    /// # Safety
    /// `given` points at a `pres_ev_t` of the calling module.
    ///
    /// # Errors
    ///
    /// Fails when the package has no name, and when shared memory runs out.
    pub unsafe fn add(&self, given: &sys::pres_ev) -> Result<PackageId, AddError> {
        // SAFETY: the caller vouches for the structure and its strings.
        let name = unsafe { view(&given.name) }.trim_ascii();
        if name.is_empty() {
            return Err(AddError::NoName);
        }
        let id = match self.packages().named(name) {
            Some(id) => id,
            None => self.append(name)?,
        };
        // SAFETY: `raw` is a structure made by `append`; `given` is the caller's.
        unsafe { fill(&mut *self.raw(id), given)? };
        if let Some(base) = name.strip_suffix(b".winfo") {
            let watched = match self.packages().named(base) {
                Some(watched) => watched,
                None => self.append(base)?,
            };
            // SAFETY: both structures were made by `append` and live for ever.
            unsafe {
                (*self.raw(id)).wipeer = self.raw(watched);
                (*self.raw(watched)).wipeer = self.raw(id);
            }
        }
        self.describe();
        Ok(id)
    }

    fn append(&self, name: &[u8]) -> Result<PackageId, AddError> {
        let name: &'static [u8] = shm::ShmBox::leak(shm::copy(name)?);
        let mut fresh = sys::pres_ev { name: lend(name), default_expires: 3600, ..Default::default() };
        let event = shm::leak(sys::event::default())?;
        // SAFETY: the name lives for ever; parameters are allocated by the host and never freed.
        unsafe { sys::kr_event_parser(name.as_ptr() as *mut _, name.len() as i32, event) };
        fresh.evp = event;
        fresh.next = self.head.get();
        let raw: *mut sys::pres_ev = shm::leak(fresh)?;
        self.head.set(raw);
        let mut entries = self.entries.get().to_vec();
        entries.push(raw);
        self.entries.set(Box::leak(entries.into_boxed_slice()));
        self.describe();
        Ok(PackageId((self.entries.get().len() - 1) as u16))
    }

    /// Makes the Rust view of all registered structures.
    fn describe(&self) {
        let all = self.entries.get().iter().map(|raw| self.description(*raw)).collect();
        self.packages.set(Box::leak(Box::new(Packages(all))));
    }

    fn description(&self, raw: *mut sys::pres_ev) -> Package {
        // SAFETY: structures made by `append` live for ever.
        let ev = unsafe { &*raw };
        Package {
            // SAFETY: strings copied by `append` and `fill` live for ever.
            name: unsafe { view(&ev.name) },
            // SAFETY: as above.
            content_type: unsafe { view(&ev.content_type) },
            default_expires: ev.default_expires,
            is_winfo: ev.type_ & 1 != 0,
            keep_entity_tag: ev.etag_not_new != 0,
            needs_authorization: ev.req_auth != 0,
            aggregates: ev.agg_nbody.is_some(),
            filters_body: ev.apply_auth_nbody.is_some(),
            per_watcher_body: ev.aux_body_processing.is_some(),
            // These write the subscription's version into the common body, on every host version.
            differs_by_version_only: ev.aux_body_processing.is_some_and(|make| {
                symbols::is(make as usize, "/presence_dialoginfo.so", c"dlginfo_body_setversion")
                    || symbols::is(make as usize, "/presence_conference.so", c"conf_body_setversion")
            }),
            checks_publish: ev.evs_publ_handl.is_some(),
            // presence_xml, on every host version: parses the body, and answers 415 where that fails.
            checks_form_only: ev
                .evs_publ_handl
                .is_some_and(|check| symbols::is(check as usize, "/presence_xml.so", c"xml_publ_handl")),
            peer: self.id_of(ev.wipeer),
        }
    }

    /// `evs_publ_handl`: the package checks the body of the request in hand.
    pub fn check_publish(&self, id: PackageId, msg: SipMsg<'_>) -> PackageVerdict {
        // SAFETY: structures live for ever; `msg` is the request in hand.
        match unsafe { (*self.raw(id)).evs_publ_handl.map(|check| check(msg.raw())) } {
            Some(result) if result < 0 => PackageVerdict::Refused,
            _ => PackageVerdict::Fine,
        }
    }

    /// `evs_subs_handl`: the package looks at the SUBSCRIBE in hand.
    pub fn check_subscribe(&self, id: PackageId, msg: SipMsg<'_>) -> PackageVerdict {
        // SAFETY: structures live for ever; `msg` is the request in hand.
        match unsafe { (*self.raw(id)).evs_subs_handl.map(|check| check(msg.raw())) } {
            Some(result) if result < 0 => PackageVerdict::Refused,
            _ => PackageVerdict::Fine,
        }
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
        // SAFETY: structures live for ever; the result is the package's, copied and given back.
        unsafe { take_body(self.aggregate_raw(id, user, domain, documents, offline), (*self.raw(id)).free_body) }
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
        // SAFETY: structures live for ever.
        let Some(aggregate) = (unsafe { &*self.raw(id) }).agg_nbody else { return std::ptr::null_mut() };
        let mut bodies: Vec<sys::_str> = documents.iter().map(|document| lend(document)).collect();
        let mut pointers: Vec<*mut sys::_str> = bodies.iter_mut().map(|body| body as *mut _).collect();
        let offline = offline.map_or(-1, |at| at as i32);
        // SAFETY: the arrays live during the call.
        unsafe {
            let list = if pointers.is_empty() { std::ptr::null_mut() } else { pointers.as_mut_ptr() };
            aggregate(&mut lend(user), &mut lend(domain), list, documents.len() as i32, offline)
        }
    }

    /// `apply_auth_nbody`: the body as the presentity's rules let this watcher see it.
    pub fn filter_body(&self, id: PackageId, subscription: &Subscription, body: &[u8]) -> Option<Vec<u8>> {
        // SAFETY: structures live for ever.
        let ev = unsafe { &*self.raw(id) };
        let filter = ev.apply_auth_nbody?;
        let mut raw = self.lend_subscription(subscription);
        let rules = self.rules_of_pass(ev, subscription);
        // In memory only a watcher is active without a document: there is nothing to filter by.
        if rules.document.is_null() {
            return None;
        }
        raw.auth_rules_doc = rules.document;
        let mut filtered = std::ptr::null_mut();
        // SAFETY: everything lent lives during the call; the result is the package's, copied and given back.
        unsafe {
            if filter(&mut lend(body), &mut raw, &mut filtered) < 0 {
                return None;
            }
            take_body(filtered, ev.free_body)
        }
    }

    /// The rules of a presentity, asked for once in a pass over its watchers.
    fn rules_of_pass(&self, ev: &sys::pres_ev, subscription: &Subscription) -> Rc<Rules> {
        let uri = subscription.get(Field::PresUri);
        if let Some((_, _, rules)) =
            self.rules.borrow().as_ref().filter(|(of, place, _)| of == uri && std::ptr::eq(*place, ev))
        {
            return rules.clone();
        }
        // Nothing is borrowed while the package works: it may call us.
        let rules = Rc::new(Rules::load(ev, subscription));
        *self.rules.borrow_mut() = Some((uri.to_vec(), ev, rules.clone()));
        rules
    }

    /// A pass begins: rules may have changed since the last one.
    pub fn begin_pass(&self) {
        *self.rules.borrow_mut() = None;
    }

    /// `aux_body_processing`: the body made for one watcher.
    pub fn watcher_body(&self, id: PackageId, subscription: &Subscription, body: Option<&[u8]>) -> Option<Vec<u8>> {
        // SAFETY: structures live for ever.
        let ev = unsafe { &*self.raw(id) };
        let process = ev.aux_body_processing?;
        let mut raw = self.lend_subscription(subscription);
        // The package may work in place: it gets a copy with a NUL behind it.
        let mut copy = body.map(|body| [body, &[0]].concat());
        let mut given =
            copy.as_mut().map(|copy| sys::_str { s: copy.as_mut_ptr() as *mut _, len: copy.len() as i32 - 1 });
        // SAFETY: everything lent lives during the call.
        unsafe {
            let pointer = given.as_mut().map_or(std::ptr::null_mut(), |given| given as *mut _);
            let result = process(&mut raw, pointer);
            if let Some(own) = take_body(result, ev.aux_free_body.or(ev.free_body)) {
                return Some(own);
            }
            given.as_ref().map(|given| view(given).to_vec())
        }
    }

    /// `get_rules_doc` and `get_auth_status`: what the presentity's rules say about a watcher. Where no rule matches,
    /// packages decide by how the watcher stood before. `without_rules`: the status where the presentity has no rules
    /// document, if the package is not to say it.
    pub fn evaluate_rules(
        &self,
        id: PackageId,
        subscription: &Subscription,
        before: Status,
        without_rules: Option<Status>,
    ) -> Option<Authorization> {
        // SAFETY: structures live for ever.
        let ev = unsafe { &*self.raw(id) };
        let Some(evaluate_rules) = ev.get_auth_status else {
            return Some(Authorization { status: Status::Active, reason: Vec::new() });
        };
        let mut raw = self.lend_subscription(subscription);
        let rules = Rules::load(ev, subscription);
        if let Some(status) = without_rules.filter(|_| rules.is_missing) {
            return Some(Authorization { status, reason: Vec::new() });
        }
        raw.auth_rules_doc = rules.document;
        raw.reason = null();
        raw.status = before as u32;
        // SAFETY: everything lent lives during the call; the reason is a constant of the package, copied at once.
        unsafe {
            if evaluate_rules(&mut raw) < 0 {
                return None;
            }
            Some(Authorization {
                status: Status::from_number(i64::from(raw.status))?,
                reason: view(&raw.reason).to_vec(),
            })
        }
    }

    /// Whether the presentity has a rules document.
    pub fn has_rules(&self, id: PackageId, user: &[u8], domain: &[u8]) -> bool {
        // SAFETY: structures live for ever.
        !Rules::of(unsafe { &*self.raw(id) }, user, domain).document.is_null()
    }

    /// `get_pidf_doc`: the presentity's manipulation document in this file. The outer `None`: the package cannot say.
    pub fn manipulation_document(
        &self,
        id: PackageId,
        user: &[u8],
        domain: &[u8],
        file_uri: &[u8],
    ) -> Option<Option<Vec<u8>>> {
        // SAFETY: structures live for ever.
        let load = unsafe { &*self.raw(id) }.get_pidf_doc?;
        let mut document = std::ptr::null_mut();
        // SAFETY: what is lent lives during the call; the document comes as private memory of the host, freed by
        // `Rules`.
        unsafe {
            if load(&mut lend(user), &mut lend(domain), &mut lend(file_uri), &mut document) < 0 {
                return None;
            }
            let document = Rules { document, is_missing: document.is_null() };
            Some(view_ptr(document.document).map(<[u8]>::to_vec))
        }
    }

    /// A C view of a subscription for a callback.
    pub fn lend_subscription(&self, subscription: &Subscription) -> sys::subscription {
        let text = |field| lend(subscription.get(field));
        let n = &subscription.state;
        sys::subscription {
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
            expires: n.expires_at.clamp(0, i64::from(u32::MAX)) as u32,
            status: n.status as u32,
            reason: text(Field::Reason),
            version: n.version as i32,
            updated: n.updated,
            updated_winfo: n.updated_winfo,
            flags: n.flags,
            user_agent: text(Field::UserAgent),
            ..Default::default()
        }
    }
}

/// A presentity's rules document, given back when dropped.
struct Rules {
    document: *mut sys::_str,
    /// The package has looked for it, and there is none.
    is_missing: bool,
}

impl Rules {
    fn load(ev: &sys::pres_ev, subscription: &Subscription) -> Rules {
        let (user, domain) = crate::sip::uri::split(subscription.get(Field::PresUri));
        Rules::of(ev, user, domain)
    }

    fn of(ev: &sys::pres_ev, user: &[u8], domain: &[u8]) -> Rules {
        let mut document = std::ptr::null_mut();
        let Some(load) = ev.get_rules_doc else { return Rules { document, is_missing: false } };
        // SAFETY: user and domain live during the call; the document comes as private memory of the host.
        match unsafe { load(&mut lend(user), &mut lend(domain), &mut document) } < 0 {
            // It may be there and cannot be read now.
            true => Rules { document: std::ptr::null_mut(), is_missing: false },
            false => Rules { document, is_missing: document.is_null() },
        }
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if !self.document.is_null() {
            // SAFETY: `get_rules_doc` hands over a private `str` with private text.
            unsafe {
                sys::kr_pkg_free((*self.document).s as *mut _);
                sys::kr_pkg_free(self.document as *mut _);
            }
        }
    }
}

/// Copies a body a package returned and gives it back: the text by the package's own function, the `str` to private
/// memory.
///
/// # Safety
/// `body` is null or a `str` in private memory of the host whose text `free` frees.
unsafe fn take_body(body: *mut sys::_str, free: Option<unsafe extern "C" fn(*mut libc::c_char)>) -> Option<Vec<u8>> {
    // SAFETY: the caller vouches for it.
    unsafe {
        let copy = view_ptr(body)?.to_vec();
        if !(*body).s.is_null() {
            match free {
                Some(free) => free((*body).s),
                None => sys::kr_pkg_free((*body).s as *mut _),
            }
        }
        sys::kr_pkg_free(body as *mut _);
        Some(copy)
    }
}

/// Fills the fields of a registered package from a registration.
///
/// # Safety
/// Both structures are valid.
unsafe fn fill(target: &mut sys::pres_ev, given: &sys::pres_ev) -> Result<(), NoMemory> {
    // SAFETY: the caller vouches for the strings of `given`.
    let content_type = unsafe { view(&given.content_type) };
    if !content_type.is_empty() {
        target.content_type = lend(shm::ShmBox::leak(shm::copy(content_type)?));
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
    Ok(())
}
