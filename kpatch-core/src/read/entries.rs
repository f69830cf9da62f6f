//! Cuts a table into entries. An entry cut at the wrong offset would belong to the wrong function, so any doubt is an
//! error.

use std::ops::Range;

use super::BAD_ENTRIES;
use crate::arch::{Shape, Split};
use crate::error::{Error, Subject};

/// A section to cut.
pub struct Table<'t> {
    /// File and section, for messages.
    pub at: &'t dyn Fn() -> Subject,
    /// Size of the section in bytes (`sh_size`).
    pub size: u64,
    /// Bytes that the file has; less than `size` for SHT_NOBITS.
    pub data: u64,
    /// Offsets that have relocations, ascending, each once.
    pub relocs: &'t [u64],
}

/// The entries of a table; empty for a section that is not cut into entries.
///
/// # Errors
/// [`BAD_ENTRIES`].
pub fn cut(table: &Table<'_>, split: Split) -> Result<Vec<Range<u64>>, Error> {
    let bad = |why: String| Error::new(BAD_ENTRIES, (table.at)(), why);
    if table.size == 0 {
        return Ok(Vec::new());
    }
    let mut clipped = false;
    let size = match split {
        Split::Entries(size) => size,
        Split::Padded(size) => {
            clipped = true;
            size
        }
        Split::OneOf(shapes) => {
            let fitting: Vec<u64> = shapes
                .iter()
                .filter(|shape| fits(shape, table))
                .map(|shape| shape.size)
                .collect();
            match fitting[..] {
                [size] => size,
                _ => {
                    let sizes: Vec<String> = shapes.iter().map(|shape| shape.size.to_string()).collect();
                    return Err(bad(format!(
                        "{} entry sizes out of {} fit its {} bytes and {} relocations",
                        fitting.len(),
                        sizes.join(", "),
                        table.size,
                        table.relocs.len()
                    )));
                }
            }
        }
        Split::Relocs(each) => {
            let size = table.size / (table.relocs.len() as u64 / each).max(1);
            if !has_so_many(table, each, size) {
                return Err(bad(format!("not every entry has {each} relocations")));
            }
            size
        }
        Split::Targets | Split::Drop => return Ok(Vec::new()),
    };
    let whole = size != 0 && (clipped || table.size.is_multiple_of(size));
    if !whole || table.data != table.size {
        return Err(bad(format!(
            "{} bytes are not a whole number of {size}-byte entries",
            table.size
        )));
    }
    let starts = (0..table.size.div_ceil(size)).map(|index| index * size);
    Ok(starts.map(|start| start..table.size.min(start + size)).collect())
}

/// Whether each entry of this size has `each` relocations. A table without relocations is one entry that belongs to no
/// function.
fn has_so_many(table: &Table<'_>, each: u64, size: u64) -> bool {
    let whole = size != 0 && (table.relocs.len() as u64).is_multiple_of(each);
    whole
        && (0..)
            .zip(table.relocs)
            .all(|(index, offset)| offset / size == index / each)
}

/// Whether a table can consist of entries of this shape.
fn fits(shape: &Shape, table: &Table<'_>) -> bool {
    if !table.size.is_multiple_of(shape.size) {
        return false;
    }
    let fields = table.relocs.iter().map(|offset| offset % shape.size);
    let known = fields
        .clone()
        .all(|field| shape.always.contains(&field) || shape.perhaps.contains(&field));
    let certain = fields.filter(|field| shape.always.contains(field)).count() as u64;
    // `relocs` has each offset once, so none is missing if the count is right.
    known && certain == table.size / shape.size * shape.always.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Arch as _, X86_64};

    fn split_of(section: &str) -> Split {
        let row = X86_64.facts().special(section);
        row.expect("x86 has such a table").split
    }

    fn size(split: Split, relocs: &[u64], size: u64) -> Option<u64> {
        let at = || Subject::default();
        let table = Table {
            at: &at,
            size,
            data: size,
            relocs,
        };
        Some(cut(&table, split).ok()?.first()?.end)
    }

    #[test]
    fn entry_size_follows_from_the_number_of_relocations() {
        assert_eq!(size(Split::Relocs(1), &[0, 8, 16], 24), Some(8));
        assert_eq!(size(Split::Relocs(3), &[0, 4, 8, 16, 20, 24], 32), Some(16));
        assert_eq!(size(Split::Relocs(1), &[], 8), Some(8), "an entry about nothing");
        assert_eq!(size(Split::Relocs(1), &[0, 4], 12), None, "no two entries are alike");
        assert_eq!(
            size(Split::Relocs(3), &[0, 4, 8, 16], 32),
            None,
            "the second one is not whole"
        );
    }

    #[test]
    fn alternatives_of_each_version() {
        let alternatives = X86_64
            .facts()
            .special_sections
            .iter()
            .find(|row| row.name == ".altinstructions");
        let split = alternatives.expect("x86 has them").split;
        for each in [12, 13, 14] {
            assert_eq!(size(split, &[0, 4], each), Some(each));
            assert_eq!(size(split, &[0, 4, each, each + 4], 2 * each), Some(each));
            let some_without_replacement = [0, 4, each, 2 * each, 3 * each, 3 * each + 4];
            assert_eq!(size(split, &some_without_replacement, 4 * each), Some(each));
        }
        assert_eq!(size(split, &[0, 4, 15, 19], 30), None, "a size of the future");
        assert_eq!(size(split, &[0, 4], 24), None, "an entry about nothing");
    }

    #[test]
    fn bug_entries_of_each_configuration() {
        for (each, fields) in [
            (12, &[0, 4][..]),
            (16, &[0, 4, 8]),
            (8, &[0]),
            (24, &[0, 8]),
            (16, &[0]),
        ] {
            for count in 1..4 {
                let relocs = (0..count).flat_map(|entry| fields.iter().map(move |field| entry * each + field));
                let relocs: Vec<u64> = relocs.collect();
                assert_eq!(
                    size(split_of("__bug_table"), &relocs, count * each),
                    Some(each),
                    "{relocs:?}"
                );
            }
        }
        assert_eq!(size(split_of("__bug_table"), &[0, 4, 8, 12], 20), None);
    }

    #[test]
    fn the_last_entry_may_lack_its_padding() {
        let at = || Subject::default();
        let table = Table {
            at: &at,
            size: 28,
            data: 28,
            relocs: &[0, 16],
        };
        assert_eq!(cut(&table, Split::Padded(16)).expect("cut"), [0..16, 16..28]);
        assert!(cut(&table, Split::Entries(16)).is_err());
    }
}
