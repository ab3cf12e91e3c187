//! `presence.so`: start-up, script functions, timers.
use super::c_types::{kr_presence_params_t, sip_msg_t, str_t};
use super::state;
use crate::bridge::callbacks::Registry;
use crate::bridge::database::Database;
use crate::bridge::ids::Ids;
use crate::bridge::single::SingleDocuments;
use crate::bridge::world::{Process, Shared, World, take_kept};
use crate::bridge::{active_watchers, presentities, settings, watchers};
use crate::host::bytes::view_ptr;
use crate::host::db::Driver;
use crate::host::msg::{Header, SipMsg, parse_uri};
use crate::host::params::PresenceParams;
use crate::host::sync::SleepLock;
use crate::host::{log, process, script, sl, tm};
use crate::log;
use crate::presence::config::{Config, SubscriptionMode};
use crate::presence::error::Failure;
use crate::presence::subscription::{DialogId, Subscription};
use crate::presence::{expiry, publish, refresh, subscribe};
use crate::sys;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};

fn start(params: &sys::kr_presence_params) -> Result<(), String> {
    let params = PresenceParams(params);
    let config = settings::read(&params).map_err(|error| error.to_string())?;
    if !sl::load() {
        return Err("the sl module must be loaded before presence".into());
    }
    if !tm::load() {
        return Err("the tm module must be loaded before presence".into());
    }
    let database = open_database(&config, params.db_url())?;
    process::seed_shared_memory();
    let shared = Shared::new(&config).map_err(|error| error.to_string())?;
    let started = config.started;
    state::set(Process {
        config,
        registry: Registry::default(),
        shared,
        database,
        ids: RefCell::new(Ids::new(started)),
        notify_reply: Cell::new(None),
        last_subscription: RefCell::new(None),
        singles: SingleDocuments::default(),
        turn: Cell::new(0),
        on_completed: kr_presence_notify_completed,
    });
    let process = state::process().ok_or("no state")?;
    start_timers(&process.config)
}

