//! The branch of a request of ours (RFC 3261 8.1.1.7): it leads to the transaction by its number, and nobody can guess
//! it.
use crate::shm_safe::shm_safe;
use crate::sip::text::{hex_digits, hex_digits_of_half};

/// What every branch of RFC 3261 begins with, and a letter that is no hexadecimal digit: the host's tm, whose branches
/// go on with one, knows at once that this one is not its own.
const START: &[u8] = b"z9hG4bKn";

/// The longest branch, in bytes.
const LONGEST: usize = START.len() + 8 + 1 + 8 + 1 + 16;

/// A branch of ours.
#[derive(Debug, Clone, Copy)]
pub struct Branch {
    text: [u8; LONGEST],
    len: usize,
}

impl Branch {
    /// The branch's text.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// Appends a number and what stands behind it: its hexadecimal digits without the zeros before the first one; the
    /// last one is always written.
    #[inline]
    fn push_number(&mut self, digits: [u8; 8], number: u32, behind: u8) {
        let zeros = (number | 1).leading_zeros() / 4;
        let digits = u64::from_be_bytes(digits) << (8 * zeros);
        self.text[self.len..self.len + 8].copy_from_slice(&digits.to_be_bytes());
        self.len += 8 - zeros as usize;
        self.text[self.len] = behind;
        self.len += 1;
    }
}

/// Which transaction a branch belongs to: a place, and how often it had been used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionKey {
    /// The place of the transaction.
    pub slot: u32,
    /// How many transactions had that place before.
    pub generation: u32,
}

/// The secret that branches are made with: without it no branch can be made that is taken for ours.
#[derive(Debug, Clone, Copy)]
pub struct BranchSecret(pub [u64; 2]);

shm_safe!(BranchSecret(value));

/// What a branch was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchOrigin {
    /// Made with this secret.
    Ours(TransactionKey),
    /// The branch looks like one of ours, and was not made with this secret.
    Forged,
    /// Another one.
    Foreign,
}

impl BranchSecret {
    /// The branch of a transaction.
    pub fn branch(&self, key: TransactionKey) -> Branch {
        let mut branch = Branch { text: [0; LONGEST], len: START.len() };
        branch.text[..START.len()].copy_from_slice(START);
        branch.push_number(hex_digits_of_half(key.slot), key.slot, b'.');
        branch.push_number(hex_digits_of_half(key.generation), key.generation, b'.');
        branch.text[branch.len..branch.len + 16].copy_from_slice(&hex_digits(self.seal(key)));
        branch.len += 16;
        branch
    }

    /// Whose branch this is.
    #[inline]
    pub fn origin(&self, branch: &[u8]) -> BranchOrigin {
        let Some(rest) = branch.strip_prefix(START) else { return BranchOrigin::Foreign };
        let Some((slot, rest)) = number_before_dot(rest) else { return BranchOrigin::Forged };
        let Some((generation, seal)) = number_before_dot(rest) else { return BranchOrigin::Forged };
        let key = TransactionKey { slot, generation };
        // One number is compared with another: how long that takes says nothing about either.
        let is_sealed = |seal: &[u8; 16]| {
            let as_number = u128::from_ne_bytes;
            let expected = as_number(hex_digits(self.seal(key)));
            as_number(*seal) == expected || as_number(seal.map(|c| c.to_ascii_lowercase())) == expected
        };
        match seal.try_into().is_ok_and(is_sealed) {
            true => BranchOrigin::Ours(key),
            false => BranchOrigin::Forged,
        }
    }

    fn seal(&self, key: TransactionKey) -> u64 {
        sip_hash(self.0, (u64::from(key.slot) << 32) | u64::from(key.generation))
    }
}

/// What each hexadecimal digit stands for; 16 and more for what is none.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The number of 1 to 8 hexadecimal digits that a text begins with, and what is behind the dot behind it.
#[inline]
fn number_before_dot(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0;
    for (at, c) in text.iter().enumerate().take(9) {
        let digit = DIGITS[usize::from(*c)];
        if digit > 15 {
            return (*c == b'.' && at > 0).then(|| (number, &text[at + 1..]));
        }
        if at == 8 {
            break;
        }
        number = (number << 4) | u32::from(digit);
    }
    None
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of the eight bytes of `word`, lowest first.
fn sip_hash(key: [u64; 2], word: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last block holds the length alone: all eight bytes are in the first one.
    for block in [word, 8 << 56] {
        v[3] ^= block;
        round(&mut v);
        round(&mut v);
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn branch(secret: BranchSecret, key: TransactionKey) -> String {
        String::from_utf8(secret.branch(key).bytes().to_vec()).unwrap()
    }

    const SECRET: BranchSecret = BranchSecret([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    #[test]
    fn the_hash_is_that_of_its_authors() {
        // The ninth of the vectors that come with the reference implementation: bytes 0 to 7.
        assert_eq!(sip_hash(SECRET.0, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn other_branches_are_distinguished() {
        let ours = branch(SECRET, TransactionKey { slot: 1, generation: 2 });
        let cases = [
            ("", BranchOrigin::Foreign),
            ("z9hG4bK", BranchOrigin::Foreign),
            ("z9hG4bK77ef.4c1b.0", BranchOrigin::Foreign),
            ("z9hG4bKn", BranchOrigin::Forged),
            ("z9hG4bKn1.2", BranchOrigin::Forged),
            ("z9hG4bKn1.2.0000000000000000", BranchOrigin::Forged),
            ("z9hG4bKn1ffffffff.2.0000000000000000", BranchOrigin::Forged),
            ("z9hG4bKnx.2.0000000000000000", BranchOrigin::Forged),
        ];
        for (branch, origin) in cases {
            assert_eq!(SECRET.origin(branch.as_bytes()), origin, "{branch}");
        }
        for changed in [format!("{ours}0"), format!("{ours}.0"), ours.replacen("n1.", "n2.", 1), ours.to_uppercase()] {
            assert!(!matches!(SECRET.origin(changed.as_bytes()), BranchOrigin::Ours(_)), "{changed}");
        }
        // A server that was started anew has another secret.
        assert_eq!(BranchSecret([1, 2]).origin(ours.as_bytes()), BranchOrigin::Forged);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::with_cases(256)
        })]
        #[test]
        fn a_branch_leads_to_its_transaction(slot: u32, generation: u32, secret: [u64; 2]) {
            let (key, secret) = (TransactionKey { slot, generation }, BranchSecret(secret));
            let branch = branch(secret, key);
            prop_assert!(branch.len() <= LONGEST);
            prop_assert_eq!(secret.origin(branch.as_bytes()), BranchOrigin::Ours(key));
            // Some peers change the case of letters.
            let (start, rest) = branch.split_at(START.len());
            let changed = format!("{start}{}", rest.to_uppercase());
            prop_assert_eq!(secret.origin(changed.as_bytes()), BranchOrigin::Ours(key));
        }
    }
}
