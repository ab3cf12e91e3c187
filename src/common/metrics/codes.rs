//! The label `code`: a bounded set of status codes. What is answered seldom is counted with its class.

/// What has a label of its own, the most frequent first.
const OWN: [u16; 31] = [
    200, 202, 481, 408, 404, 412, 403, 500, 503, 400, 401, 405, 410, 413, 414, 415, 423, 480, 482, 486, 488, 489, 301,
    302, 501, 502, 504, 600, 603, 604, 606,
];

/// Classes, from 2xx on, and the end of a request without an answer.
const OTHERS: [&str; 6] = ["2xx", "3xx", "4xx", "5xx", "6xx", "timeout"];

/// How many labels there are.
pub const CODES: usize = OWN.len() + OTHERS.len();

/// The place of a request that nobody answered.
pub const TIMEOUT: usize = CODES - 1;

/// The place of a status code.
pub fn place(code: u16) -> usize {
    OWN.iter().position(|own| *own == code).unwrap_or(OWN.len() + usize::from(code / 100).clamp(2, 6) - 2)
}

/// The label of a place.
pub fn label(place: usize) -> String {
    match OWN.get(place) {
        Some(code) => code.to_string(),
        None => OTHERS[(place - OWN.len()).min(OTHERS.len() - 1)].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_label() {
        let shown = [200, 481, 499, 299, 399, 550, 606, 699, 100, 999].map(|code| label(place(code)));
        assert_eq!(shown, ["200", "481", "4xx", "2xx", "3xx", "5xx", "606", "6xx", "2xx", "6xx"]);
        assert_eq!(label(TIMEOUT), "timeout");
        assert!((0..=u16::MAX).all(|code| place(code) < TIMEOUT));
    }
}