fn open_database(config: &Config, url: &'static [u8]) -> Result<Database, String> {
    if url.is_empty() {
        return Ok(Database::new(None, None));
    }
    let driver = Driver::bind(url).ok_or_else(|| {
        format!(
            "no database driver for db_url {}: load db_sqlite, db_postgres, db_mysql or another before presence",
            log::show(url)
        )
    })?;
    let writer = match driver.single_writer() {
        true => Some(SleepLock::leak().map_err(|error| error.to_string())? as &'static SleepLock),
        false => None,
    };
    let database = Database::new(Some(driver), writer);
    let tables = [
        (config.presentity_table, presentities::VERSION),
        (config.active_watchers_table, active_watchers::VERSION),
        (config.watchers_table, watchers::VERSION),
    ];
    for (table, version) in tables {
        let right = database
            .with(|connection| Ok(connection.check_version(table, version)))
            .map_err(|_| format!("cannot connect to {}", log::show(url)))?;
        if !right {
            return Err(format!(
                "table {} has not version {version}: create it with Kamailio's schema",
                log::show(table)
            ));
        }
    }
    database.disconnect();
    Ok(database)
}

fn start_timers(config: &Config) -> Result<(), String> {
    if !config.database && config.subscriptions == SubscriptionMode::Memory && config.clean_period == 0 {
        return Ok(());
    }
    let wanted: [(i32, process::TimerFn); 2] =
        [(config.clean_period, kr_presence_on_clean), (config.db_update_period, kr_presence_on_update)];
    for (period, f) in wanted {
        if period > 0 && !process::every(period, config.secondary_timer, f) {
            return Err("cannot register a timer".into());
        }
    }
    Ok(())
}

/// What happens once all modules are initialised and nothing is forked yet: memory is filled from the tables.
fn restore() -> Result<(), String> {
    let Some(process) = state::process() else { return Ok(()) };
    process.notify_reply.set(Some(script::EventRoute::find(c"presence:notify-reply")));
    if !process.database.is_configured() {
        return Ok(());
    }
    let mut world = World::new(process);
    let publications = world.restore().map_err(|error| format!("cannot read the tables: {error}"))?;
    log!(Debug, "{publications} rows restored");
    process.database.disconnect();
    Ok(())
}

/// From, for log lines.
fn who(message: SipMsg<'_>) -> String {
    message.from().map(|from| log::show(from.uri).into_owned()).unwrap_or_else(|| "an unreadable From".into())
}

/// # Safety
/// `msg` is a message in progress, `sender` null or a string.
unsafe fn handle_publish(msg: *mut sys::sip_msg, sender: *const sys::_str) -> c_int {
    // SAFETY: the script function's own message.
    let Some((mut world, message)) = (unsafe { state::world_for(msg) }) else { return -1 };
    // SAFETY: null or a string of the script.
    let sender = unsafe { view_ptr(sender) }.unwrap_or_default();
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    match publish_request(&world, message, sender).and_then(|request| publish::handle(&mut world, &request)) {
        Ok(()) => 1,
        Err(failure) => {
            world.refuse(&failure, "PUBLISH", &who(message));
            -1
        }
    }
}

/// In test builds a header asks for a fault: `X-Fault: panic` or `X-Fault: memory`.
#[cfg(feature = "fault-injection")]
fn inject_fault(message: SipMsg<'_>) -> impl Drop {
    use std::sync::atomic::Ordering::Relaxed;
    struct MemoryAgain;
    impl Drop for MemoryAgain {
        fn drop(&mut self) {
            crate::host::shm::EXHAUSTED.store(false, Relaxed);
        }
    }
    message.parse_headers();
    match message.find(b"X-Fault") {
        Some(b"panic") => panic!("asked for by X-Fault"),
        Some(b"memory") => crate::host::shm::EXHAUSTED.store(true, Relaxed),
        _ => {}
    }
    MemoryAgain
}

fn number<T>(header: Header<T>, name: &str) -> Result<Option<T>, Failure> {
    match header {
        Header::Missing => Ok(None),
        Header::Value(value) => Ok(Some(value)),
        Header::Bad => Err(Failure::bad_request(format!("unreadable {name}"))),
    }
}

fn publish_request<'a>(world: &World, message: SipMsg<'a>, sender: &'a [u8]) -> Result<publish::Request<'a>, Failure> {
    if !message.parse_headers() {
        return Err(Failure::bad_request("unreadable headers"));
    }
    let uri = message.request_uri().ok_or_else(|| Failure::bad_request("unreadable request URI"))?;
    let xavp = world.process().config.xavp;
    Ok(publish::Request {
        event: message.event(),
        user: uri.user,
        domain: uri.host,
        etag: message.sip_if_match(),
        expires: number(message.expires(), "Expires")?,
        content_type: message.content_type(),
        body: number(message.body(), "body: Content-Length is longer than the message")?,
        sender,
        priority: if xavp.is_empty() { None } else { script::xavp_int(xavp, c"priority") },
    })
}

/// # Safety
/// `msg` is a message in progress, `watcher` null or a string.
unsafe fn handle_subscribe(msg: *mut sys::sip_msg, watcher: Option<(&[u8], &[u8])>) -> c_int {
    // SAFETY: the script function's own message.
    let Some((mut world, message)) = (unsafe { state::world_for(msg) }) else { return -1 };
    world.process().last_subscription.replace(None);
    let local_contact = match world.process().config.server_address {
        b"" => message.local_contact(),
        address => address.to_vec(),
    };
    let mut routes = Vec::new();
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    let result = subscribe_request(message, watcher, &local_contact, &mut routes)
        .and_then(|request| subscribe::handle(&mut world, &request));
    match result {
        Ok(subscription) => {
            remember_subscription(&world, subscription);
            1
        }
        Err(failure) => {
            world.refuse(&failure, "SUBSCRIBE", &who(message));
            -1
        }
    }
}

/// `$subs` after `handle_subscribe`.
fn remember_subscription(world: &World, subscription: Subscription) {
    let process = world.process();
    if process.config.subs_variable {
        process.last_subscription.replace(Some(subscription));
    }
}

fn subscribe_request<'a>(
    message: SipMsg<'a>,
    watcher: Option<(&'a [u8], &'a [u8])>,
    local_contact: &'a [u8],
    routes: &'a mut Vec<u8>,
) -> Result<subscribe::Request<'a>, Failure> {
    let bad = |what: &str| Failure::bad_request(format!("missing or unreadable {what}"));
    if !message.parse_headers() {
        return Err(bad("headers"));
    }
    let uri = message.request_uri().ok_or_else(|| bad("request URI"))?;
    let from = message.from().filter(|from| !from.tag.is_empty()).ok_or_else(|| bad("From"))?;
    let to = message.to().ok_or_else(|| bad("To"))?;
    let Header::Value(contact) = message.contact() else { return Err(bad("Contact")) };
    parse_uri(contact).ok_or_else(|| bad("Contact URI"))?;
    let record_route = match message.record_routes() {
        Header::Missing => None,
        Header::Bad => return Err(bad("Record-Route")),
        Header::Value(text) => {
            *routes = text;
            Some(&routes[..])
        }
    };
    let (watcher_user, watcher_domain) = watcher.unwrap_or((from.user, from.host));
    Ok(subscribe::Request {
        event: message.event(),
        expires: number(message.expires(), "Expires")?,
        user: uri.user,
        domain: uri.host,
        to_user: to.user,
        to_domain: to.host,
        to_tag: to.tag,
        from_user: from.user,
        from_domain: from.host,
        from_tag: from.tag,
        watcher_user,
        watcher_domain,
        call_id: message.call_id().ok_or_else(|| bad("Call-ID"))?,
        cseq: message.cseq().ok_or_else(|| bad("CSeq"))?,
        contact,
        record_route,
        user_agent: message.user_agent(),
        socket: message.socket(),
        local_contact,
        flags: 0,
    })
}

