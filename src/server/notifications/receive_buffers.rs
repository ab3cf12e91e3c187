//! The receive buffers of the UDP sockets, in which the kernel keeps answers to NOTIFYs.
use crate::host::sockets;
use crate::log;
use std::num::NonZeroUsize;

/// A buffer below this is full after less than a thousand answers to NOTIFYs, in bytes.
const SMALL_BUFFER: usize = 1 << 20;

/// Answers to a large fan-out come faster than they are read: the kernel keeps them meanwhile, as far as it may.
/// Returns what the smallest holds, in bytes.
pub fn raise(wanted: Option<NonZeroUsize>) -> Option<u32> {
    let granted = sockets::raise_receive_buffers(wanted);
    match (granted, wanted) {
        (Some(granted), Some(wanted)) if (granted as usize) < SMALL_BUFFER.min(wanted.get()) => log!(
            Warn,
            "the receive buffers of UDP sockets hold {granted} bytes, receive_buffer asks for {wanted}: answers to \
             many NOTIFYs may be lost (sysctl net.core.rmem_max)"
        ),
        (Some(granted), Some(_)) => log!(Info, "the receive buffers of UDP sockets hold {granted} bytes at least"),
        (None, _) | (_, None) => {}
    }
    granted
}
