//! Callers in other files of the image, of changed functions without a site.
//!
//! The pairs of a patch show only some of the files. The image as one object ([`World`]) shows everything in it that has
//! to do with a function, by the same rules as within one file: [`super::here`]. The functions found there must be
//! among the pairs, so that they can be patched; those that are not are wanted.

use super::branches::{Caller, is_for_bpf, mentions, whole};
use super::ground::{Ground, Located, Untraced, carry};
use crate::arch::Use;
use crate::error::Refusal;
use crate::group::{Group, Meaning, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::names;
use crate::read::{AtomKind, Object};
use crate::select::{EXPORTED_UNTRACED, KernelNames};
use crate::world::{Wanted, World};

/// All files of the image.
pub struct Elsewhere<'a, 'd> {
    pub group: &'a Group<'d>,
    pub kernel: &'a dyn KernelNames,
    pub world: &'a World<'a>,
}

impl Ground for Elsewhere<'_, '_> {
    fn object(&self) -> &Object<'_, Orig> {
        &self.world.object
    }

    fn callers_of(&self, callee: Id<Orig, Atom>, found: &mut Untraced) -> Result<Vec<Caller<Orig>>, String> {
        let own = whole(callee, &self.world.parts);
        let callers = mentions(&self.world.object, &own, true)?;
        self.only_in_the_image(callee)?;
        if let Some((unit, orig)) = self.locate(callee, found)?
            && let Some(twin) = carry(self.group, (unit, orig), found)?
        {
            self.not_taken(unit, twin)?;
            found.refusals.extend(self.exported(callee, unit, twin));
        }
        Ok(callers)
    }

    fn locate(&self, function: Id<Orig, Atom>, found: &mut Untraced) -> Result<Option<Located>, String> {
        let object = &self.world.object;
        let label = object.label(function);
        let id = object.atoms[function]
            .symbol
            .ok_or_else(|| format!("`{label}` has no name"))?;
        let symbol = &object.symbols[id];
        let unit = self.world.unit_of(id);
        if symbol.is_local() && unit.is_none() {
            return Err(format!("nothing tells which file has `{}`", names::readable(&label)));
        }
        for (index, pair) in self.group.units.iter().enumerate() {
            if !pair.parent.is_vmlinux() || unit.is_some_and(|unit| unit != pair.name) {
                continue;
            }
            let same = |row: &Id<Orig, Atom>| {
                let ids = pair.orig.atoms[*row]
                    .symbol
                    .iter()
                    .chain(&pair.orig.atoms[*row].aliases);
                let mut own = ids.map(|id| &pair.orig.symbols[*id]);
                own.any(|own| own.name == symbol.name && own.is_local() == symbol.is_local())
            };
            let functions = pair.orig.atoms.iter().filter(|(_, row)| row.kind == AtomKind::Function);
            let mut found = functions.map(|(atom, _)| atom).filter(same);
            match (found.next(), found.next()) {
                (Some(one), None) => return Ok(Some((index, one))),
                (Some(_), Some(_)) => return Err(format!("{} has several `{label}`", pair.name)),
                _ => {}
            }
        }
        found.wanted.insert(Wanted {
            name: symbol.name.to_owned(),
            unit: unit.map(str::to_owned),
        });
        Ok(None)
    }
}

impl Elsewhere<'_, '_> {
    /// A function of a pair in the image.
    pub fn start(&self, unit: UnitId, function: Id<Orig, Atom>) -> Result<Id<Orig, Atom>, String> {
        let pair = &self.group.units[unit];
        let symbol = pair.orig.atoms[function]
            .symbol
            .map(|symbol| &pair.orig.symbols[symbol]);
        let symbol = symbol.ok_or("it has no name")?;
        let found = self.world.find(&pair.name, symbol.name, symbol.is_local());
        found.ok_or_else(|| format!("`{}` is not found in vmlinux.o", names::readable(symbol.name)))
    }

    /// Objects to a function that modules from elsewhere may call.
    fn exported(&self, function: Id<Orig, Atom>, unit: UnitId, twin: Id<Patched, Atom>) -> Option<Refusal> {
        let name = self.globals(function).find(|name| self.kernel.exports(name))?;
        let why = "it cannot be traced, and modules that nobody sees here may call it: they would go on with the old \
                   version";
        let refusal = Refusal::new(EXPORTED_UNTRACED, self.group.units[unit].patched.subject(twin), why);
        Some(refusal.hint(format!(
            "if no module from elsewhere uses it, accept it with --accept {name}"
        )))
    }

    fn globals(&self, function: Id<Orig, Atom>) -> impl Iterator<Item = &str> {
        let row = &self.world.object.atoms[function];
        let ids = row.symbol.iter().chain(&row.aliases);
        let symbols = ids.map(|id| &self.world.object.symbols[*id]);
        symbols.filter(|symbol| !symbol.is_local()).map(|symbol| symbol.name)
    }

    /// Refuses a function that modules, BPF programs or assembly may enter.
    fn only_in_the_image(&self, function: Id<Orig, Atom>) -> Result<(), String> {
        let object = &self.world.object;
        let label = object.label(function);
        if let Some(name) = self.globals(function).find(|name| self.world.is_imported(name)) {
            return Err(format!("a module of this kernel uses `{name}`"));
        }
        if is_for_bpf(object, &label) {
            return Err(format!("BPF programs may call `{label}`"));
        }
        let symbol = object.atoms[function].symbol;
        match symbol.is_some_and(|symbol| object.symbols[symbol].is_function()) {
            true => Ok(()),
            false => Err(format!("`{label}` is not known to be a function")),
        }
    }

    /// Refuses a pointer to a function that another unit takes with the patch.
    fn not_taken(&self, unit: UnitId, twin: Id<Patched, Atom>) -> Result<(), String> {
        for (index, other) in self.group.units.iter().enumerate() {
            for (atom, _) in other.patched.atoms.iter().filter(|_| index != unit) {
                let taken = other.patched.relocs(atom).iter().any(|reloc| {
                    let meaning = self.group.patched_meaning(index, &reloc.target);
                    let here = matches!(meaning, Meaning::Here(place) if (place.unit, place.atom) == (unit, twin));
                    let entry = matches!(meaning, Meaning::Here(place) if place.delta == 0);
                    here && !(entry && reloc.usage == Use::Branch)
                });
                if taken {
                    let label = names::readable(&other.patched.label(atom));
                    return Err(format!("with the patch, its address is in `{label}`"));
                }
            }
        }
        Ok(())
    }
}