/// Package and resource for a URI and an event name.
fn resource_of(world: &World, uri: &[u8], event: &[u8]) -> Option<crate::presence::resource::Resource> {
    let id = world.process().registry.packages().named(event)?;
    let parts = parse_uri(uri)?;
    Some(world.process().shared.tables.rule().resource(&crate::sip::uri::join(parts.user, parts.host), id))
}

/// Types 0, 1 and 2 of `pres_refresh_watchers`.
pub(super) fn refresh_watchers(uri: &[u8], event: &[u8], kind: i32) -> Result<(), String> {
    let mut world = state::world().ok_or("presence is not initialised")?;
    let resource = resource_of(&world, uri, event)
        .ok_or_else(|| format!("no event package {} or no URI {}", log::show(event), log::show(uri)))?;
    let done = match kind {
        0 => {
            let process = world.process();
            let (user, domain) = crate::sip::uri::split(&resource.uri);
            let has_rules = process.registry.has_rules(resource.event, user, domain);
            match refresh::standings(&mut world, &resource) {
                Ok(()) if !has_rules => return Err(format!("{} has no rules document", log::show(&resource.uri))),
                done => done,
            }
        }
        _ => refresh::documents(&mut world, &resource),
    };
    done.map_err(|error| error.to_string())
}

/// Type 2 with a file: the manipulation document was changed.
pub(super) fn refresh_hard_state(uri: &[u8], event: &[u8], file_uri: &[u8], filename: &[u8]) -> Result<(), String> {
    let mut world = state::world().ok_or("presence is not initialised")?;
    let resource = resource_of(&world, uri, event)
        .ok_or_else(|| format!("no event package {} or no URI {}", log::show(event), log::show(uri)))?;
    let (user, domain) = crate::sip::uri::split(&resource.uri);
    let document = world
        .process()
        .registry
        .manipulation_document(resource.event, user, domain, file_uri)
        .ok_or_else(|| format!("the event package has no manipulation document {}", log::show(file_uri)))?;
    refresh::hard_state(&mut world, &resource, filename, document).map_err(|error| error.to_string())
}

