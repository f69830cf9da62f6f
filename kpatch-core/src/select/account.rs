//! The books: what became of every function, every variable and every row of a table, on both sides.
//!
//! The steps before this one each look for what they know. What none of them looks at is lost without a word, and the
//! livepatch is called good: a variable whose new content nobody compared, a row that belongs to nobody. So everything is
//! gone through once more at the end, and each piece must have an account: it has a twin that is the same, it is in the
//! livepatch, or a line says why it is left out. What has been refused never comes here.
//!
//! "The same" is not believed either: bytes and references are held against each other again, in the plainest way that
//! there is. Nothing of [`crate::compare`] is used for that, so that a mistake there does not excuse itself.

mod same;

use std::collections::{BTreeMap, BTreeSet};

use super::{Link, Selected, UNACCOUNTED};
use crate::compare::{UnitVerdicts, Verdict, is_constant, is_copied};
use crate::error::{Error, Subject};
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Class, Object, Target, is_mark};

type Key = (UnitId, Id<Patched, Atom>);
type Atoms<'d> = BTreeMap<Key, Selected<'d>>;

const REMOVED: &str = "removed or inlined away: the kernel's copy stays for whoever is not patched";
const REMOVED_VARIABLE: &str =
    "removed, or nothing needs it any more: the kernel's copy stays for whoever is not patched";
const CHANGED_AT_BOOT: &str = "takes effect at the next boot";
const REMOVED_AT_BOOT: &str = "takes effect at the next boot: boot code or data that goes";
const NEW_AT_BOOT: &str = "takes effect at the next boot: new boot code or data";
const AT_EXIT: &str = "code or data of the way out, and what is built in never goes";
const OF_MODULE: &str = "accepted: the module goes on starting or ending as before";
const NEW_AND_UNUSED: &str = "new, and nothing in the livepatch uses it";
const UNCLEAR_AND_UNUSED: &str = "it may be any of several of the kernel, and nothing in the livepatch uses it";
const UNCALLED: &str = "no longer boot code, and nothing in the livepatch uses it";
const ELSEWHERE: &str = "the same code in another section: the kernel's copy stays where it is";
const CHANGED_AND_UNUSED: &str = "a constant that changed, and nothing in the livepatch uses it";

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The kernel's own copy does the same.
    Kernels,
    /// It is in the livepatch.
    InPatch,
    /// It goes with another piece: a row with the code that it is about, a twin with the patched side.
    WithAnother,
    /// It is left out, with the reason.
    Left(&'static str),
}

/// Accounts for everything, and gives the lines about what is left out.
///
/// # Errors
/// [`UNACCOUNTED`] for the first piece that is lost: a mistake of this program and not of the patch.
pub fn settle(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    atoms: &Atoms<'_>,
    values: &BTreeSet<Key>,
) -> Result<Vec<Ignored>, Error> {
    let mut lines = Vec::new();
    for (index, (unit, verdicts)) in group.units.iter().zip(verdicts).enumerate() {
        let books = Books {
            group,
            index,
            unit,
            verdicts,
            atoms,
            values,
        };
        books.references()?;
        books.patched(&mut lines)?;
        books.orig(&mut lines)?;
    }
    Ok(lines)
}

/// One unit and what is known about it.
struct Books<'a, 'd> {
    group: &'a Group<'d>,
    index: UnitId,
    unit: &'a Unit<'d>,
    verdicts: &'a UnitVerdicts,
    atoms: &'a Atoms<'d>,
    /// Variables that the livepatch sets.
    values: &'a BTreeSet<Key>,
}

impl Books<'_, '_> {
    /// What the livepatch refers to in itself must be in it.
    fn references(&self) -> Result<(), Error> {
        let own = self
            .atoms
            .range((self.index, Id::new(0))..)
            .take_while(|(key, _)| key.0 == self.index);
        for ((_, atom), selected) in own {
            let rewritten = selected.rewrites.iter().map(|rewrite| &rewrite.link);
            let called = selected.detours.iter().flat_map(|detour| &detour.links);
            for link in selected.links.iter().chain(rewritten).chain(called) {
                if let Link::InPatch(place) = link
                    && !self.atoms.contains_key(&(place.unit, place.atom))
                {
                    let missing = names::readable(&self.group.units[place.unit].patched.label(place.atom));
                    let why = format!("it refers to `{missing}` in the livepatch, which is not there");
                    return Err(lost(self.unit.patched.subject(*atom), why));
                }
            }
        }
        Ok(())
    }

