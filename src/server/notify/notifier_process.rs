//! What notifier processes do (`subs_db_mode` 3): they send the NOTIFYs of the rows that are marked for them.
use crate::host::clock;
use crate::host::db::{Op, Value};
use crate::presence::config::Config;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::notification::notifier;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::notifications::missed_changes::{Missed, MissedWatchers, OwnDialogId};
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::database::InDatabase;
use crate::time::{MicroTick, Micros};

/// How often a notifier process looks whether its node has marked rows.
const TICK: Micros = Micros(20_000);

/// The time between two turns of a notifier process.
fn turn_period(config: &Config) -> Micros {
    Micros(1_000_000 / config.notifier_poll_rate.max(1) as u64)
}

/// How often [`tick`] is called.
pub fn tick_period(config: &Config) -> Micros {
    Micros(turn_period(config).0 / ticks_between_turns(config) as u64)
}

fn ticks_between_turns(config: &Config) -> i32 {
    ((turn_period(config).0 / TICK.0) as i32).max(1)
}

/// What a notifier process (database-only mode) does at each tick: it serves the turns that this node has marked
/// rows for, those that failed, and now and then the turn whose time has come, which another node may have marked.
pub fn tick(context: &mut Context<'_>, process: i32) {
    let (state, now) = (context.process(), clock::micro_tick());
    if state.turn_retries.borrow().leaves_database_alone(now) {
        return;
    }
    let due = due_turns(context, process, now);
    for (at, turn) in due.iter().enumerate() {
        if state.turn_retries.borrow().leaves_alone(*turn, now) {
            continue;
        }
        let served = serve_turn(context, *turn);
        let mut retries = state.turn_retries.borrow_mut();
        match served {
            Ok(()) => retries.served(*turn),
            Err(StoreError::Database) => {
                retries.database_was_away(clock::micro_tick());
                due[at..].iter().for_each(|turn| context.shared.marked_turns.note(*turn as u64));
                return log_unserved(StoreError::Database);
            }
            Err(error) => {
                retries.failed(*turn, clock::micro_tick());
                log_unserved(error);
            }
        }
    }
}

/// The turns that are to be served in this tick of a process.
fn due_turns(context: &Context<'_>, process: i32, now: MicroTick) -> Vec<i32> {
    let (config, state) = (context.config, context.process());
    let turns = config.turns_of_one_process();
    let first = turns * process;
    let marked = context.shared.marked_turns.take(first as usize..(first + turns) as usize);
    let mut due: Vec<i32> = marked.into_iter().map(|turn| turn as i32).collect();
    due.extend(state.turn_retries.borrow().due(now));
    let tick = state.tick.get();
    state.tick.set((tick + 1) % ticks_between_turns(config));
    if tick == 0 {
        let turn = state.turn.get();
        state.turn.set((turn + 1) % turns.max(1));
        due.push(turn + first);
    }
    due
}

/// Notifies the watchers whose rows are marked with this turn. A row that fails keeps no other one from being
/// served, unless the database is away.
fn serve_turn(context: &mut Context<'_>, turn: i32) -> Result<(), StoreError> {
    let (table, packages) = (context.config.active_watchers_table, context.packages);
    let marked = [("updated", Op::Eq, Value::Int(i64::from(turn)))];
    let due = context.database.read(|db| active_watchers_table::select(db, table, packages, &marked))?;
    let mut served = Ok(());
    for subscription in due {
        match notify_marked(context, subscription) {
            Ok(()) => {}
            Err(StoreError::Database) => return Err(StoreError::Database),
            Err(error) => served = Err(error),
        }
    }
    served
}

/// Takes the mark off a row and notifies its watcher; another server may have been faster. Stock's servers mark
/// rows for every NOTIFY: also for the one, without a body, that follows the SUBSCRIBE of a watcher who may not see
/// the state, and for the last one, whose row they leave to the notifier.
fn notify_marked(context: &mut Context<'_>, subscription: Subscription) -> Result<(), StoreError> {
    let (store, now) = (InDatabase::new(context.parts), clock::now());
    let latest = now - context.config.expires_offset;
    let is_over = |row: &Subscription| row.state.status == Status::Terminated || row.state.expires_at < latest;
    if is_over(&subscription) {
        if store.end_over(&mut context.work.rows, subscription.clone(), is_over)? {
            expiry::ran_out(context, &subscription);
        }
        return Ok(());
    }
    if subscription.is_over(now) {
        return store.unmark(&subscription);
    }
    let resource = context.shared.tables.resource_of(&subscription);
    let dialog = OwnDialogId::of_dialog(subscription.dialog());
    match store.take_marked(subscription) {
        Ok(Some(subscription)) => {
            let notify = Notify { subscription, notify_reason: NotifyReason::Change, slot: None };
            notifier::send_alone(context, &notify);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => {
            // The mark may be off all the same.
            if error == StoreError::Database {
                context.shared.missed_changes.note(&Missed::new(&resource, MissedWatchers::One(dialog), 0));
            }
            Err(error)
        }
    }
}

/// A turn was in the way of another transaction, was refused, or there is no database now.
fn log_unserved(error: StoreError) {
    crate::limited!(Error, "a notifier process cannot take its subscriptions and tries again: {error}");
}
