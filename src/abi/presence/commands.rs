//! The RPC commands of `presence.so`.
use super::{explain_rpc, history_rpc, operator_rpc, rpc};
use crate::reference::command::{Answer, Output, command};

const PUBLICATION: [Output; 11] = [
    ("user", "the presentity's user"),
    ("domain", "the presentity's host"),
    ("event", "the event package"),
    ("etag", "the entity tag"),
    ("sender", "the Contact that gets no NOTIFY of it; empty: every watcher does"),
    ("expires", "when it ends, seconds since 1970"),
    ("received_time", "full: when it was published, seconds since 1970"),
    ("priority", "full: its priority"),
    ("ruid", "full: the id of its row"),
    ("body", "full: the document"),
    ("hashid", "full: the hash of user and domain"),
];

const WATCHER: [Output; 22] = [
    ("pres_uri", "the presentity"),
    ("to_user", "the user in To"),
    ("to_domain", "the host in To"),
    ("from_user", "the user in From"),
    ("from_domain", "the host in From"),
    ("watcher_user", "the watcher's user"),
    ("watcher_domain", "the watcher's host"),
    ("event", "the event package"),
    ("expires", "when it ends, seconds since 1970"),
    ("status", "the authorization: 1 active, 2 pending, 3 terminated, 4 waiting"),
    ("event_id", "full: the id in Event"),
    ("to_tag", "full: the tag in To"),
    ("from_tag", "full: the tag in From"),
    ("callid", "full: the Call-ID"),
    ("remote_cseq", "full: the CSeq of the last SUBSCRIBE"),
    ("local_cseq", "full: the CSeq of the last NOTIFY"),
    ("contact", "full: where NOTIFYs go"),
    ("local_contact", "full: our Contact"),
    ("record_route", "full: the route set"),
    ("reason", "full: why it is not active"),
    ("user_agent", "full: the User-Agent"),
    ("version", "full: the version of the last document"),
];

const SUBSCRIPTION: [Output; 14] = [
    ("watcher", "the watcher's URI"),
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("status", "active, pending, terminated or waiting"),
    ("reason", "why it is not active"),
    ("left", "seconds until it ends"),
    ("age", "seconds since it began; with `subs_db_mode` 3 since this server saw it"),
    ("contact", "where NOTIFYs go"),
    ("callid", "the Call-ID"),
    ("cseq", "the CSeq of the next NOTIFY"),
    ("version", "the version of the last document"),
    ("user_agent", "the User-Agent"),
    ("node", "the node that serves it, where nodes share subscriptions and it is another one"),
    ("count", "with `count=1`, the only field: how many there are"),
];

const STEP: [Output; 23] = [
    ("time", "when, in local time to the millisecond, and how long ago"),
    ("what", "published, composed, notified, answered or ended"),
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("at", "when, seconds since 1970"),
    ("watcher", "notified, answered, ended: the watcher's URI"),
    ("how", "published: new, modified, refreshed, removed, ran out; composed, notified: why"),
    ("etag", "published: the entity tag"),
    ("sender", "published: the Contact that gets no NOTIFY of it"),
    ("expires", "published: seconds"),
    ("bytes", "published, composed, notified: the size of the document"),
    ("body_crc32", "published, composed, notified: CRC-32 of the document in hexadecimal digits"),
    ("cseq", "notified, answered: the CSeq of the NOTIFY; ended: the one that the next would have had"),
    ("last_answer", "notified, ended: how the NOTIFY was answered"),
    ("answer", "answered: the code; 408: there was no answer"),
    ("answer_took", "answered: after how long"),
    ("because", "ended: why, a sentence"),
    ("ended", "ended: when, seconds since 1970"),
    ("ended_time", "ended: the same in local time, and how long ago"),
    ("contact", "ended: where NOTIFYs went"),
    ("flow", "ended: from our socket to the contact"),
    ("callid", "ended: the Call-ID"),
    ("count", "with `count=1`, the only field: how many there are"),
];

const EXPLANATION: [Output; 20] = [
    ("because", "why the watcher gets documents or none: a sentence"),
    ("watcher", "the watcher's URI"),
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("status", "of a subscription: active, pending, terminated or waiting"),
    ("left", "of a subscription: seconds until it ends"),
    ("contact", "where NOTIFYs go"),
    ("callid", "the Call-ID"),
    ("node", "the node that serves it, where it is another one; the fields of NOTIFYs are then left out"),
    ("cseq", "the CSeq of the next NOTIFY"),
    ("version", "the version of the last document"),
    ("last_notify", "when the last NOTIFY was sent, seconds since 1970; 0: never since the start"),
    ("last_notify_time", "the same in local time, and how long ago"),
    ("last_answer", "how that NOTIFY was answered, and how long it took while the history remembers"),
    ("last_failure", "the code of the last answer that was no 2xx; 0: none"),
    ("body_crc32", "CRC-32 of the last document in hexadecimal digits; empty: it had none"),
    ("ended", "of a subscription that has ended: when, seconds since 1970"),
    ("ended_time", "the same in local time, and how long ago"),
    ("flow", "of a subscription that has ended: from our socket to the contact"),
    ("next", "what to do next"),
];

