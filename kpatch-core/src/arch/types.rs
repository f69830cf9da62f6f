//! Relocation types as data: one row for each type that this crate knows.

use object::elf::RelocationType;

use super::RelocKind;

/// The relocation types of a machine. The caller refuses a type that is not listed.
pub struct RelocTypes {
    /// What the psABI puts before each name.
    pub prefix: &'static str,
    /// Number, name without the prefix, and what the type does.
    pub rows: &'static [(RelocationType, &'static str, RelocKind)],
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
