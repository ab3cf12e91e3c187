//! A value that is set for a while: dropping the guard, also by a panic, brings back what was there before.
use std::cell::RefCell;

/// While it lives, `place` holds what it was set to.
pub struct ScopedValue<'a, T> {
    place: &'a RefCell<T>,
    before: Option<T>,
}

impl<'a, T> ScopedValue<'a, T> {
    /// Sets `place`.
    #[must_use]
    pub fn set(place: &'a RefCell<T>, value: T) -> ScopedValue<'a, T> {
        let scoped = ScopedValue { place, before: Some(place.replace(value)) };
        fault_point!("scoped");
        scoped
    }
}

impl<T> Drop for ScopedValue<'_, T> {
    fn drop(&mut self) {
        if let (Some(before), Ok(mut place)) = (self.before.take(), self.place.try_borrow_mut()) {
            *place = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ScopedValue;
    use std::cell::RefCell;

    #[test]
    fn what_was_there_comes_back_after_a_panic() {
        let place = RefCell::new(1);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _outer = ScopedValue::set(&place, 2);
            let _inner = ScopedValue::set(&place, 3);
            assert_eq!(*place.borrow(), 3);
            panic!("asked for by the test");
        }));
        assert_eq!(*place.borrow(), 1);
    }
}
