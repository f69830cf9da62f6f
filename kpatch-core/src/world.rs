//! The whole kernel image as one relocatable object: who refers to what, over all files.
//!
//! kbuild links all of the image into `vmlinux.o` before it places anything (scripts/Makefile.vmlinux_o, 6.12), so each
//! reference still has its relocation there. Modules are linked later, by names that they leave undefined.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::ids::{Atom, Id, Orig, Sym};
use crate::names;
use crate::read::{self, Object};

/// The image before it was placed, and what modules want of it.
pub struct World<'d> {
    pub(crate) object: Object<'d, Orig>,
    /// The unit of each FILE block, as far as the order is known.
    units: Vec<String>,
    imported: BTreeSet<String>,
    /// Each part that was split off a function, after the function.
    pub(crate) parts: Vec<(Id<Orig, Atom>, Id<Orig, Atom>)>,
}

/// A function that must be among the pairs, since it calls a changed one that cannot be traced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The unit that has it; nothing for a global function, which the object does not give a file.
    pub unit: Option<String>,
}

impl<'d> World<'d> {
    /// Reads `vmlinux.o`. `order` has the units of the link and the names of their FILE symbols; `imported` is what any
    /// module of the kernel leaves undefined.
    ///
    /// # Errors
    /// What reading an object reports.
    pub fn read(bytes: &'d [u8], order: &[(String, String)], imported: BTreeSet<String>) -> Result<Self, Error> {
        let object = read::object::<Orig>("vmlinux.o", bytes)?;
        let known = order.iter().zip(&object.blocks);
        let units = known.take_while(|((_, file), block)| file == block.name);
        Ok(World {
            units: units.map(|((unit, _), _)| unit.clone()).collect(),
            parts: object.parts(),
            object,
            imported,
        })
    }

    /// Names and sizes of what other files can call.
    pub(crate) fn global_functions(&self) -> impl Iterator<Item = (&str, u64)> {
        let functions = self.object.symbols.iter().filter(|(_, symbol)| {
            let strong = symbol.st_bind == object::elf::STB_GLOBAL.0 && symbol.is_function();
            strong && symbol.section.is_some() && symbol.st_size > 0
        });
        functions.map(|(_, symbol)| (symbol.name, symbol.st_size))
    }

    /// Whether a module refers to a global name.
    pub(crate) fn is_imported(&self, name: &str) -> bool {
        self.imported.contains(name)
    }

    /// The unit of a static symbol.
    pub(crate) fn unit_of(&self, symbol: Id<Orig, Sym>) -> Option<&str> {
        self.units.get(self.object.block_of(symbol)?).map(String::as_str)
    }

    /// The atom of a symbol: of this unit if it is static, else the only global one of its name.
    pub(crate) fn find(&self, unit: &str, name: &str, local: bool) -> Option<Id<Orig, Atom>> {
        let mut found = self.object.symbols.iter().filter(|(id, symbol)| {
            let here = if local {
                symbol.is_local() && self.unit_of(*id) == Some(unit)
            } else {
                !symbol.is_local()
            };
            here && symbol.name == name && symbol.section.is_some()
        });
        let (_, symbol) = found.next().filter(|_| !names::is_temporary(name))?;
        if found.next().is_some() {
            return None;
        }
        let atom = self.object.atom_at(symbol.section?, symbol.st_value)?;
        (self.object.atoms[atom].anchor == symbol.st_value).then_some(atom)
    }
}