    fn patched(&self, lines: &mut Vec<Ignored>) -> Result<(), Error> {
        let object = &self.unit.patched;
        for (id, row) in object.atoms.iter() {
            let fate = match row.kind {
                AtomKind::Function | AtomKind::Object => self.named(id)?,
                AtomKind::Entry => self.row(id)?,
                AtomKind::String | AtomKind::Anonymous | AtomKind::Piece => Fate::WithAnother,
            };
            self.note(object, id, fate, lines);
        }
        Ok(())
    }

    /// A function or variable of the patched side.
    fn named(&self, id: Id<Patched, Atom>) -> Result<Fate, Error> {
        let object = &self.unit.patched;
        let key = (self.index, id);
        let selected = self.atoms.contains_key(&key) || self.values.contains(&key);
        let lost = |why: &str| Err(lost(object.subject(id), why));
        if is_mark(object.sections[object.atoms[id].section].name) {
            return Ok(Fate::WithAnother);
        }
        match (&self.verdicts.of[id], self.unit.pairing.orig_of[id]) {
            (Verdict::Same, None) => lost("it is called the same, and nothing is known that it is the same as"),
            (Verdict::Same, Some(twin)) => self.kernels(twin, id),
            (Verdict::Changed(_) | Verdict::New, _) if selected => Ok(Fate::InPatch),
            (Verdict::Changed(_), Some(twin)) if is_copied(self.unit, twin, id) => Ok(Fate::Left(CHANGED_AND_UNUSED)),
            (Verdict::Changed(_), Some(_)) if object.class(id) == Class::Init => {
                Ok(Fate::Left(self.at_boot(object, id, CHANGED_AT_BOOT)))
            }
            (Verdict::Changed(_), _) => lost("it changed, and is neither in the livepatch nor refused"),
            (Verdict::New, None) => Ok(Fate::Left(self.why_new(id))),
            (Verdict::New, Some(twin)) if self.unit.orig.class(twin) == Class::Init => Ok(Fate::Left(UNCALLED)),
            (Verdict::New, Some(_)) => lost("it is called new, and the kernel has it"),
            (Verdict::ByContent, _) => lost("it has a name, and nobody compared it"),
        }
    }

