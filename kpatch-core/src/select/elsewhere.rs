//! Callers in other files of the image, of changed functions without a site.
//!
//! The pairs of a patch show only some of the files. The image as one object ([`World`]) shows everything in it that has
//! to do with a function, by the same rules as within one file: [`super::untraced`]. The functions found there must be
//! among the pairs, so that they can be patched; those that are not are wanted.

use std::collections::{BTreeSet, VecDeque};

use super::untraced::{Untraced, is_for_bpf, mentions, of, whole};
use super::{EXPORTED_UNTRACED, KernelNames, patchable, verdict};
use crate::Author;
use crate::arch::Use;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, Meaning, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::names;
use crate::read::AtomKind;
use crate::world::{Wanted, World};

/// Where a function is among the pairs.
type Place = (UnitId, Id<Orig, Atom>);

/// The way from one changed function to functions with a site, over all files of the image.
pub(super) struct Elsewhere<'a, 'd> {
    pub group: &'a Group<'d>,
    pub verdicts: &'a [UnitVerdicts],
    pub kernel: &'a dyn KernelNames,
    pub world: &'a World<'a>,
    /// What is found.
    pub found: Untraced,
    /// A function with a site that comes to one without by a jump.
    pub jumper: Option<String>,
}

/// The functions that must be among the pairs.
pub fn wanted(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    kernel: &dyn KernelNames,
    author: &Author<'_>,
) -> BTreeSet<Wanted> {
    super::untraced::reach(group, verdicts, kernel, author).wanted
}

impl Elsewhere<'_, '_> {
    /// Goes back from a function of a unit. What goes wrong is half a sentence.
    pub fn from(&mut self, unit: UnitId, start: Id<Orig, Atom>) -> Result<(), String> {
        let pair = &self.group.units[unit];
        let symbol = pair.orig.atoms[start].symbol.map(|symbol| &pair.orig.symbols[symbol]);
        let symbol = symbol.ok_or("it has no name")?;
        let first = self.world.find(&pair.name, symbol.name, symbol.is_local());
        let first = first.ok_or_else(|| format!("`{}` is not found in vmlinux.o", names::readable(symbol.name)))?;
        let object = &self.world.object;
        let (mut seen, mut open) = (BTreeSet::from([first]), VecDeque::from([first]));
        let mut redirected = false;
        while let Some(callee) = open.pop_front() {
            let why = |why: String| of(object, callee, first, &why);
            let own = whole(callee, &self.world.parts);
            let callers = mentions(object, &own, true).map_err(why)?;
            self.carry(callee).map_err(why)?;
            for caller in callers {
                let traced = patchable::tracing_site(object, caller.by).is_some();
                let stays = self.take(caller.by, callee)?;
                if traced && stays {
                    redirected = true;
                    if caller.jumps {
                        self.jumper
                            .get_or_insert_with(|| names::readable(&object.label(caller.by)));
                    }
                } else if seen.insert(caller.by) {
                    open.push_back(caller.by);
                }
            }
            if seen.len() + self.found.callers.len() + self.found.wanted.len() > super::untraced::LIMIT {
                return Err(format!("it takes more than {} functions", super::untraced::LIMIT));
            }
        }
        match redirected {
            true => Ok(()),
            false => Err("nothing that is there after boot calls it".to_owned()),
        }
    }

    /// A function of the image among the pairs.
    fn locate(&mut self, function: Id<Orig, Atom>) -> Result<Option<Place>, String> {
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
        self.found.wanted.insert(Wanted {
            name: symbol.name.to_owned(),
            unit: unit.map(str::to_owned),
        });
        Ok(None)
    }

    /// Takes a function without a site along, unless the patch removes it.
    fn carry(&mut self, function: Id<Orig, Atom>) -> Result<(), String> {
        self.only_in_the_image(function)?;
        let Some((unit, orig)) = self.locate(function)? else {
            return Ok(());
        };
        let pair = &self.group.units[unit];
        let Some(twin) = pair.pairing.patched_of[orig] else {
            return Ok(());
        };
        let own = whole(twin, &pair.patched.parts());
        self.not_taken(unit, twin)?;
        mentions(&pair.patched, &own, true).map_err(|why| format!("with the patch, {why}"))?;
        self.found.carried.extend(own.into_iter().map(|atom| (unit, atom)));
        let exported = self
            .globals(function)
            .find(|name| self.kernel.exports(name))
            .map(str::to_owned);
        if let Some(name) = exported {
            let why = "it cannot be traced, and modules that nobody sees here may call it: they would go on with the old \
                       version";
            let refusal = Refusal::new(EXPORTED_UNTRACED, pair.patched.subject(twin), why);
            self.found.refusals.push(refusal.hint(format!(
                "if no module from elsewhere uses it, accept it with --accept {name}"
            )));
        }
        Ok(())
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

    /// Takes a caller along, if it is the same on both sides. Whether the patch leaves it in the kernel.
    fn take(&mut self, caller: Id<Orig, Atom>, callee: Id<Orig, Atom>) -> Result<bool, String> {
        let Some((unit, orig)) = self.locate(caller)? else {
            return Ok(true);
        };
        let pair = &self.group.units[unit];
        let Some(twin) = pair.pairing.patched_of[orig] else {
            return Ok(false);
        };
        if self.verdicts[unit].overlooked.contains(&twin) {
            let name = names::readable(&pair.patched.label(twin));
            return Err(format!("the patch wants its caller `{name}` left as it is"));
        }
        let name = names::readable(&self.world.object.label(callee));
        for atom in whole(twin, &pair.patched.parts()) {
            if *verdict(self.verdicts, unit, atom) == Verdict::Same {
                self.found.callers.entry((unit, atom)).or_insert_with(|| name.clone());
            }
        }
        Ok(true)
    }
}
