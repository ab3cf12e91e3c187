//! The choice of the node that goes on for one that is lost.

/// FNV-1a: every node has to come to the same number, whatever its build.
pub fn common_hash(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Which of the nodes that are left goes on with a record when its owner is lost (rendezvous hashing): each node comes
/// to the same answer, and the records of one owner go to all others alike. `turn` counts up while nobody does, so that
/// the next candidate steps in.
pub fn successor<'a>(nodes: &[&'a [u8]], record: &[&[u8]], turn: usize) -> Option<&'a [u8]> {
    let candidates = candidates(nodes, record);
    candidates.get(turn % candidates.len().max(1)).copied()
}

/// The nodes in the order in which they would go on with a record.
pub fn candidates<'a>(nodes: &[&'a [u8]], record: &[&[u8]]) -> Vec<&'a [u8]> {
    let mut candidates: Vec<&[u8]> = nodes.to_vec();
    candidates.sort_by_cached_key(|name| {
        let mut parts = record.to_vec();
        parts.push(name);
        common_hash(&parts)
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_take_like_parts_and_agree() {
        let nodes: [&[u8]; 3] = [b"a:1", b"b:2", b"c:3"];
        let turned: [&[u8]; 3] = [b"c:3", b"a:1", b"b:2"];
        let mut counts = [0; 3];
        for n in 0..300 {
            let call_id = format!("call-{n}");
            let record: [&[u8]; 3] = [call_id.as_bytes(), b"t", b"f"];
            let first = successor(&nodes, &record, 0).unwrap();
            assert_eq!(Some(first), successor(&turned, &record, 0));
            assert_ne!(Some(first), successor(&nodes, &record, 1));
            counts[nodes.iter().position(|name| *name == first).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        assert_eq!(successor(&[], &[b"c"], 0), None);
    }
}
