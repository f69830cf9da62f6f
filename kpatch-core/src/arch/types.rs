//! Relocation types as data: one row for each type that this crate knows.

use object::elf::RelocationType;

use super::facts::lists;
use super::{RelocKind, Use};

/// The relocation types of a machine. The caller refuses a type that is not listed.
pub struct RelocTypes {
    /// What the psABI puts before each name.
    pub prefix: &'static str,
    /// Number, name without the prefix, and what the type does.
    pub rows: &'static [(RelocationType, &'static str, RelocKind)],
    /// The type of a pointer-sized address.
    pub pointer: RelocationType,
    /// The type for a branch whose distance the assembler has already filled in.
    pub filled_branch: RelocationType,
    /// The type for any other distance that the assembler has already filled in.
    pub filled_address: RelocationType,
    /// Types that only branches have, so that no instruction needs to be decoded.
    pub branches: &'static [RelocationType],
}

impl RelocTypes {
    /// What a type does.
    pub fn kind(&self, r_type: u32) -> Option<RelocKind> {
        self.row(r_type).map(|row| row.2)
    }

    /// The name of a type in the psABI, or its number.
    pub fn name(&self, r_type: u32) -> String {
        match self.row(r_type) {
            Some((_, name, _)) => format!("{}_{name}", self.prefix),
            None => format!("{} type {r_type}", self.prefix),
        }
    }

    /// The type for a field whose distance the assembler has already filled in.
    pub fn filled(&self, usage: Use) -> u32 {
        match usage {
            Use::Branch => self.filled_branch.0,
            Use::Address | Use::Access => self.filled_address.0,
        }
    }

    /// Whether only branches have relocations of this type.
    pub fn is_branch(&self, r_type: u32) -> bool {
        lists(self.branches, r_type)
    }

    fn row(&self, r_type: u32) -> Option<&'static (RelocationType, &'static str, RelocKind)> {
        self.rows.iter().find(|(number, ..)| number.0 == r_type)
    }
}

/// The type writes the address of its target.
pub const fn absolute(size: u8) -> RelocKind {
    RelocKind::Absolute { size }
}

/// The type writes the distance to its target.
pub const fn relative(size: u8) -> RelocKind {
    RelocKind::Relative { size }
}
