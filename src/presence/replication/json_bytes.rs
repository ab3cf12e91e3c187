//! Strings of SIP in the messages of nodes.
use serde_json::Value;

/// SIP allows bytes that are no UTF-8: such a string travels as numbers.
pub(crate) fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(bytes.to_vec()),
    }
}

/// The bytes of such a string; `None`: it is none.
pub(crate) fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    match value? {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(list) => list.iter().map(|n| n.as_u64().and_then(|n| u8::try_from(n).ok())).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_travel() {
        for given in [&b""[..], b"sip:a@b", "sip:\u{fc}@b".as_bytes(), b"\xff\x00\"", &[0x80; 70_000]] {
            let read: Value = serde_json::from_str(&text(given).to_string()).unwrap();
            assert_eq!(bytes(Some(&read)).as_deref(), Some(given));
        }
        for wrong in ["[256]", "[-1]", "[\"a\"]", "7", "null"] {
            assert_eq!(bytes(serde_json::from_str::<Value>(wrong).ok().as_ref()), None, "{wrong}");
        }
        assert_eq!(bytes(None), None);
    }
}
