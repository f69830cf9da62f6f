//! The kernel's own table of its symbols, decoded from an image that has no symbol table.
//!
//! Nothing says where the table is, so its parts are found by what they must look like, and then checked against each
//! other. scripts/kallsyms.c, `write_src`, writes them with an alignment of 8 bytes in this order:
//!
//! * 6.1 to 6.3: offsets, relative base, number, names, markers, (from 6.2 on, and in later releases of 6.1: sequence),
//!   token table, token index;
//! * 6.4 and later: number, names, markers, token table, token index, offsets, relative base, sequence.
//!
//! A name is a length (one byte, or two if it is over 127: ULEB128) and that many codes. Each code stands for the text
//! that the token table has for it. The first character of the text is the type that `nm` prints. Each 256th name has
//! its offset in the markers. An entry of the sequence has 4 bytes in 6.2 and 3 bytes later.
//!
//! An offset is relative to the base (kernel/kallsyms.c, `kallsyms_sym_address`): where CONFIG_KALLSYMS_ABSOLUTE_PERCPU is
//! set (x86-64 with SMP, until 6.14) a negative one stands for base - 1 - offset and others for themselves, elsewhere all
//! are added to the base. Only one of the two gives addresses in ascending order.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

/// One row, as /proc/kallsyms shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Address as linked.
    pub address: u64,
    /// The letter that `nm` prints for its type; of per-CPU symbols `A`.
    pub kind: u8,
    /// Name.
    pub name: String,
}

/// Codes of a name.
const CODES: usize = 256;
/// Symbols between two markers.
const STRIDE: usize = 256;
/// No kernel has fewer symbols or more; anything else is no number of symbols.
const PLAUSIBLE: std::ops::Range<usize> = 256..4_000_000;
/// How many names are looked at before a place is taken seriously.
const SAMPLE: usize = 64;
/// How many places are taken seriously. A kernel has one; a file that was made to have many would take for ever.
const ATTEMPTS: usize = 64;
/// Longest name with its type (include/linux/kallsyms.h, `KSYM_NAME_LEN`).
const LONGEST: usize = 513;

/// Decodes the table that lies somewhere in `data`, the bytes of one section of the image. `None` if there is none. The
/// rows have the order of the table, which is that in which livepatch counts.
///
/// # Errors
/// There is a table that contradicts itself, or more than one.
pub fn decode(data: &[u8]) -> Result<Option<Vec<Row>>, String> {
    let (mut found, mut attempts) = (Vec::new(), ATTEMPTS);
    for index in (0..data.len().saturating_sub(2 * CODES - 1)).step_by(8) {
        if let Some(tokens) = Tokens::at(data, index) {
            found.extend(tables(data, &tokens, &mut attempts)?);
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        n => Err(format!("it has {n} tables of symbols")),
    }
}

/// The token table and what lies around it.
struct Tokens<'d> {
    texts: Vec<&'d [u8]>,
    /// Where the token table starts.
    start: usize,
    /// Where the token index ends.
    end: usize,
}

impl<'d> Tokens<'d> {
    /// Reads the token table in front of the token index at `index`, if one is there.
    fn at(data: &'d [u8], index: usize) -> Option<Self> {
        // Most places are ruled out by two numbers.
        let entry = |number: usize| u16_at(data, index + 2 * number).map(usize::from);
        if entry(0)? != 0 || !(2..=LONGEST).contains(&entry(1)?) {
            return None;
        }
        let offsets: Option<Vec<usize>> = (0..CODES).map(entry).collect();
        let offsets = offsets?;
        let ascending = offsets.iter().zip(offsets.iter().skip(1)).all(|(a, b)| a + 1 < *b);
        let last = *offsets.last()?;
        if !ascending {
            return None;
        }
        // The length of the last text is known only from the padding between table and index.
        (1..LONGEST).find_map(|length| {
            let size = last + length + 1;
            let start = index.checked_sub(align(size))?;
            let table = data.get(start..start + size)?;
            let ends = offsets.iter().skip(1).copied().chain([size]);
            let texts: Option<Vec<&[u8]>> = offsets
                .iter()
                .zip(ends)
                .map(|(from, to)| {
                    let (end, text) = table.get(*from..to)?.split_last()?;
                    (*end == 0 && text.iter().all(u8::is_ascii_graphic)).then_some(text)
                })
                .collect();
            let padding = data.get(start + size..index)?;
            padding.iter().all(|byte| *byte == 0).then_some(Tokens {
                texts: texts?,
                start,
                end: index + 2 * CODES,
            })
        })
    }

    fn text(&self, code: u8) -> &'d [u8] {
        self.texts.get(usize::from(code)).copied().unwrap_or_default()
    }
}

