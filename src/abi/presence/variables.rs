//! `$subs(attr)` and `$notify_reply(pv)`.
use crate::abi::c_types::{pv_param_t, pv_spec_t, pv_value_t, sip_msg_t, str_t};
use crate::abi::presence::state;
use crate::host::bytes::Lent;
use crate::host::bytes::{lend, view_ptr};
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::reference::command::Output;
use crate::scoped_value::ScopedValue;
use crate::sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;

/// An attribute of `$subs`: what of a subscription it shows.
#[derive(Clone, Copy)]
enum Attribute {
    /// A string of the subscription.
    Text(Field),
    /// The name of its event package.
    Event,
    /// The CSeq of the last SUBSCRIBE.
    RemoteCseq,
    /// The CSeq of the last NOTIFY.
    LocalCseq,
    /// How long it lasts.
    Expires,
    /// The authorization of its watcher.
    Status,
    /// The version of the last document.
    Version,
    /// The branch flags of the SUBSCRIBE that began it.
    Flags,
}

/// The attributes in the order of their numbers, each with its name and what the reference page says of it.
const TABLE: [(Attribute, Output); 25] = [
    (Attribute::Text(Field::PresUri), ("uri", "the presentity, as `pres_uri`")),
    (Attribute::Text(Field::PresUri), ("pres_uri", "the presentity's URI")),
    (Attribute::Text(Field::ToUser), ("to_user", "the user in To")),
    (Attribute::Text(Field::ToDomain), ("to_domain", "the host in To")),
    (Attribute::Text(Field::FromUser), ("from_user", "the user in From")),
    (Attribute::Text(Field::FromDomain), ("from_domain", "the host in From")),
    (Attribute::Text(Field::WatcherUser), ("watcher_username", "the watcher's user")),
    (Attribute::Text(Field::WatcherDomain), ("watcher_domain", "the watcher's host")),
    (Attribute::Event, ("event", "the event package")),
    (Attribute::Text(Field::EventId), ("event_id", "the id in Event")),
    (Attribute::Text(Field::ToTag), ("to_tag", "the tag in To")),
    (Attribute::Text(Field::FromTag), ("from_tag", "the tag in From")),
    (Attribute::Text(Field::CallId), ("callid", "the Call-ID")),
    (Attribute::RemoteCseq, ("remote_cseq", "the CSeq of the last SUBSCRIBE")),
    (Attribute::LocalCseq, ("local_cseq", "the CSeq of the last NOTIFY")),
    (Attribute::Text(Field::Contact), ("contact", "where NOTIFYs go")),
    (Attribute::Text(Field::LocalContact), ("local_contact", "our Contact")),
    (Attribute::Text(Field::RecordRoute), ("record_route", "the route set")),
    (Attribute::Expires, ("expires", "seconds until it ends")),
    (Attribute::Status, ("status", "the authorization: 1 active, 2 pending, 3 terminated, 4 waiting")),
    (Attribute::Text(Field::Reason), ("reason", "why it is not active")),
    (Attribute::Version, ("version", "the version of the last document")),
    (Attribute::Flags, ("flags", "the branch flags (`$bF`) that the SUBSCRIBE had which began the subscription")),
    (Attribute::Text(Field::UserAgent), ("user_agent", "the User-Agent")),
    (Attribute::Text(Field::Socket), ("sockinfo", "the socket that NOTIFYs leave from")),
];

/// The names of the attributes of `$subs`, in the order of their numbers, and what each holds.
pub const ATTRIBUTES: [Output; 25] = {
    let mut outputs = [("", ""); 25];
    let mut at = 0;
    while at < outputs.len() {
        outputs[at] = TABLE[at].1;
        at += 1;
    }
    outputs
};

enum AttributeValue {
    Text(Vec<u8>),
    Number(u32),
    Nothing,
}

fn value_of(subscription: &Subscription, attribute: Attribute) -> AttributeValue {
    let n = &subscription.state;
    match attribute {
        Attribute::Text(field) => AttributeValue::Text(subscription.get(field).to_vec()),
        Attribute::Event => state::registry()
            .map_or(AttributeValue::Nothing, |r| AttributeValue::Text(r.packages().get(n.event).name.to_vec())),
        Attribute::RemoteCseq => AttributeValue::Number(n.remote_cseq),
        Attribute::LocalCseq => AttributeValue::Number(n.local_cseq),
        Attribute::Expires => AttributeValue::Number((n.expires_at - crate::host::clock::now()).as_expires()),
        Attribute::Status => AttributeValue::Number(n.status as u32),
        Attribute::Version => AttributeValue::Number(n.version),
        Attribute::Flags => AttributeValue::Number(n.flags),
    }
}

thread_local! {
    /// Texts handed to the script last; it reads them before it asks for many more.
    static SHOWN: RefCell<[Vec<u8>; 8]> = const { RefCell::new([const { Vec::new() }; 8]) };
    static NEXT: Cell<usize> = const { Cell::new(0) };
    static NOTIFY_REPLY: RefCell<*mut sys::sip_msg> = const { RefCell::new(std::ptr::null_mut()) };
}

/// Keeps a text until some more have been shown; the script copies what it reads at once.
fn keep<T>(text: Vec<u8>, show: impl FnOnce(Lent<'_>) -> T) -> T {
    let slot = NEXT.replace((NEXT.get() + 1) % 8);
    SHOWN.with_borrow_mut(|shown| {
        shown[slot] = text;
        show(lend(&shown[slot]))
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
        // SAFETY: null, or the variable and the name that the host's parser has in hand while it calls.
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
        // SAFETY: our parser has made the name one by number, and filled this arm.
        let name = unsafe { name.isname.name };
        // SAFETY: it stored a number in the name.
        let index = unsafe { name.n } as usize;
        let (Some(process), Some((attribute, _))) = (state::process(), TABLE.get(index)) else { return out.null() };
        let shown = process.last_subscription.borrow().as_ref().map(|subscription| value_of(subscription, *attribute));
        match shown.unwrap_or(AttributeValue::Nothing) {
            // SAFETY: the text is kept until eight more were shown, and the script copies what it reads at once.
            AttributeValue::Text(text) => keep(text, |text| unsafe { out.lent(text.unbound()) }),
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
        let inner = unsafe { sys::kr_pv_parse(&mut *lend(name)) };
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
