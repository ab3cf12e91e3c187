//! Functions that other modules registered with the user agent, and the structures they get.
use crate::host::bytes::{lend, null, view_ptr};
use crate::host::pkg::{PkgBlock, PkgStr};
use crate::host::tm::TmReply;
use crate::pua::error::RequestError;
use crate::pua::event::Processed;
use crate::pua::event::{Event, Processing};
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::pua::pending_request::{Claim, PendingRequest};
use crate::pua::record::RecordField;
use crate::pua::request::{Request, RequestField};
use crate::sys;
use crate::time::Moment;
use std::cell::RefCell;
use std::ffi::{c_char, c_void};

/// A function that makes a body ready (`evs_process_body_t`).
pub type BodyFunction = unsafe extern "C" fn(*mut sys::publ_info, *mut *mut sys::_str, i32, *mut *mut sys::_str) -> i32;

/// A function that is called with answers (`pua_cb`).
pub type AnswerFunction = unsafe extern "C" fn(*mut sys::ua_pres, *mut sys::sip_msg) -> i32;

/// Events and callbacks. Modules register them while the server starts, before any process is forked.
#[derive(Default)]
pub struct CallbackRegistry {
    events: RefCell<Vec<Event>>,
    bodies: RefCell<Vec<BodyFunction>>,
    answers: RefCell<Vec<(SourceFlags, AnswerFunction)>>,
}

impl CallbackRegistry {
    /// The events there are from the start.
    pub fn with_events(events: Vec<Event>) -> CallbackRegistry {
        CallbackRegistry { events: RefCell::new(events), ..CallbackRegistry::default() }
    }

    /// The event with this flag.
    pub fn event(&self, flag: EventFlags) -> Option<Event> {
        self.events.borrow().iter().rfind(|event| event.flag == flag).cloned()
    }

    /// Adds an event; one of the same name stays as it is.
    pub fn add_event(&self, flag: EventFlags, name: &[u8], content_type: &[u8], body: Option<BodyFunction>) {
        if self.events.borrow().iter().any(|event| event.name == name) {
            return;
        }
        let processing = match body {
            None => Processing::AsIs,
            Some(function) => {
                self.bodies.borrow_mut().push(function);
                Processing::Foreign(self.bodies.borrow().len() - 1)
            }
        };
        self.events.borrow_mut().push(Event { flag, name: name.into(), content_type: content_type.into(), processing });
    }

    /// Adds a function that is called with the answers to requests with any of these source flags.
    pub fn add_answer(&self, types: SourceFlags, function: AnswerFunction) {
        self.answers.borrow_mut().push((types, function));
    }