/// All tables that these tokens can belong to.
fn tables(data: &[u8], tokens: &Tokens<'_>, attempts: &mut usize) -> Result<Vec<Vec<Row>>, String> {
    let mut found = Vec::new();
    let mut attempt = || {
        *attempts = attempts
            .checked_sub(1)
            .ok_or("too much of it looks like a table of symbols")?;
        Ok::<(), String>(())
    };
    attempt()?;
    for number in (0..tokens.start.saturating_sub(16)).step_by(8) {
        let Some(count) = u32_at(data, number).filter(|_| u32_at(data, number + 4) == Some(0)) else {
            continue;
        };
        let count = count as usize;
        // A name takes at least two bytes.
        if !PLAUSIBLE.contains(&count) || (tokens.start - number) / 2 < count {
            continue;
        }
        if !Names::may_be_at(data, number + 8, tokens) {
            continue;
        }
        attempt()?;
        let Some(names) = Names::at(data, number + 8, count, tokens) else {
            continue;
        };
        found.push(rows(data, number, names, tokens)?);
    }
    Ok(found)
}

/// The decoded names.
struct Names {
    rows: Vec<(u8, String)>,
}

impl Names {
    /// Whether there are names at all.
    fn may_be_at(data: &[u8], start: usize, tokens: &Tokens<'_>) -> bool {
        let next = |at: usize| name(data, at, tokens).map(|(end, _)| end);
        (0..SAMPLE).try_fold(start, |at, _| next(at)).is_some()
    }

    /// Reads `count` names and confirms them by the markers behind them and by the token table behind those.
    fn at(data: &[u8], start: usize, count: usize, tokens: &Tokens<'_>) -> Option<Self> {
        let (mut rows, mut markers) = (Vec::with_capacity(count), Vec::new());
        let mut at = start;
        for number in 0..count {
            if number % STRIDE == 0 {
                markers.push(u32::try_from(at - start).ok()?);
            }
            let (end, row) = name(data, at, tokens).filter(|(end, _)| *end <= tokens.start)?;
            rows.push(row);
            at = end;
        }
        let mut at = align(at);
        for marker in &markers {
            if u32_at(data, at)? != *marker {
                return None;
            }
            at += 4;
        }
        let at = align(at);
        let ends = [at, align(at + 3 * count), align(at + 4 * count)];
        ends.contains(&tokens.start).then_some(Names { rows })
    }
}

/// The name at an offset, and where the next one starts.
fn name(data: &[u8], at: usize, tokens: &Tokens<'_>) -> Option<(usize, (u8, String))> {
    let first = usize::from(*data.get(at)?);
    let (length, at) = if first & 0x80 == 0 {
        (first, at + 1)
    } else {
        (first & 0x7f | usize::from(*data.get(at + 1)?) << 7, at + 2)
    };
    let codes = data.get(at..at + length)?;
    let mut text = Vec::new();
    for code in codes {
        text.extend_from_slice(tokens.text(*code));
        if text.len() > LONGEST {
            return None;
        }
    }
    let (kind, name) = text.split_first()?;
    let is_kind = kind.is_ascii_alphabetic() || *kind == b'?' || *kind == b'-';
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    is_kind.then(|| (at + length, (*kind, name.to_owned())))
}

/// Adds the addresses, which lie before the number or behind the token index.
fn rows(data: &[u8], number: usize, names: Names, tokens: &Tokens<'_>) -> Result<Vec<Row>, String> {
    let count = names.rows.len();
    let size = align(4 * count);
    let before = number.checked_sub(8 + size).map(|at| (at, number - 8));
    let behind = Some((tokens.end, tokens.end + size));
    let mut readings: Vec<Vec<u64>> = [before, behind]
        .into_iter()
        .flatten()
        .flat_map(|places| addresses(data, places, count))
        .collect();
    readings.dedup();
    let [addresses] = &readings[..] else {
        return Err(format!(
            "its table of {count} symbols has {} possible lists of addresses",
            readings.len()
        ));
    };
    let row = |(address, (kind, name)): (&u64, (u8, String))| Row {
        address: *address,
        kind,
        name,
    };
    Ok(addresses.iter().zip(names.rows).map(row).collect())
}

/// The readings of a list of offsets that give addresses in ascending order.
fn addresses(data: &[u8], (offsets, base): (usize, usize), count: usize) -> Vec<Vec<u64>> {
    let Some(base) = u64_at(data, base).filter(|base| *base >= 1 << 63) else {
        return Vec::new();
    };
    let offset = |number: usize| u32_at(data, offsets + 4 * number);
    let Some(offsets) = (0..count).map(offset).collect::<Option<Vec<u32>>>() else {
        return Vec::new();
    };
    let relative = |offset: &u32| base.wrapping_add(u64::from(*offset));
    let mixed = |offset: &u32| match i64::from(*offset as i32) {
        number if number < 0 => base.wrapping_sub(1).wrapping_sub(number as u64),
        number => number as u64,
    };
    let readings = [
        offsets.iter().map(relative).collect(),
        offsets.iter().map(mixed).collect::<Vec<u64>>(),
    ];
    // Wherever per-CPU symbols are absolute, the last symbol is one of the kernel. A table of padding has one address.
    let sorted = |all: &Vec<u64>| all.is_sorted() && all.first() < all.last() && all.last() >= Some(&base);
    readings.into_iter().filter(sorted).collect()
}