/// Removes what has ended, writes what is not written: what the timers do, at once.
pub(super) fn clean_up() -> Result<(), String> {
    clean();
    update();
    Ok(())
}

fn clean() {
    let Some(mut world) = state::world() else { return };
    if let Err(error) = expiry::publications(&mut world) {
        log!(Error, "cannot remove ended publications: {error}");
    }
    if let Err(error) = world.clean_watchers() {
        log!(Error, "cannot clean the watchers table: {error}");
    }
}

fn update() {
    let Some(mut world) = state::world() else { return };
    if let Err(error) = expiry::subscriptions(&mut world) {
        log!(Error, "cannot end subscriptions that ran out: {error}");
    }
    if let Err(error) = world.write_back() {
        log!(Error, "cannot write subscriptions to the database: {error}");
    }
}

fn completed(done: &tm::Completed<'_>) {
    let Some(mut world) = state::world() else { return };
    world.process().shared.senders.note_answer();
    let dialog = DialogId { call_id: done.call_id, to_tag: done.local_tag, from_tag: done.remote_tag };
    let delete = run_notify_reply(&mut world, dialog, done);
    world.notify_answered(dialog, if delete { 481 } else { done.code });
}

/// `event_route[presence:notify-reply]`; `true` when the script asked to delete the subscription.
fn run_notify_reply(world: &mut World, dialog: DialogId<'_>, done: &tm::Completed<'_>) -> bool {
    use crate::presence::ports::Ports;
    let process = world.process();
    let kept = take_kept(done.ticket);
    let Some(route) = process.notify_reply.get().filter(script::EventRoute::exists) else { return false };
    let found = kept.or_else(|| world.find_subscription(dialog).ok().flatten());
    let before = process.last_subscription.replace(found.filter(|_| process.config.subs_variable));
    let reply = if tm::is_faked(done.reply) { std::ptr::null_mut() } else { done.reply };
    super::presence_variables::with_notify_reply(reply, || route.run(std::ptr::null_mut()));
    process.last_subscription.replace(before);
    let xavp = process.config.xavp;
    !xavp.is_empty() && script::xavp_int(xavp, c"delete_subscription") == Some(1)
}

/// # Safety
/// Arguments of a tm callback in progress.
unsafe extern "C" fn kr_presence_notify_completed(cell: *mut sys::cell, _kind: c_int, params: *mut sys::tmcb_params) {
    super::entry::guarded(
        "notify_completed",
        || (),
        || {
            // SAFETY: tm's own arguments.
            if let Some(done) = unsafe { tm::completed(cell, params) } {
                completed(&done);
            }
        },
    )
}

unsafe extern "C" fn kr_presence_on_clean(_ticks: c_uint, _param: *mut c_void) {
    super::entry::guarded("clean timer", || (), clean)
}

unsafe extern "C" fn kr_presence_on_update(_ticks: c_uint, _param: *mut c_void) {
    super::entry::guarded("update timer", || (), update)
}

unsafe extern "C" fn kr_presence_on_turn(_ticks: c_uint, param: *mut c_void) {
    super::entry::guarded(
        "notifier",
        || (),
        || {
            if let Some(mut world) = state::world() {
                world.notifier_turn(param as usize as i32);
            }
        },
    )
}

/// Starts the sender processes.
fn start_senders(config: &Config) -> bool {
    (0..config.sender_processes).all(|_| {
        process::fork_worker(c"presence sender", || {
            super::entry::guarded("sender", process_pause, || {
                if let Some(process) = state::process() {
                    process.shared.senders.serve(state::world);
                }
            })
        })
    })
}

/// After a panic in a sender: no busy loop.
fn process_pause() {
    process::sleep_millis(100);
}

