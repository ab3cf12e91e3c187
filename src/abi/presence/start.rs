//! Start-up of `presence.so`: parameters, database, shared tables, processes.
use crate::abi::presence::answers::{
    kr_presence_on_datagram, kr_presence_on_resend, kr_presence_on_response, kr_presence_on_timeouts,
};
use crate::abi::presence::state;
use crate::abi::presence::timers::{
    kr_presence_notify_completed, kr_presence_on_beat, kr_presence_on_clean, kr_presence_on_publication_update,
    kr_presence_on_second, kr_presence_on_tick, kr_presence_on_update,
};
use crate::common::ids::Ids;
use crate::common::metrics;
use crate::host::direct::{TimerKind, call_every, take_answers_first};
use crate::host::params::ParameterBlock;
use crate::host::process::TimerProcess;
use crate::host::{direct, process, script, sl, slab, tm, warm_up};
use crate::log;
use crate::presence::composition::unreadable::Unreadable;
use crate::presence::config::modes::{self, NamedDatabase};
use crate::presence::config::{Config, NotifyEngine};
use crate::server::context::{Context, Process};
use crate::server::nodes::admission::NodeAdmission;
use crate::server::notifications::receive_buffers;
use crate::server::notify::{fan_out, named_sender, notifier_process};
use crate::server::opening;
use crate::server::packages::foreseen_body::ForeseenBody;
use crate::server::packages::prediction::Predictions;
use crate::server::settings;
use crate::server::shared::{Parts, Shared};
use crate::server::storage;
use crate::time::{Micros, Millis, Seconds};
use std::cell::{Cell, RefCell};

/// Whether the parameters make the module a server.
pub(crate) fn is_server(params: &ParameterBlock) -> bool {
    let database = if params.db_url().is_empty() { NamedDatabase::None } else { NamedDatabase::Some };
    modes::is_server(database, params.number(c"subs_db_mode"), params.number(c"publ_cache"))
}

/// Reads the parameters and makes the state of the module; called in `mod_init`.
///
/// # Errors
///
/// Fails with a sentence about the parameter, module, table or memory that keeps the module from starting.
pub(crate) fn start(commit: &'static [u8], host_version: &'static [u8]) -> Result<(), String> {
    crate::host::clock::start();
    let params = state::parameters();
    let config = settings::read(params, commit, host_version).map_err(|error| error.to_string())?;
    crate::abi::gauges::register_presence()?;
    if !sl::load() {
        return Err("the sl module must be loaded before presence".into());
    }
    if !tm::load() {
        return Err("the tm module must be loaded before presence".into());
    }
    log!(Notice, "{}", config.introduction());
    let database = opening::tables(&config, params.db_url())?;
    let admission = NodeAdmission::new(&config)?;
    let leases = opening::leases(&config, params.db_url())?;
    if config.replicates || config.shares_subscriptions {
        if !admission.has_secret() {
            log!(
                Warn,
                "cluster_secret is not set: what comes from {} is believed to come from a node of the cluster",
                if admission.is_open() { "any address that may send KDMQ" } else { "the addresses in cluster_peers" }
            );
        }
        crate::abi::presence::dmq::join(&config)?;
    }
    if config.predict_bodies {
        log!(Info, "bodies that event packages have always given as expected are made without asking them");
    }
    if config.omit_xml_check {
        log!(Info, "documents are read once: presence_xml's check of them is left out");
    }
    if config.seed_memory {
        warm_up::seed_shared_memory();
    }
    slab::start(config.shm_slab.into()).map_err(|error| error.to_string())?;
    metrics::start().map_err(|error| error.to_string())?;
    let shared = Shared::new(&config, admission).map_err(|error| error.to_string())?;
    let started = config.started;
    let parts = Parts::new(config, shared, database);
    state::set(Process {
        parts,
        storage: storage::choose(parts),
        leases,
        beating: RefCell::new(None),
        ids: RefCell::new(Ids::new(started)),
        notify_reply: Cell::new(None),
        last_subscription: RefCell::new(None),
        omitted_check: Default::default(),
        single_document_bodies: Predictions::default(),
        foreseen_body: ForeseenBody::default(),
        unreadable: Unreadable::new(crate::host::clock::random_number()),
        versions: Predictions::default(),
        turn: Cell::new(0),
        tick: Cell::new(0),
        turn_retries: Default::default(),
        rests: Default::default(),
        on_completed: kr_presence_notify_completed,
    });
    let process = state::process().ok_or("no state")?;
    start_timers(process.config)
}