fn align(at: usize) -> usize {
    at.next_multiple_of(8)
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What differs between kernels.
    #[derive(Clone, Copy)]
    struct Format {
        /// Addresses stand behind the token index.
        behind: bool,
        /// Per-CPU symbols have absolute addresses.
        absolute: bool,
        /// Bytes of an entry of the sequence.
        sequence: usize,
    }

    const V6_1: Format = Format {
        behind: false,
        absolute: true,
        sequence: 0,
    };
    const V6_2: Format = Format { sequence: 4, ..V6_1 };
    const V6_1_170: Format = Format { sequence: 3, ..V6_1 };
    const V6_12: Format = Format {
        behind: true,
        absolute: true,
        sequence: 3,
    };
    const V7_3: Format = Format {
        absolute: false,
        ..V6_12
    };
    const BASE: u64 = 0xffff_ffff_8100_0000;

    fn symbols(format: Format) -> Vec<Row> {
        let mut rows: Vec<Row> = (0..700u64)
            .map(|number| Row {
                address: BASE + 16 * number,
                kind: if number % 3 == 0 { b't' } else { b'T' },
                name: format!("function_{number}"),
            })
            .collect();
        rows[5].name = "x".repeat(200);
        if format.absolute {
            let row = Row {
                address: 0x40,
                kind: b'A',
                name: "per_cpu_one".into(),
            };
            rows.insert(0, row);
        }
        rows
    }

    fn pad(out: &mut Vec<u8>) {
        out.resize(align(out.len()), 0);
    }

    fn image(format: Format, rows: &[Row]) -> Vec<u8> {
        // Code 1 stands for a text of its own, all others for themselves or for something that is not used.
        let token = |code: usize| match code {
            1 => "function_".to_owned(),
            33..=126 => char::from(code as u8).to_string(),
            _ => format!("u{code}"),
        };
        let offsets = |out: &mut Vec<u8>| {
            for row in rows {
                let offset = match format.absolute {
                    true if row.address < BASE => row.address as u32,
                    true => BASE.wrapping_sub(row.address).wrapping_sub(1) as u32,
                    false => (row.address - BASE) as u32,
                };
                out.extend(offset.to_le_bytes());
            }
            pad(out);
            out.extend(BASE.to_le_bytes());
        };
        let sequence = |out: &mut Vec<u8>| {
            out.extend(std::iter::repeat_n(7, format.sequence * rows.len()));
            pad(out);
        };
        let mut out = b"something else before.. ".to_vec();
        pad(&mut out);
        if !format.behind {
            offsets(&mut out);
        }
        out.extend((rows.len() as u64).to_le_bytes());
        let (start, mut markers) = (out.len(), Vec::new());
        for (number, row) in rows.iter().enumerate() {
            if number % 256 == 0 {
                markers.push((out.len() - start) as u32);
            }
            let text = format!("{}{}", char::from(row.kind), row.name).replace("function_", "\u{1}");
            match text.len() {
                length @ ..128 => out.push(length as u8),
                length => out.extend([length as u8 | 0x80, (length >> 7) as u8]),
            }
            out.extend(text.bytes());
        }
        pad(&mut out);
        out.extend(markers.iter().flat_map(|marker| marker.to_le_bytes()));
        pad(&mut out);
        if !format.behind {
            sequence(&mut out);
        }
        let mut index = Vec::new();
        let start = out.len();
        for code in 0..256 {
            index.push((out.len() - start) as u16);
            out.extend(token(code).bytes().chain([0]));
        }
        pad(&mut out);
        out.extend(index.iter().flat_map(|offset| offset.to_le_bytes()));
        if format.behind {
            offsets(&mut out);
            sequence(&mut out);
        }
        out.extend([0xcc; 64]);
        out
    }

    #[test]
    fn each_format_is_decoded() {
        for (name, format) in [
            ("6.1", V6_1),
            ("6.2", V6_2),
            ("6.1.170", V6_1_170),
            ("6.12", V6_12),
            ("7.3", V7_3),
        ] {
            let rows = symbols(format);
            assert_eq!(decode(&image(format, &rows)).unwrap().as_ref(), Some(&rows), "{name}");
        }
    }

    #[test]
    fn a_table_that_contradicts_itself_is_none_or_an_error() {
        let mut rows = symbols(V6_12);
        rows.swap(3, 4);
        assert!(decode(&image(V6_12, &rows)).is_err(), "addresses out of order");
        let rows = symbols(V7_3);
        let good = image(V7_3, &rows);
        let twice = [good.clone(), good.clone()].concat();
        assert!(decode(&twice).is_err(), "two tables");
        for cut in [0, 8, good.len() / 2, good.len() - 64 - 3 * rows.len() - 24] {
            assert!(!matches!(decode(&good[..cut]), Ok(Some(_))), "cut at {cut}");
        }
        let marker = good.windows(4).rposition(|bytes| bytes == [0; 4]).unwrap();
        assert!(marker > 0);
        let mut bad = good.clone();
        let count = good.windows(8).position(|bytes| bytes == 700u64.to_le_bytes()).unwrap();
        bad[count] -= 1;
        assert!(matches!(decode(&bad), Ok(None)), "a wrong number of names");
    }
}
