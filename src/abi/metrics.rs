//! `presence_metrics()` and `pua_metrics()`: the page for Prometheus, as the answer to an HTTP request.
use crate::abi::c_types::sip_msg_t;
use crate::abi::presence::state;
use crate::abi::pua::state as pua_state;
use crate::common::metrics::page::{CONTENT_TYPE, MetricsPage};
use crate::host::msg::SipMsg;
use crate::host::xhttp;
use crate::limited;
use crate::server::context::Context;
use std::ffi::c_int;

/// Whether pages can be answered, asked once the modules are loaded: 0, or -1 where xhttp is not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_metrics_fixup() -> c_int {
    entry!(kr_metrics_fixup, -1, {
        if xhttp::load() {
            return 0;
        }
        crate::log!(Error, "presence_metrics and pua_metrics answer HTTP requests: load the xhttp module");
        -1
    })
}

/// `presence_metrics()`: 1, or -1 when the request could not be answered. Where pua is loaded, too, its metrics are on
/// the same page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_metrics(msg: *mut sip_msg_t) -> c_int {
    entry!(kr_presence_metrics, -1, { answer(given_message!(msg), "presence_metrics", state::context()) })
}

/// `pua_metrics()`: the page of pua alone, for servers without presence. 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_metrics(msg: *mut sip_msg_t) -> c_int {
    entry!(kr_pua_metrics, -1, { answer(given_message!(msg), "pua_metrics", None) })
}

/// Answers an HTTP request with the page of metrics. What the script function returns.
fn answer(request: Option<SipMsg<'_>>, function: &str, presence: Option<Context<'_>>) -> c_int {
    let Some(message) = request else { return -1 };
    if !xhttp::is_http(message) || !xhttp::load() {
        limited!(Error, "{function} answers HTTP requests: call it in event_route[xhttp:request], with xhttp loaded");
        return -1;
    }
    let mut page = MetricsPage::new();
    if let Some(context) = presence {
        crate::server::operator::exporter::add_metrics(&context.inventory(), &mut page);
    }
    if let Some(process) = pua_state::process() {
        crate::agent::exporter::add_metrics(process, &mut page);
    }
    if !xhttp::reply(message, CONTENT_TYPE, page.into_text().as_bytes()) {
        limited!(Error, "{function}: the answer could not be sent");
        return -1;
    }
    1
}
