//! Packed strings, and the edge to C.
#![no_main]
use kamailio_presence_fuzz::bytes::{c_text, lend, null, view, view_ptr};
use kamailio_presence_fuzz::sip::packed::Strings;
use kamailio_presence_fuzz::sys::_str;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cut = |n: usize| data.get(data.len() * n / 4..data.len() * (n + 1) / 4).unwrap_or_default();
    let parts = [cut(0), cut(1), cut(2), cut(3)];
    let packed = Strings::<3>::new(&parts);
    assert_eq!(packed.all(), parts);
    let changed = packed.with::<4>(&[(1, data)]);
    assert_eq!(changed.all(), [parts[0], data, parts[2], parts[3]]);

    let lent = lend(data);
    let negative = _str { s: lent.s, len: -(data.len() as i32) };
    let mut ended = data.to_vec();
    ended.push(0);
    // SAFETY: the strings borrow from `data` and `ended`, which stay; negative lengths and null pointers are what is
    // tried.
    unsafe {
        assert_eq!(view(&lent), data);
        assert!(view(&negative).is_empty() && view(&null()).is_empty());
        assert!(view(&_str { s: std::ptr::null_mut(), len: data.len() as i32 }).is_empty());
        assert_eq!(view_ptr(&*lent), Some(data));
        assert!(view_ptr(std::ptr::null()).is_none());
        let end = data.iter().position(|c| *c == 0).unwrap_or(data.len());
        assert_eq!(c_text(ended.as_ptr().cast()), &data[..end]);
    }
});
