//! `$subs(attr)` and `$notify_reply(pv)`.
use crate::abi::c_types::{pv_param_t, pv_spec_t, pv_value_t, sip_msg_t, str_t};
use crate::abi::presence::state;
use crate::host::bytes::{lend, view_ptr};
use crate::presence::subscription::Subscription;
use crate::presence::subscription_field::Field;
use crate::reference::command::Output;
use crate::scoped_value::ScopedValue;
use crate::sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;

/// The attributes of `$subs`, in the order of their numbers, and what each holds.
pub const ATTRIBUTES: [Output; 25] = [
    ("uri", "the presentity, as `pres_uri`"),
    ("pres_uri", "the presentity's URI"),
    ("to_user", "the user in To"),
    ("to_domain", "the host in To"),
    ("from_user", "the user in From"),
    ("from_domain", "the host in From"),
    ("watcher_username", "the watcher's user"),
    ("watcher_domain", "the watcher's host"),
    ("event", "the event package"),
    ("event_id", "the id in Event"),
    ("to_tag", "the tag in To"),
    ("from_tag", "the tag in From"),
    ("callid", "the Call-ID"),
    ("remote_cseq", "the CSeq of the last SUBSCRIBE"),
    ("local_cseq", "the CSeq of the last NOTIFY"),
    ("contact", "where NOTIFYs go"),
    ("local_contact", "our Contact"),
    ("record_route", "the route set"),
    ("expires", "seconds until it ends"),
    ("status", "the authorization: 1 active, 2 pending, 3 terminated, 4 waiting"),
    ("reason", "why it is not active"),
    ("version", "the version of the last document"),
    ("flags", "the branch flags (`$bF`) that the SUBSCRIBE had which began the subscription"),
    ("user_agent", "the User-Agent"),
    ("sockinfo", "the socket that NOTIFYs leave from"),
];

enum AttributeValue {
    Text(Vec<u8>),
    Number(u32),
    Nothing,
}

fn attribute(subscription: &Subscription, index: usize) -> AttributeValue {
    let n = &subscription.state;
    let text = |field| AttributeValue::Text(subscription.get(field).to_vec());
    match ATTRIBUTES.get(index).map_or("", |(name, _)| name) {
        "uri" | "pres_uri" => text(Field::PresUri),
        "to_user" => text(Field::ToUser),
        "to_domain" => text(Field::ToDomain),
        "from_user" => text(Field::FromUser),
        "from_domain" => text(Field::FromDomain),
        "watcher_username" => text(Field::WatcherUser),
        "watcher_domain" => text(Field::WatcherDomain),
        "event" => state::registry()
            .map_or(AttributeValue::Nothing, |r| AttributeValue::Text(r.packages().get(n.event).name.to_vec())),
        "event_id" => text(Field::EventId),
        "to_tag" => text(Field::ToTag),
        "from_tag" => text(Field::FromTag),
        "callid" => text(Field::CallId),
        "remote_cseq" => AttributeValue::Number(n.remote_cseq),
        "local_cseq" => AttributeValue::Number(n.local_cseq),
        "contact" => text(Field::Contact),
        "local_contact" => text(Field::LocalContact),
        "record_route" => text(Field::RecordRoute),
        "expires" => AttributeValue::Number((n.expires_at - crate::host::clock::now()).as_expires()),
        "status" => AttributeValue::Number(n.status as u32),
        "reason" => text(Field::Reason),
        "version" => AttributeValue::Number(n.version),
        "flags" => AttributeValue::Number(n.flags),
        "user_agent" => text(Field::UserAgent),
        "sockinfo" => text(Field::Socket),
        _ => AttributeValue::Nothing,
    }
}

thread_local! {
    /// Texts handed to the script last; it reads them before it asks for many more.
    static SHOWN: RefCell<[Vec<u8>; 8]> = const { RefCell::new([const { Vec::new() }; 8]) };
    static NEXT: Cell<usize> = const { Cell::new(0) };
    static NOTIFY_REPLY: RefCell<*mut sys::sip_msg> = const { RefCell::new(std::ptr::null_mut()) };
}