/// Starts the notifier processes (database-only mode).
fn start_notifiers(config: &Config) -> bool {
    let micros = 1_000_000 / config.notifier_poll_rate.max(1);
    (0..config.notifier_processes)
        .all(|index| process::fork_timer(c"Notifier", micros, kr_presence_on_turn, index as usize))
}

/// Checks the parameters, opens the database, makes the shared tables. 0, or -1 with one line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_mod_init(params: *const kr_presence_params_t) -> c_int {
    entry!(kr_presence_mod_init, -1, {
        // SAFETY: the glue's own parameter block.
        let Some(params) = (unsafe { params.as_ref() }) else { return -1 };
        match start(params) {
            Ok(()) => {
                let notifiers = state::process().map_or(0, |p| p.config.notifier_processes);
                if notifiers > 0 && !process::reserve_timers(notifiers) {
                    return -1;
                }
                let senders = state::process().map_or(0, |p| p.config.sender_processes);
                if senders > 0 && !process::reserve_workers(senders) {
                    return -1;
                }
                0
            }
            Err(why) => {
                log!(Error, "cannot start: {why}");
                -1
            }
        }
    })
}

/// Called in each process after the fork, and once before (`PROC_INIT`). 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_child_init(rank: c_int) -> c_int {
    entry!(kr_presence_child_init, -1, {
        let Some(process) = state::process() else { return -1 };
        match rank {
            process::RANK_INIT => match restore() {
                Ok(()) => 0,
                Err(why) => {
                    log!(Error, "cannot start: {why}");
                    -1
                }
            },
            process::RANK_MAIN => {
                if start_notifiers(&process.config) && start_senders(&process.config) {
                    0
                } else {
                    -1
                }
            }
            process::RANK_TCP_MAIN => 0,
            _ => {
                process::seed_private_memory();
                0
            }
        }
    })
}

/// The server ends: what is only in memory and belongs in the database is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_destroy() {
    entry!(kr_presence_destroy, (), {
        if let Some(process) = state::process() {
            if process.database.is_configured() {
                if let Err(error) = World::new(process).write_back() {
                    log!(Error, "cannot write subscriptions to the database: {error}");
                }
                process.database.disconnect();
            }
        }
    })
}

/// `handle_publish([sender_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_publish(msg: *mut sip_msg_t, sender: *const str_t) -> c_int {
    entry!(kr_presence_handle_publish, refuse_after_panic(msg), {
        // SAFETY: arguments of the script function in progress.
        unsafe { handle_publish(msg, sender) }
    })
}

/// `handle_subscribe([watcher_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe(msg: *mut sip_msg_t, watcher: *const str_t) -> c_int {
    entry!(kr_presence_handle_subscribe, refuse_after_panic(msg), {
        // SAFETY: arguments of the script function in progress.
        unsafe {
            let watcher = match view_ptr(watcher) {
                None => None,
                Some(uri) => match parse_uri(uri) {
                    Some(parts) => Some((parts.user, parts.host)),
                    None => {
                        log!(Error, "handle_subscribe: {} is no URI", log::show(uri));
                        return -1;
                    }
                },
            };
            handle_subscribe(msg, watcher)
        }
    })
}

/// `handle_subscribe` of the C API: the watcher's user and host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe_as(
    msg: *mut sip_msg_t,
    user: *const str_t,
    domain: *const str_t,
) -> c_int {
    entry!(kr_presence_handle_subscribe_as, -1, {
        // SAFETY: arguments of a call in progress.
        unsafe {
            let (user, domain) = (view_ptr(user), view_ptr(domain));
            handle_subscribe(msg, user.zip(domain))
        }
    })
}