    /// What is said of boot code and data of the image, and of a module's start and end.
    fn at_boot<S: Side>(&self, object: &Object<'_, S>, id: Id<S, Atom>, at_boot: &'static str) -> &'static str {
        match (self.unit.parent.is_vmlinux(), object.is_exit(id)) {
            (true, false) => at_boot,
            (true, true) => AT_EXIT,
            (false, _) => OF_MODULE,
        }
    }

    fn why_new(&self, id: Id<Patched, Atom>) -> &'static str {
        if self.unit.patched.class(id) == Class::Init {
            self.at_boot(&self.unit.patched, id, NEW_AT_BOOT)
        } else if self.unit.pairing.ambiguous.contains_key(&id) {
            UNCLEAR_AND_UNUSED
        } else {
            NEW_AND_UNUSED
        }
    }

    /// What is said to be the same as the kernel's.
    fn kernels(&self, twin: Id<Orig, Atom>, id: Id<Patched, Atom>) -> Result<Fate, Error> {
        let at = || self.unit.patched.subject(id);
        if self.unit.pairing.patched_of[twin] != Some(id) {
            return Err(lost(at(), "its twin is the twin of something else"));
        }
        if !self.verdicts.overlooked.contains(&id) {
            same::check(self.group, self.index, (twin, id), &self.verdicts.only_lines)
                .and_then(|()| same::rows(self.group, self.index, (twin, id), self.verdicts))
                .map_err(|why| lost(at(), format!("it is called the same, and {why}")))?;
        }
        let section = |name: &str| {
            if name.starts_with(".text") {
                ".text".to_owned()
            } else {
                name.to_owned()
            }
        };
        let (orig_object, patched_object) = (&self.unit.orig, &self.unit.patched);
        let orig_section = section(orig_object.sections[orig_object.atoms[twin].section].name);
        let moved = orig_section != section(patched_object.sections[patched_object.atoms[id].section].name);
        Ok(match patched_object.atoms[id].kind {
            AtomKind::Function if moved => Fate::Left(ELSEWHERE),
            _ => Fate::Kernels,
        })
    }

    /// A row of a table goes with the code that it is about.
    fn row(&self, id: Id<Patched, Atom>) -> Result<Fate, Error> {
        let object = &self.unit.patched;
        let owner = crate::compare::owner(object, id);
        let needed = owner.is_some_and(|owner| self.atoms.contains_key(&(self.index, owner)));
        let special = object.sections[object.atoms[id].section].special;
        let rewritten = special.is_some_and(|row| row.boot_constants);
        match self.atoms.contains_key(&(self.index, id)) {
            true => Ok(Fate::InPatch),
            false if needed && !rewritten => Err(lost(object.subject(id), "its code is in the livepatch without it")),
            false => Ok(Fate::WithAnother),
        }
    }

    fn orig(&self, lines: &mut Vec<Ignored>) -> Result<(), Error> {
        let object = &self.unit.orig;
        let used = self.used_by_the_same();
        let names = self.names_without_a_twin();
        for (id, row) in object.atoms.iter() {
            let is_named = matches!(row.kind, AtomKind::Function | AtomKind::Object);
            let fate = match self.unit.pairing.patched_of[id] {
                _ if !is_named || is_mark(object.sections[row.section].name) => Fate::WithAnother,
                Some(twin) if self.unit.pairing.orig_of[twin] != Some(id) => {
                    return Err(lost(object.subject(id), "its twin is the twin of something else"));
                }
                Some(_) => Fate::WithAnother,
                None => self.gone(id, &used, &names)?,
            };
            self.note(object, id, fate, lines);
        }
        Ok(())
    }

    /// A function or variable that the patched side does not have. Nobody that the kernel keeps may need it: then it is
    /// not gone, but was not recognised.
    fn gone(
        &self,
        id: Id<Orig, Atom>,
        used: &BTreeMap<Id<Orig, Atom>, Id<Orig, Atom>>,
        names: &BTreeSet<Name<'_>>,
    ) -> Result<Fate, Error> {
        let object = &self.unit.orig;
        if let Some(user) = used.get(&id) {
            let why = format!("it is gone, and `{}`, which is the same, uses it", object.label(*user));
            return Err(lost(object.subject(id), why));
        }
        if name(object, id).is_some_and(|name| names.contains(&name)) {
            return Err(lost(object.subject(id), "it is gone, and something new has its name"));
        }
        Ok(Fate::Left(match object.class(id) {
            Class::Init => self.at_boot(object, id, REMOVED_AT_BOOT),
            _ if object.atoms[id].kind == AtomKind::Function => REMOVED,
            _ => REMOVED_VARIABLE,
        }))
    }

    /// What functions and variables refer to that are the same on both sides, with one of those who do. Constants may
    /// have another place and count by their content.
    fn used_by_the_same(&self) -> BTreeMap<Id<Orig, Atom>, Id<Orig, Atom>> {
        let object = &self.unit.orig;
        let mut used = BTreeMap::new();
        for (user, twin) in self.unit.pairing.patched_of.iter() {
            let same = |twin| self.verdicts.of[twin] == Verdict::Same && !self.verdicts.overlooked.contains(&twin);
            if !twin.is_some_and(same) {
                continue;
            }
            for reloc in object.relocs(user) {
                if let Target::Atom { atom, .. } = reloc.target
                    && !is_constant(object, atom)
                {
                    used.insert(atom, user);
                }
            }
        }
        used
    }

    /// The names that C allows once, of what is new.
    fn names_without_a_twin(&self) -> BTreeSet<Name<'_>> {
        let object = &self.unit.patched;
        let new = self.unit.pairing.orig_of.iter().filter(|(_, twin)| twin.is_none());
        new.filter_map(|(id, _)| name(object, id)).collect()
    }

    fn note<S: Side>(&self, object: &Object<'_, S>, id: Id<S, Atom>, fate: Fate, lines: &mut Vec<Ignored>) {
        if let Fate::Left(why) = fate {
            let label = names::readable(&object.label(id));
            let label = match object.class(id) {
                Class::Init => names::plain(&label).to_owned(),
                _ => label,
            };
            // The compiler's counters tell nothing about constants, of which there can be many.
            let constant = object.class(id).is_constant();
            lines.push(Ignored {
                unit: self.unit.name.clone(),
                name: if constant {
                    names::stable(&label).to_owned()
                } else {
                    label
                },
                why: why.to_owned(),
            });
        }
    }
}

fn lost(at: Subject, why: impl Into<String>) -> Error {
    Error::new(UNACCOUNTED, at, why)
}

/// A name that means one thing: what it is, of which file if the object was linked from several, and the name.
type Name<'d> = (AtomKind, Option<&'d str>, &'d str);

fn name<'d, S: Side>(object: &Object<'d, S>, id: Id<S, Atom>) -> Option<Name<'d>> {
    let row = &object.atoms[id];
    let symbol = row
        .symbol
        .filter(|_| matches!(row.kind, AtomKind::Function | AtomKind::Object))?;
    let name = names::unpromoted(object.symbols[symbol].name);
    let several = object.blocks.len() > 1;
    let file = several.then(|| object.block_of(symbol).map(|block| object.blocks[block].name));
    names::is_of_the_file(name).then_some((row.kind, file.flatten(), name))
}

#[cfg(test)]
mod tests;
