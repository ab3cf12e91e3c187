//! The points at which test builds can be made to fail (`host/fault.rs`).

/// A point at which test builds can be made to fail; an empty block in others, which clippy 1.85 sees as a statement.
macro_rules! fault_point {
    ($name:literal) => {{
        #[cfg(feature = "fault-injection")]
        $crate::host::fault::at($name);
    }};
    (statement $name:literal) => {{
        #[cfg(feature = "fault-injection")]
        $crate::host::fault::at_statement($name)?;
    }};
}
