//! RPC answers (`core/rpc.h`).
use super::bytes::{lend, view};
use crate::sys;
use crate::time::{Expiry, Lifetime, Moment, Seconds};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_void};

/// How long an argument may be, in bytes.
const LONGEST_ARGUMENT: usize = 4096;

/// What a transport reads an argument with.
type ScanFunction = unsafe extern "C" fn(*mut c_void, *mut c_char, ...) -> c_int;

/// One RPC call in progress.
pub struct Rpc {
    raw: *mut sys::rpc,
    ctx: *mut c_void,
    /// The arguments that no command has asked for yet.
    arguments: RefCell<VecDeque<Vec<u8>>>,
}

/// A structure inside the answer of a call.
#[derive(Clone, Copy)]
pub struct Struct<'a> {
    rpc: &'a Rpc,
    handle: *mut c_void,
}

impl Rpc {
    /// # Safety
    /// The arguments of an RPC function in progress.
    pub unsafe fn new(raw: *mut sys::rpc, ctx: *mut c_void) -> Option<Rpc> {
        (!raw.is_null()).then_some(Rpc { raw, ctx, arguments: RefCell::default() })
    }

    fn f(&self) -> &sys::rpc {
        // SAFETY: `new` was promised a live call.
        unsafe { &*self.raw }
    }

    /// Reads all arguments, at most `most` of them, before anything is done: a command that cannot be carried out as it
    /// was given is not carried out at all. Empty ones beyond them say nothing: scripts write them where they have no
    /// value for what another command takes.
    ///
    /// # Errors
    ///
    /// Fails with a sentence when one of them is no text and no number, or is too long, or there are too many.
    pub fn read_arguments(&self, most: usize) -> Result<(), String> {
        let mut arguments = self.arguments.borrow_mut();
        let mut number = 1;
        while let Some(argument) = self.scan(number)? {
            number += 1;
            if arguments.len() == most && argument.is_empty() {
                continue;
            }
            if arguments.len() == most {
                return Err(match most {
                    0 => "too many parameters: none is allowed".into(),
                    1 => "too many parameters: 1 is allowed".into(),
                    most => format!("too many parameters: {most} are allowed"),
                });
            }
            arguments.push_back(argument);
        }
        Ok(())
    }

    /// Ends the call with an error.
    pub fn fault(&self, code: i32, text: &CStr) {
        if let Some(fault) = self.f().fault {
            // SAFETY: `%s` with a NUL-terminated text.
            unsafe { fault(self.ctx, code, c"%s".as_ptr() as *mut _, text.as_ptr()) };
        }
    }

    /// The next argument from the transport, as text; `None` when there are no more.
    fn scan(&self, number: usize) -> Result<Option<Vec<u8>>, String> {
        let Some(scan) = self.f().scan else { return Ok(None) };
        let found = match self.f().capabilities {
            Some(_) => self.scan_converted(scan, number)?,
            None => self.scan_typed(scan),
        };
        match found {
            Some(argument) if argument.len() > LONGEST_ARGUMENT => {
                Err(format!("parameter {number} is longer than {LONGEST_ARGUMENT} bytes"))
            }
            found => Ok(found),
        }
    }

    /// From a transport that makes a text of each number (jsonrpcs, xmlrpc).
    fn scan_converted(&self, scan: ScanFunction, number: usize) -> Result<Option<Vec<u8>>, String> {
        // Where there are no more arguments, jsonrpcs leaves this as it is; where one is of another type, it clears it.
        let mut found = lend(b"untouched");
        // SAFETY: `*S` fills one `str` and may find nothing; `.` converts numbers to text.
        if unsafe { scan(self.ctx, c"*.S".as_ptr() as *mut _, &mut *found as *mut sys::_str) } == 1 {
            // SAFETY: the transport has filled in a text of the request.
            return Ok(Some(unsafe { view(&found) }.to_vec()));
        }
        if found.s.is_null() { Err(format!("parameter {number} is neither a text nor a number")) } else { Ok(None) }
    }

