//! Frames: how records cross the serial port, and how damage is detected.
//!
//! The port carries only bytes: no message boundaries, no order across a reset, and firmware or a stray process may
//! write to it, too. So each frame has a magic, the nonce of this boot, a sequence number, a length and a CRC-32. Bytes
//! outside frames are skipped and counted. A lost frame leaves a gap in the sequence and makes the whole transcript
//! untrustworthy.

use std::hash::{BuildHasher, Hasher};

const MAGIC: &[u8; 4] = b"KPVM";
/// Bytes of magic, nonce, sequence number and length.
const HEADER: usize = 20;
/// Limit of a frame in bytes; a larger length means damage.
const LONGEST: usize = 1 << 20;

/// One record: a kind and named fields of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it reports, e.g. `step-begin` (see message.rs).
    pub kind: String,
    /// In the order sent.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The bytes of a field, undecoded.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// Why a transcript cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A frame of another boot, or from a writer that does not know the nonce.
    #[error("a frame with a wrong nonce")]
    WrongNonce,
    /// The checksum does not match the bytes.
    #[error("a frame with a wrong checksum")]
    WrongChecksum,
    /// The sequence numbers have a gap: frames were lost.
    #[error("expected frame {expected}, got {got}")]
    Gap {
        /// The sequence number that should have come next.
        expected: u32,
        /// The number that came.
        got: u32,
    },
    /// The frame is intact but its content cannot be decoded.
    #[error("a frame with malformed content")]
    Malformed,
}

/// A nonce that no earlier boot had. It protects against mistakes, not against attackers.
pub fn fresh_nonce() -> u64 {
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// Cuts a byte stream into records.
#[derive(Debug)]
pub struct Parser {
    nonce: [u8; 8],
    pending: Vec<u8>,
    next: u32,
    /// What went wrong so far.
    pub faults: Vec<Fault>,
    /// Bytes that belong to no frame.
    pub skipped: usize,
}

impl Parser {
    /// For the boot with this nonce.
    pub fn new(nonce: u64) -> Self {
        Parser {
            nonce: nonce.to_be_bytes(),
            pending: Vec::new(),
            next: 0,
            faults: Vec::new(),
            skipped: 0,
        }
    }

    /// Takes bytes as they arrive and returns the records that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Record> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        let mut at = 0;
        while let Some(step) = self.step(at, &mut records) {
            at = step;
        }
        self.pending.drain(..at);
        records
    }

    /// Parses the bytes from `at` on. Returns where to continue, or `None` if more bytes are needed.
    fn step(&mut self, at: usize, records: &mut Vec<Record>) -> Option<usize> {
        let start = at + self.find_magic(at)?;
        if start > at {
            self.skipped += start - at;
            return Some(start);
        }
        let header = self.pending.get(start..start + HEADER)?;
        let len = read32(&header[16..]) as usize;
        if header[4..12] != self.nonce || len > LONGEST {
            let fault = if header[4..12] == self.nonce {
                Fault::WrongChecksum
            } else {
                Fault::WrongNonce
            };
            return Some(self.damaged(start, fault));
        }
        let end = start + HEADER + len;
        let frame = self.pending.get(start..end + 4)?;
        if crc32(&frame[4..HEADER + len]) != read32(&frame[HEADER + len..]) {
            return Some(self.damaged(start, Fault::WrongChecksum));
        }
        let (seq, record) = (read32(&frame[12..]), parse_record(&frame[HEADER..HEADER + len]));
        self.accept(seq, record, records);
        Some(end + 4)
    }

    /// The distance to the next magic, or to what may become one; `None` if there are no bytes left.
    fn find_magic(&self, at: usize) -> Option<usize> {
        let bytes = self.pending.get(at..).filter(|bytes| !bytes.is_empty())?;
        let whole = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
        Some(whole.unwrap_or_else(|| bytes.len() - longest_magic_start(bytes)))
    }

    /// Continues right behind the magic: the length cannot be trusted, and a good frame may be inside.
    fn damaged(&mut self, start: usize, fault: Fault) -> usize {
        self.faults.push(fault);
        self.skipped += MAGIC.len();
        start + MAGIC.len()
    }

    fn accept(&mut self, seq: u32, record: Option<Record>, records: &mut Vec<Record>) {
        if seq != self.next {
            self.faults.push(Fault::Gap {
                expected: self.next,
                got: seq,
            });
        }
        self.next = seq.wrapping_add(1);
        match record {
            Some(record) => records.push(record),
            None => self.faults.push(Fault::Malformed),
        }
    }
}

