//! Which changes a livepatch can carry, judged one atom at a time.

use std::collections::BTreeSet;

use super::{DATA_CHANGED, DATA_RESIZED, OPERATIONS_CHANGED, ORPHAN_PART};
use crate::arch::{RelocKind, Tracing};
use crate::compare::{self, Difference, UnitVerdicts, Verdict};
use crate::error::{Refusal, Subject};
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Patched, Side};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Class, Object, Reloc, Target};

/// The functions that changed, `.cold` parts included.
pub fn changed_functions(group: &Group<'_>, verdicts: &[UnitVerdicts]) -> Vec<(UnitId, Id<Patched, Atom>)> {
    let mut changed = Vec::new();
    for (unit, verdicts) in verdicts.iter().enumerate() {
        let object = &group.units[unit].patched;
        changed.extend(verdicts.of.iter().filter_map(|(atom, verdict)| {
            let function = object.atoms[atom].kind == AtomKind::Function && object.class(atom) != Class::Init;
            (function && matches!(verdict, Verdict::Changed(_))).then_some((unit, atom))
        }));
    }
    changed
}

/// Every change that a livepatch cannot carry.
pub fn check(group: &Group<'_>, verdicts: &[UnitVerdicts], accepted: &[String]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (unit, verdicts) in group.units.iter().zip(verdicts) {
        for (atom, verdict) in verdicts.of.iter() {
            if let Verdict::Changed(difference) = verdict {
                // A value that is accepted is judged by itself (`values.rs`).
                let refusal = refuse(unit, atom, difference);
                refusals.extend(refusal.filter(|refusal| !is_named(refusal, accepted)));
            }
        }
        refusals.extend(orphans(unit, verdicts));
    }
    refusals
}

/// Changed parts that no function is known for: nobody would jump into the new one.
fn orphans(unit: &Unit<'_>, verdicts: &UnitVerdicts) -> Vec<Refusal> {
    let object = &unit.patched;
    let changed: Vec<_> = verdicts
        .of
        .iter()
        .filter(|(atom, verdict)| {
            let part = object.atoms[*atom].kind == AtomKind::Function && object.is_part(*atom);
            part && matches!(verdict, Verdict::Changed(_))
        })
        .map(|(atom, _)| atom)
        .collect();
    if changed.is_empty() {
        return Vec::new();
    }
    let parts = object.parts();
    let orphans = changed
        .into_iter()
        .filter(|atom| !parts.iter().any(|(_, part)| part == atom));
    let refuse = |atom| {
        let why = "it is a part of a function, and the object has no function of that name";
        Refusal::new(ORPHAN_PART, object.subject(atom), why)
            .hint("change the function that it belongs to, so that it is taken as a whole")
    };
    orphans.map(refuse).collect()
}

/// Whether a refusal is about an initial value that the author accepts.
pub fn is_named(refusal: &Refusal, accepted: &[String]) -> bool {
    refusal.code == DATA_CHANGED && accepted.iter().any(|name| refusal.is_about(name))
}

/// Why a changed piece cannot be in a livepatch, if it cannot.
pub fn refuse(unit: &Unit<'_>, atom: Id<Patched, Atom>, difference: &Difference) -> Option<Refusal> {
    let object = &unit.patched;
    let (kind, class) = (object.atoms[atom].kind, object.class(atom));
    let at = object.subject(atom);
    match (kind, class) {
        // Boot code is judged as a whole (`boot.rs`).
        (_, Class::Init) => None,
        (AtomKind::Object, _)
            if unit.pairing.orig_of[atom].is_some_and(|twin| compare::is_copied(unit, twin, atom)) =>
        {
            let local = object.atoms[atom].symbol.is_none_or(|symbol| {
                let symbol = &object.symbols[symbol];
                symbol.is_local() || names::split_promoted(symbol.name).1.is_some()
            });
            let twin = unit.pairing.orig_of[atom];
            let operations = leads_on(object, atom) || twin.is_some_and(|twin| leads_on(&unit.orig, twin));
            if !local {
                let why = "it is global, so code outside the patched files may read it";
                Some(data(at, difference, why))
            } else {
                operations.then(|| operations_changed(&at, difference))
            }
        }
        (AtomKind::Object, _) => Some(data(at, difference, "running code already uses it")),
        _ => None,
    }
}

/// Whether a constant leads to functions or to variables, perhaps through other constants. What another file defines may
/// be one; places inside of functions are the compiler's own (the table of a `switch`).
fn leads_on<S: Side>(object: &Object<'_, S>, constant: Id<S, Atom>) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([constant]), vec![constant]);
    while let Some(next) = open.pop() {
        for reloc in object.relocs(next) {
            match reloc.target {
                Target::Extern { .. } => return true,
                Target::Atom { atom, delta } => match object.atoms[atom].kind {
                    AtomKind::Function if delta == 0 => return true,
                    AtomKind::Object | AtomKind::Anonymous if !object.class(atom).is_constant() => return true,
                    AtomKind::Object | AtomKind::Anonymous if seen.insert(atom) => open.push(atom),
                    _ => {}
                },
                Target::Absolute(_) => {}
            }
        }
    }
    false
}