/// Starts the process that beats, where there is an arbiter.
pub(crate) fn start_beating(process: &Process) -> bool {
    process.leases.is_none() || process::fork_timer(c"Presence lease", BEAT, kr_presence_on_beat, 0)
}

/// How often a lease beats.
const BEAT: Micros = Micros(1_000_000);

/// How often the wheel of NOTIFYs without tm turns: each tick of the host.
const RESEND_PERIOD: Millis = Millis(62);

/// How often NOTIFYs without tm that were not answered in time are looked for.
const TIMEOUT_PERIOD: Millis = Millis(125);

fn start_timers(config: &Config) -> Result<(), String> {
    let update_period = config.db_update_period.filter(|_| !config.keeps_what_has_ended());
    let timer = if config.secondary_timer { TimerProcess::Secondary } else { TimerProcess::Main };
    let wanted: [(Option<Seconds>, process::TimerFn); 4] = [
        (config.clean_period, kr_presence_on_clean),
        (update_period, kr_presence_on_update),
        (config.publ_update_period, kr_presence_on_publication_update),
        (Some(Seconds(1)), kr_presence_on_second),
    ];
    for (period, f) in wanted {
        if period.is_some_and(|period| !process::every(period, timer, f)) {
            return Err("cannot register a timer".into());
        }
    }
    if config.notify_engine == NotifyEngine::Tm {
        return Ok(());
    }
    // Both timers of tm: what is sent again must not wait for what a timeout leads to.
    match call_every(RESEND_PERIOD, TimerKind::Fast, kr_presence_on_resend)
        && call_every(TIMEOUT_PERIOD, TimerKind::Slow, kr_presence_on_timeouts)
    {
        true => Ok(()),
        false => Err("cannot register a timer".into()),
    }
}

/// What happens once all modules are initialised and nothing is forked yet: memory is filled from the tables.
///
/// # Errors
///
/// Fails with a sentence when the tables cannot be read, or shared memory runs out.
pub(crate) fn restore() -> Result<(), String> {
    let Some(process) = state::process() else { return Ok(()) };
    process.notify_reply.set(Some(script::EventRoute::find(c"presence:notify-reply")));
    direct::note_configuration();
    process.shared.engine.choose(process.notify_reply.get(), process.config.notify_slots);
    if process.shared.engine.may_serve() {
        // SAFETY: the module's response function, made for whatever message the host has received.
        unsafe { take_answers_first(kr_presence_on_response) };
        if process.config.notify_early_answers {
            process.shared.engine.choose_datagrams(kr_presence_on_datagram);
        }
    }
    let granted = receive_buffers::raise(process.config.receive_buffer);
    process.shared.senders.outstanding.fit(granted.map(u64::from));
    if !process.database.is_configured() {
        return Ok(());
    }
    let context = Context::new(process);
    let publications = context.storage.restore().map_err(|error| format!("cannot read the tables: {error}"))?;
    log!(Debug, "{publications} rows restored");
    process.database.disconnect();
    Ok(())
}

/// Starts the sender processes.
pub(crate) fn start_senders(config: &Config) -> bool {
    (0..config.sender_processes).all(|_| {
        process::fork_worker(c"presence sender", || {
            crate::abi::entry::guarded("sender", (), process_pause, || {
                if let Some(process) = state::process() {
                    fan_out::serve(process.shared.senders, state::context);
                }
            })
        })
    })
}

/// Starts the process that sends to targets with names.
pub(crate) fn start_named_sender(config: &Config) -> bool {
    !config.looks_names_up
        || process::fork_worker(c"presence names", || {
            crate::abi::entry::guarded("names", (), process_pause, || {
                if let Some(process) = state::process() {
                    named_sender::serve(process.shared.named_targets, state::context);
                }
            })
        })
}

/// After a panic in a sender: no busy loop.
fn process_pause() {
    process::sleep(Millis(100));
}

/// Starts the notifier processes (database-only mode).
pub(crate) fn start_notifiers(config: &Config) -> bool {
    let period = notifier_process::tick_period(config);
    (0..config.notifier_processes)
        .all(|index| process::fork_timer(c"Notifier", period, kr_presence_on_tick, index as usize))
}