/// `pres_auth_status(watcher_uri, presentity_uri)`: the number of the watcher's standing, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_auth_status(
    msg: *mut sip_msg_t,
    watcher: *const str_t,
    presentity: *const str_t,
) -> c_int {
    entry!(kr_presence_auth_status, -1, {
        let _ = msg;
        // SAFETY: strings of the script function in progress.
        let (watcher, presentity) = unsafe { (view_ptr(watcher), view_ptr(presentity)) };
        match (watcher, presentity) {
            (Some(watcher), Some(presentity)) => auth_status(watcher, presentity),
            _ => -1,
        }
    })
}

/// `pres_has_subscribers(presentity_uri, event)`: 1, or -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_has_subscribers(
    msg: *mut sip_msg_t,
    presentity: *const str_t,
    event: *const str_t,
) -> c_int {
    entry!(kr_presence_has_subscribers, -1, {
        let _ = msg;
        // SAFETY: strings of the script function in progress.
        let (uri, event) = unsafe { (view_ptr(presentity), view_ptr(event)) };
        let (Some(uri), Some(event), Some(mut world)) = (uri, event, state::world()) else { return -1 };
        let Some(resource) = resource_of(&world, uri, event) else {
            log!(Error, "pres_has_subscribers: no event package {} or no URI {}", log::show(event), log::show(uri));
            return -1;
        };
        use crate::presence::ports::Ports;
        match world.subscriptions(&resource) {
            Ok(list) if !list.is_empty() => 1,
            _ => -1,
        }
    })
}

/// `pres_refresh_watchers(uri, event, type[, file_uri, filename])`: 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_refresh_watchers(
    uri: *const str_t,
    event: *const str_t,
    kind: c_int,
    file_uri: *const str_t,
    filename: *const str_t,
) -> c_int {
    entry!(kr_presence_refresh_watchers, -1, {
        // SAFETY: strings of the call in progress.
        let (uri, event) = unsafe { (view_ptr(uri), view_ptr(event)) };
        let (Some(uri), Some(event)) = (uri, event) else { return -1 };
        // SAFETY: as above, or null.
        let file = unsafe { view_ptr(file_uri).zip(view_ptr(filename)) };
        let done = match (kind, file) {
            (2, Some((file_uri, filename))) => refresh_hard_state(uri, event, file_uri, filename),
            _ => refresh_watchers(uri, event, kind),
        };
        match done {
            Ok(()) => 1,
            Err(why) => {
                log!(Error, "pres_refresh_watchers: {why}");
                -1
            }
        }
    })
}

/// `pres_update_watchers(uri, event)`: 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_update_watchers(uri: *const str_t, event: *const str_t) -> c_int {
    entry!(kr_presence_update_watchers, -1, {
        // SAFETY: strings of the call in progress.
        let (uri, event) = unsafe { (view_ptr(uri), view_ptr(event)) };
        let (Some(uri), Some(event)) = (uri, event) else { return -1 };
        match refresh_watchers(uri, event, 0) {
            Ok(()) => 1,
            Err(why) => {
                log!(Error, "pres_update_watchers: {why}");
                -1
            }
        }
    })
}

/// After a panic the request is answered 500.
fn refuse_after_panic(msg: *mut sip_msg_t) -> c_int {
    // SAFETY: the message of the script function in progress.
    if let Some((mut world, message)) = unsafe { state::world_for(msg) } {
        world.refuse(&Failure::Internal("panic".into()), "request", &who(message));
    }
    -1
}

