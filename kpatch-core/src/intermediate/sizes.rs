//! Entry sizes of special sections, as the caller knows them.
//!
//! The object itself shows the size of a table's entries, since the offsets of its relocations repeat. kpatch's driver
//! reads the sizes from the kernel's debug information and passes them in environment variables, or sets what it takes for
//! the usual ones. Where both are known the object counts: it cannot be wrong about its own entries.

use std::collections::BTreeMap;

use crate::error::{Error, Subject};
use crate::ids::Side;
use crate::read::{AtomKind, Object};

pub use crate::codes::object::STRUCT_SIZE;
/// Variables, and the tables that consist of such a structure. `.printk_index` and the tables that objtool makes for the
/// unwinder are not cut into entries of the kernel's.
const VARIABLES: &[(&str, &[&str])] = &[
    ("ALT_STRUCT_SIZE", &[".altinstructions"]),
    ("BUG_STRUCT_SIZE", &["__bug_table"]),
    ("EX_STRUCT_SIZE", &["__ex_table"]),
    (
        "FIXUP_STRUCT_SIZE",
        &["__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup"],
    ),
    ("JUMP_STRUCT_SIZE", &["__jump_table"]),
    ("PARA_STRUCT_SIZE", &[".parainstructions"]),
    ("STATIC_CALL_STRUCT_SIZE", &[".static_call_sites"]),
];

/// Size of an entry in bytes, by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StructSizes(BTreeMap<&'static str, u64>);

impl StructSizes {
    /// Parses variables as kpatch's driver sets them, e.g. `ALT_STRUCT_SIZE=14`. `value` returns the value of a
    /// variable that is set.
    ///
    /// # Errors
    /// [`STRUCT_SIZE`] for a value that is not a positive number.
    pub fn parse(value: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut sizes = BTreeMap::new();
        for (name, tables) in VARIABLES {
            let Some(value) = value(name) else { continue };
            let size = value.trim().parse().ok().filter(|size| *size > 0);
            let why = format!("{name}={value} is no number of bytes");
            let size = size.ok_or_else(|| Error::new(STRUCT_SIZE, Subject::default(), why))?;
            sizes.extend(tables.iter().map(|table| (*table, size)));
        }
        Ok(StructSizes(sizes))
    }

    /// What the entries that the object's tables were cut into contradict, once for each table.
    pub(super) fn contradicted<S: Side>(&self, object: &Object<'_, S>) -> BTreeMap<&'static str, Error> {
        let mut all = BTreeMap::new();
        for (_, atom) in object.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Entry) {
            let section = object.sections[atom.section].name;
            let Some((table, size)) = self.0.get_key_value(section) else {
                continue;
            };
            let len = atom.end - atom.start;
            // The last entry may lack its padding.
            if atom.start % size != 0 || len > *size {
                let at = Subject::file(&object.file).section(section);
                let why = format!("its entries have {len} bytes, and not the {size} that the environment says");
                all.entry(*table).or_insert_with(|| Error::new(STRUCT_SIZE, at, why));
            }
        }
        all
    }
}