    /// From ctl, which loses a number with a fraction when it is asked for a text, as if there were no more arguments;
    /// asked for one type after the other it loses nothing.
    fn scan_typed(&self, scan: ScanFunction) -> Option<Vec<u8>> {
        let mut text = super::bytes::null();
        // SAFETY: `*S` fills one `str` and may find nothing.
        if unsafe { scan(self.ctx, c"*S".as_ptr() as *mut _, &mut text as *mut sys::_str) } == 1 {
            // SAFETY: the transport has filled in a text of the request.
            return Some(unsafe { view(&text) }.to_vec());
        }
        let mut whole: c_int = 0;
        // SAFETY: `*d` fills one int and may find nothing.
        if unsafe { scan(self.ctx, c"*d".as_ptr() as *mut _, &mut whole as *mut c_int) } == 1 {
            return Some(whole.to_string().into_bytes());
        }
        let mut number: f64 = 0.0;
        // SAFETY: `*f` fills one double and may find nothing.
        let is_read = unsafe { scan(self.ctx, c"*f".as_ptr() as *mut _, &mut number as *mut f64) } == 1;
        is_read.then(|| number.to_string().into_bytes())
    }

    /// The next argument as text, of those that were read; `None` when there are no more.
    pub fn text(&self) -> Option<Vec<u8>> {
        self.arguments.borrow_mut().pop_front()
    }

    /// The arguments from the next one on.
    pub fn texts(&self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(|| self.text())
    }

    /// Adds a text to the answer.
    pub fn add_text(&self, text: &[u8]) {
        if let Some(add) = self.f().add {
            // SAFETY: `S` takes a pointer to a `str`.
            unsafe { add(self.ctx, c"S".as_ptr() as *mut _, &*lend(text) as *const sys::_str) };
        }
    }

    /// Adds a structure to the answer.
    pub fn add_struct(&self) -> Option<Struct<'_>> {
        let add = self.f().add?;
        let mut handle: *mut c_void = std::ptr::null_mut();
        // SAFETY: the format `{` makes the host fill exactly one handle, which is a local variable.
        let done = unsafe { add(self.ctx, c"{".as_ptr() as *mut _, &mut handle as *mut *mut c_void) };
        (done >= 0 && !handle.is_null()).then_some(Struct { rpc: self, handle })
    }
}

impl Struct<'_> {
    /// Adds a text.
    pub fn text(&self, name: &'static CStr, value: &[u8]) -> &Self {
        if let Some(add) = self.rpc.f().struct_add {
            // SAFETY: `S` takes a name and a pointer to a `str`.
            unsafe { add(self.handle, c"S".as_ptr() as *mut _, name.as_ptr(), &*lend(value) as *const sys::_str) };
        }
        self
    }

    /// Adds an interval in seconds.
    pub fn seconds(&self, name: &'static CStr, time: Seconds) -> &Self {
        self.int(name, time.0)
    }

    /// Adds a moment as seconds since 1970; 0 where there is none.
    pub fn moment(&self, name: &'static CStr, at: Option<Moment>) -> &Self {
        self.int(name, at.map_or(0, Moment::seconds))
    }

    /// Adds when something ends, as seconds since 1970; -1 where it never does.
    pub fn expiry(&self, name: &'static CStr, end: Expiry) -> &Self {
        self.int(name, end.moment().map_or(-1, Moment::seconds))
    }

    /// Adds for how long something was accepted: 0 where that has no meaning, -1 for ever.
    pub fn lifetime(&self, name: &'static CStr, lifetime: Option<Lifetime>) -> &Self {
        let number = match lifetime {
            None => 0,
            Some(Lifetime::Bounded(seconds)) => seconds.into(),
            Some(Lifetime::Forever) => -1,
        };
        self.int(name, number)
    }

    /// Adds a number.
    pub fn int(&self, name: &'static CStr, value: i64) -> &Self {
        if let Some(add) = self.rpc.f().struct_add {
            // SAFETY: `d` takes a name and an int.
            unsafe { add(self.handle, c"d".as_ptr() as *mut _, name.as_ptr(), value as i32) };
        }
        self
    }
}
