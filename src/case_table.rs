//! Tables of tests: each row is a test of its own, with a name, so that the one that fails is seen by its name and the
//! rows can be counted (`make test-core`).

/// `table! { function: name => row; ... }`: the function is called with each row, by a test of the row's name.
macro_rules! table {
    ($check:ident: $($name:ident => $row:expr;)+) => {
        mod $check {
            #[allow(unused_imports, reason = "a table of plain values needs nothing of its module")]
            use super::*;
            $(
                #[test]
                fn $name() {
                    super::$check($row);
                }
            )+
        }
    };
}
