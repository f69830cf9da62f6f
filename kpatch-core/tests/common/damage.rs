//! Good files spoilt in every way that matters. The random numbers are always the same, so a failure names its round and
//! can be had again.

use std::panic::{AssertUnwindSafe, catch_unwind};

const ROUNDS: u64 = 2_000;

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A copy with one to four bytes exchanged, often for one that makes a number extreme. Half of them are exchanged where
/// the tables of the file are, at the end.
fn spoilt(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(4) {
        let from = if random.below(2) == 0 { 0 } else { bytes.len() / 2 };
        let at = from + random.below(bytes.len() - from);
        bytes[at] = match random.below(4) {
            0 => 0xff,
            1 => 0,
            2 => bytes[at] ^ (1 << random.below(8)),
            _ => random.next() as u8,
        };
    }
    bytes
}

/// Feeds a reader everything; `feed` must return.
pub fn survives(what: &str, good: &[u8], feed: impl Fn(&[u8])) {
    let run = |round: String, bytes: &[u8]| {
        let result = catch_unwind(AssertUnwindSafe(|| feed(bytes)));
        assert!(result.is_ok(), "{what}: panic, {round}");
    };
    for len in 0..good.len() {
        run(format!("the first {len} bytes"), &good[..len]);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        run(format!("round {round}"), &spoilt(good, &mut random));
    }
}
