//! What may live in shared memory: values that mean the same in every process of the server. A pointer into the private
//! memory of one process is the worst that could stand there, for the others would follow it.

/// May live in shared memory: nothing in it leads to the private memory of a process.
///
/// [`shm_safe!`] implements it, and looks at each field. It is written by hand only here and in `host`, which
/// `tests/layering` checks.
pub trait ShmSafe {
    /// Is never called: that it compiles is what it is for.
    #[doc(hidden)]
    fn every_field_is_safe(&self) {}
}

/// Compiles for what may live in shared memory.
#[doc(hidden)]
pub fn is_safe<T: ShmSafe + ?Sized>(_: &T) {}

/// Says that a type may live in shared memory, and has the compiler look at each of its fields. The fields are named;
/// one that is left out does not compile.
///
/// `shm_safe!(Node { name, state })`, `shm_safe!(NodeId(id))`, `shm_safe!(enum Phase { Idle, Sent(at) })`; type
/// parameters come first: `shm_safe!([B: ShmSafe] Record<B> { state, strings })`.
macro_rules! shm_safe {
    (enum $kind:ident { $($variant:ident $(($($place:ident),*))? $({ $($field:ident),* $(,)? })?),+ $(,)? }) => {
        impl $crate::shm_safe::ShmSafe for $kind {
            fn every_field_is_safe(&self) {
                match self {
                    $($kind::$variant $(($($place),*))? $({ $($field),* })? => {
                        $($($crate::shm_safe::is_safe($place);)*)?
                        $($($crate::shm_safe::is_safe($field);)*)?
                    })+
                }
            }
        }
    };
    ($([$($bounds:tt)*])? $kind:ident $(<$($parameter:ident),+>)? { $($field:ident),* $(,)? }) => {
        impl $(<$($bounds)*>)? $crate::shm_safe::ShmSafe for $kind $(<$($parameter),+>)? {
            fn every_field_is_safe(&self) {
                let $kind { $($field),* } = self;
                $($crate::shm_safe::is_safe($field);)*
            }
        }
    };
    ($([$($bounds:tt)*])? $kind:ident $(<$($parameter:ident),+>)? ($($place:ident),*)) => {
        impl $(<$($bounds)*>)? $crate::shm_safe::ShmSafe for $kind $(<$($parameter),+>)? {
            fn every_field_is_safe(&self) {
                let $kind($($place),*) = self;
                $($crate::shm_safe::is_safe($place);)*
            }
        }
    };
}
pub(crate) use shm_safe;

macro_rules! plain_values {
    ($($kind:ty),+ $(,)?) => { $(impl ShmSafe for $kind {})+ };
}

plain_values! {
    (), bool, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f64,
    std::sync::atomic::AtomicBool, std::sync::atomic::AtomicU8, std::sync::atomic::AtomicU32,
    std::sync::atomic::AtomicU64, std::sync::atomic::AtomicUsize, std::sync::atomic::AtomicI64,
    std::sync::atomic::AtomicI32, std::num::NonZeroU16, std::num::NonZeroU32, std::num::NonZeroU64,
}

impl<T: ShmSafe> ShmSafe for [T] {}
impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {}
impl<T: ShmSafe> ShmSafe for Option<T> {}
impl<T: ShmSafe> ShmSafe for std::mem::MaybeUninit<T> {}
impl<T: ?Sized> ShmSafe for std::marker::PhantomData<T> {}
impl<A: ShmSafe, B: ShmSafe> ShmSafe for (A, B) {}
impl<A: ShmSafe, B: ShmSafe, C: ShmSafe> ShmSafe for (A, B, C) {}