const CATALOGUE: [Output; 11] = [
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("etag", "the entity tag, which `presence.publication_expire` asks for"),
    ("sender", "the Contact that gets no NOTIFY of it"),
    ("left", "seconds until it ends; -1: it does not"),
    ("received_time", "when it was published, in local time, and how long ago"),
    ("received", "the same in seconds since 1970"),
    ("priority", "its priority"),
    ("bytes", "the size of the document"),
    ("body_crc32", "CRC-32 of the document in hexadecimal digits"),
    ("count", "with `count=1`, the only field: how many there are"),
];

const FAILING: [Output; 8] = [
    ("watcher", "the watcher's URI"),
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("contact", "where the NOTIFY went"),
    ("answer", "the code of the answer; 408: there was none"),
    ("last_notify", "when it was sent, seconds since 1970"),
    ("ended", "of a subscription that it ended: when, seconds since 1970"),
    ("refused_row", "of a row that the database refuses: its table"),
];

const BUSIEST: [Output; 4] = [
    ("presentity", "the presentity's URI"),
    ("event", "the event package"),
    ("watchers", "its subscriptions"),
    ("changes", "changes since the server started"),
];

const IDENTITY: [Output; 8] = [
    ("name", "kamailio-presence"),
    ("version", "the version of the module"),
    ("commit", "the commit that it was built from"),
    ("kamailio", "the version of Kamailio that it was built for"),
    ("subscriptions", "where they live: memory, write-through, write-back or database"),
    ("publications", "where they live: database, cached or memory"),
    ("events", "the event packages"),
    ("started", "when the server started, seconds since 1970"),
];

const DRAIN: [Output; 2] =
    [("subscriptions", "how many there are when it begins"), ("seconds", "the time over which their ends are spread")];