    /// Asks another module to make a body ready.
    ///
    /// # Errors
    ///
    /// Fails with `BadBody` when no function is registered under `index`, or when that function refuses the body.
    pub fn process_foreign(
        &self,
        index: usize,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, RequestError> {
        let bad = || RequestError::BadBody("its module refused it".into());
        let function = self.bodies.borrow().get(index).copied().ok_or_else(bad)?;
        let mut uri = lend(request.get(RequestField::PresUri));
        let mut body = lend(request.get(RequestField::Body));
        let mut headers = lend(request.get(RequestField::ExtraHeaders));
        let mut info = sys::publ_info {
            id: lend(request.get(RequestField::Id)).unbound(),
            pres_uri: &mut *uri,
            body: &mut *body,
            expires: request.options.expires.number() as i32,
            source_flag: request.options.flag.word(),
            event: request.options.event.word(),
            content_type: lend(request.get(RequestField::ContentType)).unbound(),
            extra_headers: &mut *headers,
            ..Default::default()
        };
        let (mut made, mut tuple) = (std::ptr::null_mut(), private_text(tuple_id));
        // SAFETY: the structures and what they refer to live in this frame.
        let done = unsafe { function(&mut info, &mut made, version as i32, &mut tuple) };
        // SAFETY: the tuple is private memory, ours or the function's, which leaves it to its caller.
        let tuple_id = unsafe { PkgStr::from_raw(tuple, None) }.map(|id| id.bytes().to_vec()).unwrap_or_default();
        if done < 0 {
            return Err(bad());
        }
        let body = match done {
            // SAFETY: at 0 the body is the one that was given to the function, in this frame.
            0 => unsafe { view_ptr(made) }.map(<[u8]>::to_vec),
            // SAFETY: above 0 it is a private `str` that its caller frees, with characters of libxml2.
            _ => unsafe { PkgStr::from_raw(made, Some(free_of_libxml)) }.map(|body| body.bytes().to_vec()),
        };
        body.map(|body| Processed { body, tuple_id }).ok_or_else(bad)
    }

    /// Calls the callbacks of these callers with the outcome of what was sent.
    pub fn report(&self, claims: &[Claim], pending: &PendingRequest, reply: TmReply<'_>) {
        for claim in claims {
            // A callback may register nothing, but it may publish: the list is not borrowed while it runs.
            let answers = self.answers.borrow();
            let wanted = answers.iter().rev().filter(|(types, _)| types.share_any(claim.callback_flag));
            let wanted: Vec<AnswerFunction> = wanted.map(|(_, function)| *function).collect();
            drop(answers);
            for function in wanted {
                with_ua_pres(pending, claim, |entity| {
                    // SAFETY: the structure lives during the call; the reply is the caller's.
                    unsafe { function(entity, reply.raw()) };
                });
            }
        }
    }
}

/// The characters of a text that libxml2 has written.
unsafe extern "C" fn free_of_libxml(text: *mut c_char) {
    entry!(free_of_libxml, {
        // SAFETY: the host's way to libxml2's `xmlFree`, for what libxml2 allocated.
        unsafe { sys::kr_xml_free(text as *mut c_void) }
    })
}

/// Private memory of the host with a copy of `text`, behind a `str` that is private, too; null for an empty text.
pub fn private_text(text: &[u8]) -> *mut sys::_str {
    if text.is_empty() { std::ptr::null_mut() } else { private_copy(text) }
}

/// As [`private_text`], but an empty text is one without characters; null without memory.
pub fn private_copy(text: &[u8]) -> *mut sys::_str {
    PkgStr::new(text).map_or(std::ptr::null_mut(), PkgStr::into_raw)
}

/// A linked list of private texts (`list_entry_t`), as callers of `get_subs_list` free it.
pub fn private_list(texts: &[Vec<u8>]) -> *mut sys::list_entry {
    let mut head: *mut sys::list_entry = std::ptr::null_mut();
    for text in texts.iter().rev().filter(|text| !text.is_empty()) {
        let Some(text) = PkgStr::new(text) else { continue };
        let Some(entry) = PkgBlock::of(sys::list_entry { strng: text.as_ptr(), next: head }) else { break };
        // The entry holds it from here on.
        text.into_raw();
        head = entry.into_raw();
    }
    head
}

/// The record of a pending request as callbacks see it (`ua_pres_t`).
fn with_ua_pres(pending: &PendingRequest, claim: &Claim, call: impl FnOnce(*mut sys::ua_pres)) {
    let (request, record) = (&pending.request, &pending.record);
    let or_null = |text: &[u8]| if text.is_empty() { null() } else { lend(text).unbound() };
    let mut uri = lend(record.get(RecordField::PresUri));
    let mut watcher = lend(record.get(RecordField::WatcherUri));
    let mut proxy = lend(request.get(RequestField::OutboundProxy));
    let mut headers = lend(request.get(RequestField::ExtraHeaders));
    let mut body = lend(record.get(RecordField::Body));
    let present = |text: &mut sys::_str| if text.len > 0 { text as *mut _ } else { std::ptr::null_mut() };
    let mut entity = sys::ua_pres {
        id: or_null(record.get(RecordField::Id)),
        pres_uri: &mut *uri,
        event: record.state.event.word(),
        desired_expires: record.state.desired_until.moment().map_or(0, Moment::seconds) as u32,
        flag: claim.callback_flag.word(),
        cb_param: claim.cb_param as *mut c_void,
        ua_flag: 0,
        outbound_proxy: present(&mut proxy),
        etag: or_null(record.get(RecordField::Etag)),
        tuple_id: or_null(record.get(RecordField::TupleId)),
        body: if request.options.has_body { present(&mut body) } else { std::ptr::null_mut() },
        content_type: or_null(request.get(RequestField::ContentType)),
        watcher_uri: present(&mut watcher),
        call_id: or_null(record.get(RecordField::CallId)),
        to_tag: or_null(record.get(RecordField::ToTag)),
        from_tag: or_null(record.get(RecordField::FromTag)),
        cseq: record.state.cseq as i32,
        version: record.state.version as i32,
        extra_headers: present(&mut headers),
        record_route: or_null(record.get(RecordField::RecordRoute)),
        remote_contact: or_null(record.get(RecordField::RemoteContact)),
        contact: or_null(record.get(RecordField::Contact)),
        ..Default::default()
    };
    call(&mut entity);
}
