//! The sockets the host listens on, by the names it gives them.
use super::bytes::lend;
use crate::sys;
use std::cell::RefCell;
use std::num::NonZeroUsize;

/// More names than a host has sockets.
const KEPT: usize = 32;

thread_local! {
    /// Names that were looked up in this process: sockets stay where they are while the host runs.
    static KNOWN: RefCell<Vec<(Vec<u8>, *mut sys::socket_info)>> = const { RefCell::new(Vec::new()) };
}

/// Whether the server listens there; the name is like `udp:127.0.0.1:5060`.
pub fn is_listening(name: &[u8]) -> bool {
    !find(name).is_null()
}

/// Has each UDP socket keep up to `bytes` that no worker has read yet, or as many as the system allows; none keeps less
/// than before, and without a number they stay as they are. Returns what the smallest has then; `None` where there is
/// no UDP socket. Call it before processes fork.
pub fn raise_receive_buffers(bytes: Option<NonZeroUsize>) -> Option<u32> {
    let bytes = bytes.map_or(0, |bytes| i32::try_from(bytes.get()).unwrap_or(i32::MAX));
    // SAFETY: options of the host's own sockets are read and set.
    u32::try_from(unsafe { sys::kr_raise_receive_buffers(bytes) }).ok()
}

/// The socket of a name like `udp:127.0.0.1:5060`; null when there is none.
pub(super) fn find(name: &[u8]) -> *mut sys::socket_info {
    let known = |known: &RefCell<Vec<(Vec<u8>, *mut sys::socket_info)>>| {
        known.borrow().iter().find(|(cached, _)| cached == name).map(|(_, socket)| *socket)
    };
    if let Some(socket) = KNOWN.with(known) {
        return socket;
    }
    // The host's parser wants a NUL behind the text.
    let text = [name, &[0]].concat();
    // SAFETY: the text is only read, and only as far as its length or its NUL.
    let socket = unsafe { sys::kr_find_socket(&mut *lend(&text[..name.len()])) };
    if !socket.is_null() {
        KNOWN.with(|known| {
            remember(&mut known.borrow_mut(), (name.to_vec(), socket));
        });
    }
    socket
}

/// Adds what was looked up of one more socket to what is known; where there is no room, all of that is forgotten.
pub(super) fn remember<T>(known: &mut Vec<T>, found: T) {
    if known.len() == KEPT {
        known.clear();
    }
    known.push(found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_names_is_remembered() {
        let mut known = Vec::new();
        let lengths: Vec<usize> = (0..KEPT + 2).map(|n| (remember(&mut known, n), known.len()).1).collect();
        assert_eq!(lengths, (1..=KEPT).chain([1, 2]).collect::<Vec<_>>());
        assert_eq!(known, [KEPT, KEPT + 1]);
    }
}
