//! Variables that lie in other memory than before. The kernel's copy stays where it is, so the question is whether code
//! that was compiled for the new place can use the old one.
//!
//! What was constant or `__ro_after_init` and can be written now is the dangerous case: the patched function would write
//! to memory that the kernel has sealed. A changed section by itself says little, since compilers move a variable that
//! nobody writes to the constants and back without being asked.

use std::collections::BTreeMap;

use super::{DATA_MOVED, Link, Selected};
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, ObjectName, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Memory, Object};

type Atoms<'d> = BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'d>>;

/// What becomes of a move.
enum Move {
    /// The kernel's copy does for everybody.
    Harmless(&'static str),
    /// It does for those who do not use it in the new way.
    IfUnused(String),
    /// It does for nobody.
    Never(String),
}

const UNUSED: &str = "it would lie in another kind of memory, or aligned otherwise: nothing in the livepatch uses it";

/// Refuses variables of which the kernel's copy is not what the patched code expects, and says which others moved.
pub fn moved(group: &Group<'_>, verdicts: &[UnitVerdicts], atoms: &Atoms<'_>) -> (Vec<Refusal>, Vec<Ignored>) {
    let (mut refusals, mut ignored) = (Vec::new(), Vec::new());
    let users = Users::of(group, atoms);
    for (index, unit) in group.units.iter().enumerate() {
        for (patched, twin) in unit.pairing.orig_of.iter() {
            let Some(orig) = twin.filter(|_| unit.patched.atoms[patched].kind == AtomKind::Object) else {
                continue;
            };
            let user = || users.find(unit, (index, orig), patched);
            // Whoever may not use it because of what it holds need not be told where.
            let same = verdicts[index].of[patched] == Verdict::Same;
            let (why, note) = match judge(unit, orig, patched) {
                Some(Move::Never(why)) => (Some(why), ""),
                Some(Move::Harmless(note)) if same => (None, note),
                Some(Move::IfUnused(why)) if same => {
                    (user().map(|user| format!("`{user}` uses it, and {why}")), UNUSED)
                }
                _ => continue,
            };
            match why {
                Some(why) => refusals.push(refuse(unit, patched, why)),
                None => ignored.push(Ignored {
                    unit: unit.name.clone(),
                    name: names::readable(&unit.patched.label(patched)),
                    why: note.to_owned(),
                }),
            }
        }
    }
    (refusals, ignored)
}

fn refuse(unit: &Unit<'_>, atom: Id<Patched, Atom>, why: String) -> Refusal {
    Refusal::new(DATA_MOVED, unit.patched.subject(atom), why).hint(
        "keep the attributes and the const of the variable as they are, and put what needs another place into a new \
         variable",
    )
}

fn judge(unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> Option<Move> {
    let (orig_memory, patched_memory) = (unit.orig.memory(orig), unit.patched.memory(patched));
    match (orig_memory, patched_memory) {
        _ if orig_memory == patched_memory => misaligned(unit, orig, patched).map(Move::IfUnused),
        (_, Memory::Init) => Some(Move::Harmless("it would be gone after boot: the kernel's copy stays")),
        (Memory::Plain, Memory::Sealed) => Some(match misaligned(unit, orig, patched) {
            Some(why) => Move::IfUnused(why),
            None => {
                Move::Harmless("nobody could write it any more: the kernel's copy stays in use, and what it holds, too")
            }
        }),
        (Memory::Sealed, Memory::Plain) => Some(Move::IfUnused(
            "the kernel's copy cannot be written, which it can with the patch".to_owned(),
        )),
        _ => Some(Move::Never(format!(
            "it was in {} and is in {} now, and the kernel's copy stays where it is",
            describe(&unit.orig, orig),
            describe(&unit.patched, patched)
        ))),
    }
}

fn describe<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> String {
    match object.memory(atom) {
        Memory::Plain => "ordinary memory".to_owned(),
        Memory::Sealed => "memory that is only read".to_owned(),
        Memory::Init => "memory that is gone after boot".to_owned(),
        Memory::PerCpu => "the memory of each processor".to_owned(),
        Memory::Thread => "the memory of each thread".to_owned(),
        Memory::Named(name) => format!("`{name}`"),
    }
}

/// Compilers make use of an alignment that they have asked for: a sum of the address and a small offset becomes an `or`.
fn misaligned(unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> Option<String> {
    let (has, needs) = (unit.orig.atoms[orig].align, asked_for(&unit.patched, patched)?);
    (needs > has).then(|| format!("the kernel's copy is aligned to {has} bytes, not to {needs}"))
}

/// The alignment that a variable was given, as far as the object tells: where variables share a section, it tells no more
/// than that of the strictest, unless all lie as if they had the same.
fn asked_for(object: &Object<'_, Patched>, atom: Id<Patched, Atom>) -> Option<u64> {
    let section = &object.sections[object.atoms[atom].section];
    let mut all = section.atoms.clone().map(Id::new);
    all.all(|other| object.atoms[other].start.is_multiple_of(section.sh_addralign))
        .then_some(section.sh_addralign)
}

/// Who in the livepatch uses the kernel's variables.
struct Users<'d> {
    twins: BTreeMap<(UnitId, Id<Orig, Atom>), String>,
    names: BTreeMap<&'d str, (ObjectName, String)>,
}

impl<'d> Users<'d> {
    fn of(group: &Group<'_>, atoms: &Atoms<'d>) -> Self {
        let (mut twins, mut names) = (BTreeMap::new(), BTreeMap::new());
        for ((unit, atom), selected) in atoms {
            let owner = &group.units[*unit];
            // Rows describe code, and the code that they are about has its own reference.
            if owner.patched.atoms[*atom].kind == AtomKind::Entry {
                continue;
            }
            let label = || names::readable(&owner.patched.label(*atom));
            for link in &selected.links {
                match link {
                    Link::Twin { unit, atom, .. } => {
                        twins.entry((*unit, *atom)).or_insert_with(label);
                    }
                    Link::Name { name, .. } => {
                        names.entry(*name).or_insert_with(|| (owner.parent.clone(), label()));
                    }
                    Link::InPatch(_) | Link::Absolute(_) => {}
                }
            }
        }
        Users { twins, names }
    }

    /// The first user of a variable: by itself, or by its global name in what is linked into something else.
    fn find(&self, unit: &Unit<'_>, orig: (UnitId, Id<Orig, Atom>), patched: Id<Patched, Atom>) -> Option<&str> {
        let by_name = || {
            let row = &unit.patched.atoms[patched];
            let symbols = row
                .symbol
                .iter()
                .chain(&row.aliases)
                .map(|id| &unit.patched.symbols[*id]);
            let mut users = symbols
                .filter(|symbol| !symbol.is_local())
                .filter_map(|symbol| self.names.get(symbol.name));
            users.find(|(parent, _)| *parent != unit.parent).map(|(_, user)| user)
        };
        self.twins.get(&orig).or_else(by_name).map(String::as_str)
    }
}