/// The number of a watcher's standing with a presentity, or -1.
pub(super) fn auth_status(watcher: &[u8], presentity: &[u8]) -> c_int {
    use crate::presence::subscription::{FIELDS, Field, Journal, Numbers, Status};
    let (Some(world), Some(watcher), Some(presentity)) = (state::world(), parse_uri(watcher), parse_uri(presentity))
    else {
        return -1;
    };
    let process = world.process();
    let Some(event) = process.registry.packages().named(b"presence") else { return -1 };
    let package = process.registry.packages().get(event);
    if !package.needs_authorization || process.config.force_active {
        return Status::Active as c_int;
    }
    let uri = crate::sip::uri::join(presentity.user, presentity.host);
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    for (field, value) in [
        (Field::PresUri, &uri[..]),
        (Field::WatcherUser, watcher.user),
        (Field::WatcherDomain, watcher.host),
        (Field::FromUser, watcher.user),
        (Field::FromDomain, watcher.host),
        (Field::ToUser, presentity.user),
        (Field::ToDomain, presentity.host),
    ] {
        fields[field as usize] = value;
    }
    let numbers = Numbers {
        event,
        status: Status::Pending,
        expires_at: 0,
        local_cseq: 0,
        remote_cseq: 0,
        version: 0,
        flags: 0,
        updated: -1,
        updated_winfo: -1,
        journal: Journal::Clean,
    };
    let Ok(subscription) = Subscription::new(numbers, &fields) else { return -1 };
    if !process.registry.has_rules(event, presentity.user, presentity.host) {
        return Status::Pending as c_int;
    }
    match process.registry.judge(event, &subscription, Status::Pending) {
        Some(standing) if standing.reason == b"polite-block" => 5,
        Some(standing) => standing.status as c_int,
        None => -1,
    }
}

thread_local! {
    static CONTACT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static TAG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a text for a caller of the C API until the next call.
fn keep(slot: &'static std::thread::LocalKey<RefCell<Vec<u8>>>, text: Vec<u8>) -> &'static [u8] {
    slot.with_borrow_mut(|kept| {
        *kept = text;
        // SAFETY: the vector stays as it is until the next call of the same API function in this process.
        unsafe { std::slice::from_raw_parts(kept.as_ptr(), kept.len()) }
    })
}

/// Our Contact, kept until the next SUBSCRIBE.
pub(super) fn keep_contact(contact: Vec<u8>) -> &'static [u8] {
    keep(&CONTACT, contact)
}

/// Our To tag, kept until the next SUBSCRIBE.
pub(super) fn keep_tag(tag: Vec<u8>) -> &'static [u8] {
    keep(&TAG, tag)
}

/// The sphere that a presentity's documents name.
pub(super) fn sphere_of(uri: &[u8]) -> Option<Vec<u8>> {
    let mut world = state::world()?;
    if !world.process().config.sphere_check {
        return None;
    }
    let resource = resource_of(&world, uri, b"presence")?;
    publish::sphere_of(&mut world, &resource).ok()?
}

/// The composed document of a presentity.
pub(super) fn document_of(uri: &[u8], event: crate::presence::event_package::PackageId) -> Option<Vec<u8>> {
    let mut world = state::world()?;
    let name = world.process().registry.packages().get(event).name;
    let resource = resource_of(&world, uri, name)?;
    crate::presence::notifier::current_body(&mut world, &resource)
}

/// A document that another module publishes.
pub(super) struct ApiDocument<'a> {
    pub(super) event: &'a [u8],
    pub(super) domain: &'a [u8],
    pub(super) user: &'a [u8],
    pub(super) etag: &'a [u8],
    pub(super) sender: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) expires: i32,
    pub(super) is_new: bool,
    pub(super) replace: bool,
}

/// `update_presentity` of the C API: stores, changes or removes a document under an entity tag that the caller chose.
pub(super) fn update_presentity(document: &ApiDocument<'_>) -> Result<(), String> {
    let mut world = state::world().ok_or("presence is not initialised")?;
    let packages = world.process().registry.packages();
    let event =
        packages.named(document.event).ok_or_else(|| format!("no event package {}", log::show(document.event)))?;
    let request = publish::Direct {
        event,
        user: document.user,
        domain: document.domain,
        etag: document.etag,
        sender: document.sender,
        body: document.body,
        expires: document.expires.max(0) as u32,
        kind: match (document.is_new, document.replace) {
            (_, true) => publish::DirectKind::Replace,
            (true, false) => publish::DirectKind::Insert,
            (false, false) => publish::DirectKind::Update,
        },
    };
    publish::direct(&mut world, &request).map_err(|error| error.to_string())
}