/// Keeps a text until some more have been shown; the script copies what it reads at once.
fn keep(text: Vec<u8>) -> sys::_str {
    let slot = NEXT.replace((NEXT.get() + 1) % 8);
    SHOWN.with_borrow_mut(|shown| {
        shown[slot] = text;
        lend(&shown[slot])
    })
}

/// Runs `work` while `$notify_reply` shows `reply`.
///
/// # Safety
/// `reply` is null, the host's mark for none, or lives until `work` is done.
pub(crate) unsafe fn with_notify_reply(reply: *mut sys::sip_msg, work: impl FnOnce()) {
    NOTIFY_REPLY.with(|place| {
        let _shown = ScopedValue::set(place, reply);
        work();
    });
}

/// Parses the name inside `$subs(...)`: 0, or -1 for an unknown attribute.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_parse_subs(spec: *mut pv_spec_t, name: *mut str_t) -> c_int {
    entry!(kr_presence_pv_parse_subs, -1, {
        // SAFETY: arguments of the host's parser.
        let (Some(spec), Some(name)) = (unsafe { spec.as_mut() }, unsafe { view_ptr(name) }) else { return -1 };
        let Some(index) = ATTRIBUTES.iter().position(|(known, _)| known.as_bytes() == name.trim_ascii()) else {
            crate::log!(Error, "unknown attribute $subs({})", crate::host::log::show(name));
            return -1;
        };
        spec.pvp.pvn.type_ = sys::PV_NAME_INTSTR as c_int;
        spec.pvp.pvn.u.isname.type_ = 0;
        spec.pvp.pvn.u.isname.name.n = index as _;
        0
    })
}

/// The value of `$subs(...)`: `$null` where there is no subscription in hand.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_subs(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_subs, -1, {
        let out = getter!(msg, param, result);
        // SAFETY: a variable that our parser has read.
        let name = unsafe { (*param).pvn.u };
        // SAFETY: the parser stored a name.
        let name = unsafe { name.isname.name };
        // SAFETY: it stored a number in the name.
        let index = unsafe { name.n } as usize;
        let Some(process) = state::process() else { return out.null() };
        let answer =
            process.last_subscription.borrow().as_ref().map_or(AttributeValue::Nothing, |s| attribute(s, index));
        match answer {
            // SAFETY: the text is kept until eight more were shown, and the script copies what it reads at once.
            AttributeValue::Text(text) => unsafe { out.lent(keep(text)) },
            AttributeValue::Number(number) => out.number(number),
            AttributeValue::Nothing => out.null(),
        }
    })
}

/// Parses the variable inside `$notify_reply(...)`: 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_parse_notify_reply(spec: *mut pv_spec_t, name: *mut str_t) -> c_int {
    entry!(kr_presence_pv_parse_notify_reply, -1, {
        // SAFETY: the specification that the host's parser makes, and nobody else sees yet.
        let Some(spec) = (unsafe { spec.as_mut() }) else { return -1 };
        // SAFETY: the text of the variable's name.
        let Some(name) = (unsafe { view_ptr(name) }) else { return -1 };
        // SAFETY: the host reads the name; what it returns lives in its cache.
        let inner = unsafe { sys::kr_pv_parse(&mut lend(name)) };
        if inner.is_null() {
            crate::log!(Error, "unknown variable in $notify_reply({})", crate::host::log::show(name));
            return -1;
        }
        spec.pvp.pvn.type_ = sys::PV_NAME_PVAR as c_int;
        spec.pvp.pvn.u.dname = inner as *mut _;
        0
    })
}

/// The value of `$notify_reply(...)`: `$null` outside of `event_route[presence:notify-reply]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_notify_reply(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_notify_reply, -1, {
        let reply = NOTIFY_REPLY.with_borrow(|reply| *reply);
        if reply.is_null() {
            return getter!(msg, param, result).null();
        }
        // SAFETY: a variable that our parser has read.
        let name = unsafe { (*param).pvn.u };
        // SAFETY: the parser stored the inner variable in the name.
        let inner = unsafe { name.dname } as *mut _;
        // SAFETY: the reply is set while the event route runs, and the inner variable lives in the host's cache.
        unsafe { sys::kr_pv_inner(reply, inner, result) }
    })
}