/// An open file has the address of its operations, and compares it: with a copy, what is open is no longer recognised,
/// and what is opened meanwhile calls into a livepatch that may be gone.
fn operations_changed(at: &Subject, difference: &Difference) -> Refusal {
    let name = at.symbol.as_deref().map_or("?", names::unpromoted);
    let why = format!("objects may hold the address of this table of functions, which cannot change ({difference})");
    Refusal::new(OPERATIONS_CHANGED, at.clone(), why).hint(format!(
        "change the functions that it has instead; or, if its address is never kept, accept it with --accept {name}"
    ))
}

fn data(at: Subject, difference: &Difference, why: &str) -> Refusal {
    let resized = matches!(difference, Difference::Size { .. });
    let what = if resized {
        "size changed"
    } else {
        "initial value changed"
    };
    let refusal = Refusal::new(
        if resized { DATA_RESIZED } else { DATA_CHANGED },
        at,
        format!("{what} ({difference}); {why}"),
    );
    refusal.hint(if resized {
        "keep the variable and put what is new into a new variable or a shadow variable"
    } else {
        "keep the initialiser and set the new value from a function that runs, or at run time; or, if it is a number, accept \
         it by name (--accept), and the livepatch sets it if it still has the old value"
    })
}

/// The place in its section that the tracer records for a function.
pub fn tracing_site<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> Option<u64> {
    let row = &object.atoms[atom];
    match object.arch.facts().tracing.mark {
        Tracing::Call => object.arch.facts().tracing.site(tracing_call(object, atom)?.offset),
        Tracing::PatchableEntries => {
            let from = object
                .patchable
                .partition_point(|place| *place < (row.section, row.start));
            let (section, offset) = *object.patchable.get(from)?;
            let near = offset <= row.anchor + object.arch.facts().tracing.max_offset;
            (section == row.section && near).then_some(offset)
        }
        Tracing::Bytes(wanted) => {
            let code = object.bytes(atom).get((row.anchor - row.start) as usize..)?;
            code.starts_with(wanted).then_some(row.anchor)
        }
    }
}

/// The call to the tracing callee at a function's entry.
pub fn tracing_call<'o, S: Side>(object: &'o Object<'_, S>, atom: Id<S, Atom>) -> Option<&'o Reloc<S>> {
    let row = &object.atoms[atom];
    let mut entry = object.relocs(atom).iter().filter(|reloc| reloc.offset >= row.anchor);
    entry.find(|reloc| {
        // In vmlinux.o the tracing callee is defined in the same object; objtool --mnop keeps its call as a NOP whose
        // relocation has no type, so that its addend means nothing.
        let callee = match reloc.target {
            Target::Extern { symbol, .. } => Some(object.symbols[symbol].name),
            Target::Atom { atom, delta } if delta == 0 || reloc.kind == RelocKind::None => object.name(atom),
            _ => None,
        };
        let near = reloc.offset - row.anchor <= object.arch.facts().tracing.max_offset + 1;
        // An instruction that begins in front of the function is no call at its entry.
        let site = object.arch.facts().tracing.site(reloc.offset);
        near && site.is_some_and(|site| site >= row.anchor)
            && callee.is_some_and(|name| object.arch.facts().tracing.is_callee(name))
    })
}

/// Differences of source lines and of landing pads, which do not matter to running code.
pub fn ignored(group: &Group<'_>, verdicts: &[UnitVerdicts]) -> Vec<Ignored> {
    let mut ignored = Vec::new();
    for (unit, verdicts) in group.units.iter().zip(verdicts) {
        let mut note = |name: String, why: &str| {
            ignored.push(Ignored {
                unit: unit.name.clone(),
                name,
                why: why.to_owned(),
            });
        };
        for atom in &verdicts.only_landing {
            if verdicts.of[*atom] == Verdict::Same {
                let name = names::readable(&unit.patched.label(*atom));
                note(name, "only its landing pad or type hash differs");
            }
        }
        for atom in &verdicts.only_lines {
            let owner = compare::owner(&unit.patched, *atom).unwrap_or(*atom);
            if !matches!(verdicts.of[owner], Verdict::Changed(_) | Verdict::New) {
                note(
                    names::readable(&unit.patched.label(owner)),
                    "only the number of a source line differs",
                );
            }
        }
    }
    ignored
}