commands! {
    /// The commands of `presence.so`, in the order of the reference page.
    COMMANDS;
    /// Does at once what the timers do: removes what has expired, and writes what is not written.
    rpc::kr_presence_rpc_cleanup = command(c"presence.cleanup").answer(Answer::Text("`Reload OK`"));
    /// Notifies the watchers of a presentity, as `pres_refresh_watchers()` does. Types: 0 the rules changed, 1 the
    /// documents changed, 2 the manipulation document changed.
    rpc::kr_presence_rpc_refresh_watchers = command(c"presence.refreshWatchers")
        .arguments("uri event type [file_uri filename]")
        .example("kamcmd presence.refreshWatchers sip:alice@example.org presence 0");
    /// Evaluates the rules for the watchers of a presentity again, as `pres_update_watchers()` does. Where they
    /// cannot be evaluated, as with a presentity that has none, the answer is 500, and the log says why.
    rpc::kr_presence_rpc_update_watchers = command(c"presence.updateWatchers").arguments("uri event")
        .example("kamcmd presence.updateWatchers sip:alice@example.org presence");
    /// Lists the publications in memory (`publ_cache` 2); `presence.publications` lists those of every mode.
    rpc::kr_presence_rpc_presentity_list = command(c"presence.presentity_list").arguments("[full|basic]")
        .answer(Answer::Many(&PUBLICATION)).example("kamcmd presence.presentity_list full");
    /// Shows the publications in memory (`publ_cache` 2) of one presentity; 404 when there is none. Those of every mode
    /// are in `presence.publications`.
    rpc::kr_presence_rpc_presentity_show = command(c"presence.presentity_show").arguments("uri [full|basic]")
        .answer(Answer::Many(&PUBLICATION)).example("kamcmd presence.presentity_show sip:alice@example.org");
    /// Lists the subscriptions to a presentity.
    rpc::kr_presence_rpc_watcher_list = command(c"presence.watcher_list").arguments("uri [full|basic]")
        .answer(Answer::Many(&WATCHER)).example("kamcmd presence.watcher_list sip:alice@example.org full");
    /// Reads again which presentities have rows (`publ_cache` 1).
    rpc::kr_presence_rpc_publish_cache_sync = command(c"presence.publish_cache_sync");
    /// Lists subscriptions in a stable order, 100 unless `limit` (1 to 1000) says otherwise. Users are written as
    /// `bob`, `bob@host` or `sip:bob@host`. `older` and `younger` are seconds. A `-` before a name in `sort` puts the
    /// largest first; `count=1` answers how many there are.
    operator_rpc::kr_presence_rpc_subscriptions = command(c"presence.subscriptions")
        .arguments("[watcher=uri] [presentity=uri] [event=name] [status=active|pending|terminated|waiting] \
            [older=seconds] [younger=seconds] [sort=[-]watcher|presentity|event|status|left|age] [offset=n] \
            [limit=1..1000] [count=1]")
        .answer(Answer::Many(&SUBSCRIPTION)).ours("1.0.0")
        .example("kamcmd presence.subscriptions watcher=sip:bob@example.org event=dialog");
    /// Says why a watcher gets documents or none, and what to do next. Users are written as `bob`, `bob@host` or
    /// `sip:bob@host`, in any case; without an event all events of the pair are explained.
    explain_rpc::kr_presence_rpc_explain = command(c"presence.explain").arguments("watcher presentity [event]")
        .answer(Answer::Many(&EXPLANATION)).ours("1.0.0").example("kamcmd presence.explain bob alice dialog");
    /// Shows the last steps of lamps in the order in which they happened, 50 unless `limit` (1 to 1000) says otherwise;
    /// `offset` leaves out that many of the newest. With a watcher, the changes of every presentity that it watches are
    /// shown with its NOTIFYs. `what` selects one kind of step: `published`, `composed`, `notified`, `answered` or
    /// `ended`; `count=1` answers how many there are.
    history_rpc::kr_presence_rpc_history = command(c"presence.history")
        .arguments("[watcher=user] [presentity=user] [event=name] [what=step] [offset=n] [limit=1..1000] [count=1]")
        .answer(Answer::Many(&STEP)).ours("1.0.0")
        .example("kamcmd presence.history watcher=bob presentity=alice event=dialog");
    /// Lists the publications in every storage mode, in a stable order, 100 unless `limit` (1 to 1000) says otherwise.
    /// A `-` before a name in `sort` puts the last first; `count=1` answers how many there are.
    history_rpc::kr_presence_rpc_publications = command(c"presence.publications")
        .arguments("[presentity=user] [event=name] [sort=[-]presentity|event] [offset=n] [limit=1..1000] [count=1]")
        .answer(Answer::Many(&CATALOGUE)).ours("1.0.0")
        .example("kamcmd presence.publications presentity=alice event=dialog");
    /// Shows watchers whose last NOTIFY failed, then those whose NOTIFY ended their subscription, then rows that the
    /// database refuses; 10 of each unless a number (1 to 1000) is given.
    operator_rpc::kr_presence_rpc_failing = command(c"presence.failing").arguments("[how many]")
        .answer(Answer::Many(&FAILING)).ours("1.0.0").example("kamcmd presence.failing 20");
    /// Shows the presentities with the most watchers: 10 unless a number (1 to 1000) is given.
    operator_rpc::kr_presence_rpc_busiest = command(c"presence.busiest").arguments("[how many]")
        .answer(Answer::Many(&BUSIEST)).ours("1.0.0").example("kamcmd presence.busiest 20");
    /// Ends subscriptions with one last NOTIFY. Each of the first three parameters may be `.` for all, but not watcher
    /// and presentity both. Reasons: deactivated (the default), timeout, rejected, noresource, giveup, probation. 404
    /// when no subscription fits.
    operator_rpc::kr_presence_rpc_subscription_end = command(c"presence.subscription_end")
        .arguments("watcher presentity event [reason] [retry-after]")
        .answer(Answer::One(&[("ended", "how many were ended")])).ours("1.0.0")
        .example("kamcmd presence.subscription_end sip:bob@example.org . dialog");
    /// Removes a publication and notifies the watchers; 404 when there is none with this entity tag.
    operator_rpc::kr_presence_rpc_publication_expire = command(c"presence.publication_expire")
        .arguments("presentity event etag").ours("1.0.0")
        .example("kamcmd presence.publication_expire sip:alice@example.org presence a.1795619174.4711.1.0");
    /// Ends all subscriptions with reason deactivated, spread over a time, so that phones subscribe elsewhere.
    operator_rpc::kr_presence_rpc_drain = command(c"presence.drain").arguments("[seconds]")
        .answer(Answer::One(&DRAIN)).ours("1.0.0").example("kamcmd presence.drain 60");
    /// Shows the parameters and the values in force.
    operator_rpc::kr_presence_rpc_config = command(c"presence.config").answer(Answer::Settings).ours("1.0.0")
        .example("kamcmd presence.config");
    /// Shows which module this is; the stock module does not know the command.
    operator_rpc::kr_presence_rpc_version = command(c"presence.version").answer(Answer::One(&IDENTITY)).ours("1.0.0")
        .example("kamcmd presence.version");
}
