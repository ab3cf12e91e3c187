//! What may live in shared memory: values that mean the same in every process of the server. A pointer into the private
//! memory of one process is the worst that could stand there, for the others would follow it.

/// May live in shared memory: nothing in it leads to the private memory of a process.
///
/// [`shm_safe!`] implements it, and has the compiler look at each field: that is the whole argument. For what leads to
/// memory by a pointer the argument is made by hand, in `host`.
///
/// # Safety
///
/// Every process of the server may read the value, and follow what it leads to, at the address at which it was made.
pub unsafe trait ShmSafe {
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
        #[allow(unsafe_code, reason = "the compiler looks at each field")]
        // SAFETY: the function below compiles only where each field may live in shared memory.
        unsafe impl $crate::shm_safe::ShmSafe for $kind {
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
        #[allow(unsafe_code, reason = "the compiler looks at each field")]
        // SAFETY: the function below compiles only where each field may live in shared memory.
        unsafe impl $(<$($bounds)*>)? $crate::shm_safe::ShmSafe for $kind $(<$($parameter),+>)? {
            fn every_field_is_safe(&self) {
                let $kind { $($field),* } = self;
                $($crate::shm_safe::is_safe($field);)*
            }
        }
    };
    ($([$($bounds:tt)*])? $kind:ident $(<$($parameter:ident),+>)? ($($place:ident),*)) => {
        #[allow(unsafe_code, reason = "the compiler looks at each field")]
        // SAFETY: the function below compiles only where each field may live in shared memory.
        unsafe impl $(<$($bounds)*>)? $crate::shm_safe::ShmSafe for $kind $(<$($parameter),+>)? {
            fn every_field_is_safe(&self) {
                let $kind($($place),*) = self;
                $($crate::shm_safe::is_safe($place);)*
            }
        }
    };
}
pub(crate) use shm_safe;

macro_rules! plain_values {
    ($($kind:ty),+ $(,)?) => { $(
        // SAFETY: a plain value leads nowhere.
        unsafe impl ShmSafe for $kind {}
    )+ };
}

plain_values! {
    (), bool, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f64,
    std::sync::atomic::AtomicBool, std::sync::atomic::AtomicU8, std::sync::atomic::AtomicU32,
    std::sync::atomic::AtomicU64, std::sync::atomic::AtomicUsize, std::sync::atomic::AtomicI64,
    std::sync::atomic::AtomicI32, std::num::NonZeroU16, std::num::NonZeroU32, std::num::NonZeroU64,
}

// SAFETY: so many values that may live there, side by side.
unsafe impl<T: ShmSafe> ShmSafe for [T] {}
// SAFETY: as a slice.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {}
// SAFETY: a value that may live there, or none.
unsafe impl<T: ShmSafe> ShmSafe for Option<T> {}
// SAFETY: as the value that it holds once it is made; before that it is not read.
unsafe impl<T: ShmSafe> ShmSafe for std::mem::MaybeUninit<T> {}
// SAFETY: there is nothing in it.
unsafe impl<T: ?Sized> ShmSafe for std::marker::PhantomData<T> {}
// SAFETY: both parts may live there.
unsafe impl<A: ShmSafe, B: ShmSafe> ShmSafe for (A, B) {}
// SAFETY: all three parts may live there.
unsafe impl<A: ShmSafe, B: ShmSafe, C: ShmSafe> ShmSafe for (A, B, C) {}