/// How many of the last bytes could be the start of a magic.
fn longest_magic_start(bytes: &[u8]) -> usize {
    (1..MAGIC.len())
        .rev()
        .find(|&len| bytes.ends_with(&MAGIC[..len]))
        .unwrap_or(0)
}

fn read32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Takes a length-prefixed string off the front.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = bytes.get(..4).map(read32)? as usize;
    let value = bytes.get(4..4 + len)?;
    *bytes = &bytes[4 + len..];
    Some(value)
}

fn parse_record(mut payload: &[u8]) -> Option<Record> {
    let kind = String::from_utf8(take(&mut payload)?.to_vec()).ok()?;
    let mut fields = Vec::new();
    while !payload.is_empty() {
        let key = String::from_utf8(take(&mut payload)?.to_vec()).ok()?;
        fields.push((key, take(&mut payload)?.to_vec()));
    }
    Some(Record { kind, fields })
}

/// The common CRC-32 (reflected 0xedb88320), bit by bit: records are small and few.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
        })
    })
}

#[cfg(test)]
pub mod testing {
    //! The guest's side of the channel, for tests.

    use super::*;

    /// A frame as the guest sends it.
    pub fn frame(nonce: u64, seq: u32, kind: &str, fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut add = |bytes: &[u8]| {
            payload.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            payload.extend_from_slice(bytes);
        };
        add(kind.as_bytes());
        for (key, value) in fields {
            add(key.as_bytes());
            add(value);
        }
        let mut body = nonce.to_be_bytes().to_vec();
        body.extend_from_slice(&seq.to_le_bytes());
        body.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        body.extend_from_slice(&payload);
        let crc = crc32(&body);
        [MAGIC.as_slice(), &body, &crc.to_le_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::frame;
    use super::*;

    const NONCE: u64 = 0x0011_2233_4455_6677;

    fn three() -> Vec<Vec<u8>> {
        (0..3)
            .map(|seq| frame(NONCE, seq, "alive", &[("data", b"\0KPVM\n\xff")]))
            .collect()
    }

    fn parse(bytes: &[u8]) -> (usize, Parser) {
        let mut parser = Parser::new(NONCE);
        let records = parser.push(bytes);
        (records.len(), parser)
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn frames_arrive_whole_even_byte_by_byte() {
        let mut parser = Parser::new(NONCE);
        let records: Vec<Record> = three().concat().iter().flat_map(|byte| parser.push(&[*byte])).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[2].bytes("data"), Some(b"\0KPVM\n\xff".as_slice()));
        assert_eq!(
            (parser.faults.as_slice(), parser.skipped, parser.next),
            ([].as_slice(), 0, 3)
        );
    }

    #[test]
    fn garbage_between_frames_is_skipped_and_counted() {
        let (count, parser) = parse(&three().join(b"noise KPV KP".as_slice()));
        assert_eq!((count, parser.faults.len(), parser.skipped), (3, 0, 24));
    }

    #[test]
    fn a_truncated_frame_gives_nothing() {
        let bytes = three().concat();
        let (count, parser) = parse(&bytes[..bytes.len() - 1]);
        assert_eq!((count, parser.faults.len()), (2, 0));
    }

    #[test]
    fn a_wrong_nonce_is_a_fault() {
        let (count, parser) = parse(&frame(NONCE + 1, 0, "hello", &[]));
        assert_eq!((count, parser.faults), (0, vec![Fault::WrongNonce]));
    }

    #[test]
    fn a_changed_byte_is_a_fault_and_costs_one_frame() {
        let mut frames = three();
        *frames[1].last_mut().unwrap() ^= 1;
        let (count, parser) = parse(&frames.concat());
        assert_eq!(count, 2);
        assert_eq!(parser.faults[0], Fault::WrongChecksum);
        assert!(
            parser.faults.contains(&Fault::Gap { expected: 1, got: 2 }),
            "{:?}",
            parser.faults
        );
    }

    #[test]
    fn a_lost_frame_is_a_gap() {
        let frames = three();
        let (count, parser) = parse(&[frames[0].as_slice(), &frames[2]].concat());
        assert_eq!((count, parser.faults), (2, vec![Fault::Gap { expected: 1, got: 2 }]));
    }

    #[test]
    fn an_absurd_length_does_not_wait_forever() {
        let mut bad = frame(NONCE, 0, "hello", &[]);
        bad[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let (count, parser) = parse(&[bad, frame(NONCE, 0, "hello", &[])].concat());
        assert_eq!((count, parser.faults), (1, vec![Fault::WrongChecksum]));
    }
}
