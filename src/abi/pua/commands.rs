//! The RPC commands of `pua.so`.
use super::rpc::{kr_pua_rpc_cleanup, kr_pua_rpc_config, kr_pua_rpc_list};
use crate::reference::command::{Answer, Output, command};

const RECORD: [Output; 10] = [
    ("kind", "publication or subscription"),
    ("presentity", "the presentity's URI"),
    ("id", "the id under which the module keeps it"),
    ("watcher", "the watcher's URI"),
    ("event", "the event package"),
    ("left", "seconds until it ends on the server"),
    ("wanted", "seconds for which it is kept alive; -1: without end"),
    ("etag", "the entity tag"),
    ("callid", "the Call-ID"),
    ("version", "the version of the last document"),
];

commands! {
    /// The commands of `pua.so`, in the order of the reference page.
    COMMANDS;
    /// Removes what has expired and writes what is not written.
    kr_pua_rpc_cleanup = command(c"pua.cleanup");
    /// Lists the publications and subscriptions that are kept alive. Limits are 1 to 1000, 100 by default; a page ends
    /// at 24,000 bytes.
    kr_pua_rpc_list = command(c"pua.list").arguments("[presentity, or . for all] [offset] [limit]")
        .answer(Answer::Many(&RECORD)).ours("1.0.0").example("kamcmd pua.list sip:alice@example.org");
    /// Shows the parameters and the values in force.
    kr_pua_rpc_config = command(c"pua.config").answer(Answer::Settings).ours("1.0.0").example("kamcmd pua.config");
}
