//! Follows every reference from the changed functions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::untraced::ground::Untraced;
use super::{
    AMBIGUOUS, BPF_IDENTIFIERS, Closed, INIT_REFERENCE, KernelNames, Link, ORPHAN_PART, RUNTIME_CONSTANT, Reason,
    Rewrite, SHORT_BRANCH, Selected, UNCLEAR_ADDRESS, borders, verdict,
};
use crate::arch::{RuntimeConst, Use};
use crate::compare::{UnitVerdicts, Verdict, is_copied};
use crate::error::Refusal;
use crate::group::{Group, Meaning, Place, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::names;
use crate::read::{AtomKind, Class, Filled, Reloc, Target};

type Key = (UnitId, Id<Patched, Atom>);

/// Identifiers of types and functions for BPF (include/linux/btf_ids.h).
const BTF_IDS: &str = ".BTF_ids";

/// Selects the changed functions and everything that must come along.
pub fn close<'d>(
    group: &Group<'d>,
    verdicts: &[UnitVerdicts],
    kernel: &dyn KernelNames,
    roots: &[Key],
    untraced: &Untraced,
    others: &[(UnitId, Id<Patched, Atom>, Reason)],
) -> Closed<'d> {
    let mut closure = Closure {
        group,
        verdicts,
        kernel,
        untraced,
        reasons: BTreeMap::new(),
        copied: BTreeSet::new(),
        queue: VecDeque::new(),
        refusals: Vec::new(),
    };
    for (unit, atom) in roots {
        if let Verdict::Changed(difference) = verdict(verdicts, *unit, *atom) {
            closure.include(
                (*unit, *atom),
                Reason::Changed {
                    difference: difference.clone(),
                },
            );
        }
    }
    for (key, name) in &untraced.callers {
        closure.include(*key, Reason::Calls { name: name.clone() });
    }
    for (unit, atom, reason) in others {
        closure.include((*unit, *atom), reason.clone());
    }
    let mut atoms = BTreeMap::new();
    while let Some(key) = closure.queue.pop_front() {
        let links = closure.links(key);
        let rewrites = closure.entries(key);
        let reason = closure.reasons[&key].clone();
        atoms.insert(
            key,
            Selected {
                reason,
                links,
                rewrites,
                detours: Vec::new(),
            },
        );
    }
    (atoms, closure.refusals)
}

struct Closure<'a, 'd> {
    group: &'a Group<'d>,
    verdicts: &'a [UnitVerdicts],
    kernel: &'a dyn KernelNames,
    untraced: &'a Untraced,
    reasons: BTreeMap<Key, Reason>,
    /// Functions that the kernel has as well, with their parts.
    copied: BTreeSet<Key>,
    queue: VecDeque<Key>,
    refusals: Vec<Refusal>,
}

impl<'d> Closure<'_, 'd> {
    fn include(&mut self, key: Key, reason: Reason) {
        if let std::collections::btree_map::Entry::Vacant(slot) = self.reasons.entry(key) {
            slot.insert(reason);
            self.queue.push_back(key);
        }
    }

    fn label(&self, (unit, atom): Key) -> String {
        names::readable(&self.group.units[unit].patched.label(atom))
    }

    /// Includes the entries that belong to an atom; constants written at boot become rewrites of its code instead.
    fn entries(&mut self, key: Key) -> Vec<Rewrite<'d>> {
        let (unit, atom) = key;
        let reason = Reason::EntryOf { name: self.label(key) };
        let object = &self.group.units[unit].patched;
        let mut rewrites = Vec::new();
        for entry in self.verdicts[unit].entries.get(&atom).into_iter().flatten() {
            let section = &object.sections[object.atoms[*entry].section];
            if section.special.is_some_and(|row| row.boot_constants) {
                rewrites.extend(self.runtime_constant(key, *entry, section.name));
            } else {
                self.include((unit, *entry), reason.clone());
            }
        }
        rewrites
    }

    /// A constant that the kernel writes into its code at boot would stay a placeholder in a module.
    fn runtime_constant(&mut self, owner: Key, entry: Id<Patched, Atom>, section: &'d str) -> Option<Rewrite<'d>> {
        let unit = &self.group.units[owner.0];
        let object = &unit.patched;
        let code = &object.sections[object.atoms[owner.1].section];
        let field = object.relocs(entry).first().and_then(|reloc| match reloc.target {
            Target::Atom { atom, delta } => object.atoms[atom].anchor.checked_add_signed(delta),
            _ => None,
        });
        let row = &object.atoms[owner.1];
        let inside =
            |code: &RuntimeConst<'_>| row.start <= code.offset && code.offset + code.bytes.len() as u64 <= row.end;
        let code = field.and_then(|field| object.arch.runtime_const(section, code.data, field));
        let Some(code) = code.filter(inside) else {
            let why = format!(
                "`{}` uses a constant of {section} that the kernel writes at boot",
                self.label(owner)
            );
            self.refusals.push(
                Refusal::new(RUNTIME_CONSTANT, object.subject(owner.1), why)
                    .hint("move the access into a function that the patch does not change"),
            );
            return None;
        };
        let named = |atom: &Id<Orig, Atom>| unit.orig.name(*atom) == Some(code.variable);
        let link = match unit.orig.atoms.ids().find(named) {
            Some(atom) => Link::Twin {
                unit: owner.0,
                atom,
                delta: 0,
            },
            None => Link::Name {
                name: code.variable,
                delta: 0,
            },
        };
        Some(Rewrite { code, link })
    }

    fn links(&mut self, key: Key) -> Vec<Link<'d>> {
        let (unit, atom) = key;
        let group = self.group;
        group.units[unit]
            .patched
            .relocs(atom)
            .iter()
            .map(|reloc| self.link(key, reloc))
            .collect()
    }

    fn link(&mut self, from: Key, reloc: &Reloc<Patched>) -> Link<'d> {
        if reloc.filled == Filled::TooShort {
            let object = &self.group.units[from.0].patched;
            let why = "a one-byte jump leaves it for its neighbour in the same section";
            self.refusals.push(
                Refusal::new(SHORT_BRANCH, object.subject(from.1), why)
                    .hint("change both functions, or neither: the distance between them cannot be kept"),
            );
        }
        match self.group.patched_meaning(from.0, &reloc.target) {
            Meaning::Absolute(value) => Link::Absolute(value),
            Meaning::Elsewhere { name, delta } => match self.new_in_other_object(from.0, name) {
                Some(place) => {
                    self.include((place.unit, place.atom), Reason::NewFor { name: self.label(from) });
                    Link::InPatch(Place {
                        delta: place.delta.wrapping_add(delta),
                        ..place
                    })
                }
                None => Link::Name { name, delta },
            },
            Meaning::Here(place) => {
                self.border(from, reloc, &place);
                let link = self.here(from, reloc.usage, place);
                if matches!(link, Link::InPatch(_)) {
                    self.identifiers(from, (place.unit, place.atom));
                }
                link
            }
        }
    }

    /// A patched module may use what the patch adds to the kernel or to another module. A name that it can use already
    /// keeps its meaning.
    fn new_in_other_object(&self, user: UnitId, name: &str) -> Option<Place<Patched>> {
        if self.kernel.offers(&self.group.units[user].parent, name) {
            return None;
        }
        let place = self.group.patched_definition(name)?;
        (*verdict(self.verdicts, place.unit, place.atom) == Verdict::New).then_some(place)
    }

    fn here(&mut self, from: Key, usage: Use, place: Place<Patched>) -> Link<'d> {
        let to = (place.unit, place.atom);
        let object = &self.group.units[place.unit].patched;
        if object.class(place.atom) == Class::Init {
            self.init_reference(from, to);
        }
        match object.atoms[place.atom].kind {
            AtomKind::Function => self.function(from, usage, place),
            AtomKind::Object => self.object(from, place),
            AtomKind::String | AtomKind::Anonymous | AtomKind::Piece | AtomKind::Entry => {
                self.include(to, Reason::CopiedFor { name: self.label(from) });
                Link::InPatch(place)
            }
        }
    }

    fn function(&mut self, from: Key, usage: Use, place: Place<Patched>) -> Link<'d> {
        let to = (place.unit, place.atom);
        let source = self.group.units[from.0].patched.atoms[from.1].kind;
        let fact = verdict(self.verdicts, place.unit, place.atom);
        let twin = self.group.units[place.unit].pairing.orig_of[place.atom];
        let changed = matches!(fact, Verdict::Changed(_)) || self.untraced.callers.contains_key(&to);
        let Some(twin) = twin.filter(|_| *fact != Verdict::New) else {
            self.include(to, Reason::NewFor { name: self.label(from) });
            return Link::InPatch(place);
        };
        // Entries and pieces describe code of the livepatch; a place inside a function means that very code; a call
        // inside one file need not take the detour through the tracer.
        let own_code = matches!(source, AtomKind::Entry | AtomKind::Piece) || place.delta != 0 || usage == Use::Branch;
        let copied = self.copied.contains(&to) && (source != AtomKind::Function || self.copied.contains(&from));
        let along = from.0 == place.unit || self.untraced.carried.contains(&to);
        if (changed || copied) && own_code && along {
            return Link::InPatch(place);
        }
        let pointer = usage == Use::Address && place.delta == 0 && source != AtomKind::Entry;
        if pointer && self.kernel.needs_copy(&self.group.units[place.unit], twin, place.atom) && self.copy(from, to) {
            return Link::InPatch(place);
        }
        if source == AtomKind::Function {
            self.part_of_another(from, to);
        }
        Link::Twin {
            unit: place.unit,
            atom: twin,
            delta: self.in_twin(&place, twin),
        }
    }

    /// A distance from a function's entry, as it is in the kernel's copy: that may lack a landing pad, or have one.
    fn in_twin(&self, place: &Place<Patched>, twin: Id<Orig, Atom>) -> i64 {
        let unit = &self.group.units[place.unit];
        match place.delta {
            0 => 0,
            delta => delta - unit.patched.pad(place.atom) as i64 + unit.orig.pad(twin) as i64,
        }
    }

    /// Brings a function along whose kernel copy cannot be called through a pointer, with the parts that were split off
    /// it. Not what boots, nor what a table of the kernel leads into the middle of.
    fn copy(&mut self, from: Key, to: Key) -> bool {
        let object = &self.group.units[to.0].patched;
        let leads_inside =
            |reloc: &Reloc<Patched>| matches!(reloc.target, Target::Atom { atom, delta } if atom == to.1 && delta != 0);
        let mut variables = object.atoms.iter().filter(|(_, row)| row.kind == AtomKind::Object);
        let changed = matches!(verdict(self.verdicts, to.0, to.1), Verdict::Changed(_));
        let labels = !changed && variables.any(|(id, _)| object.relocs(id).iter().any(leads_inside));
        if labels || object.class(to.1) == Class::Init {
            return false;
        }
        let parts = object.parts();
        let own = parts
            .iter()
            .filter(|(parent, _)| *parent == to.1)
            .map(|(_, part)| *part);
        let all: Vec<_> = own.chain([to.1]).map(|atom| (to.0, atom)).collect();
        self.copied.extend(&all);
        for key in all {
            self.include(key, Reason::CopiedFor { name: self.label(from) });
        }
        true
    }

    /// A jump to a part that was split off a function leads back into that function, with its stack frame: the kernel's
    /// copy of a part can follow the kernel's function only.
    fn part_of_another(&mut self, from: Key, to: Key) {
        let object = &self.group.units[to.0].patched;
        if object.is_part(to.1) {
            let why = format!(
                "`{}` jumps to this part, and it is not known as its own",
                self.label(from)
            );
            self.refusals.push(
                Refusal::new(ORPHAN_PART, object.subject(to.1), why)
                    .hint("change the function that it belongs to, so that it is taken as a whole"),
            );
        }
    }

    fn object(&mut self, from: Key, place: Place<Patched>) -> Link<'d> {
        let to = (place.unit, place.atom);
        let owner = &self.group.units[place.unit];
        let changed = matches!(verdict(self.verdicts, place.unit, place.atom), Verdict::Changed(_));
        match owner.pairing.orig_of[place.atom] {
            Some(twin) if changed && is_copied(owner, twin, place.atom) => {
                self.include(to, Reason::CopiedFor { name: self.label(from) });
                Link::InPatch(place)
            }
            Some(atom) => Link::Twin {
                unit: place.unit,
                atom,
                delta: place.delta,
            },
            None => {
                self.ambiguous(from, to);
                self.include(to, Reason::NewFor { name: self.label(from) });
                Link::InPatch(place)
            }
        }
    }

    fn ambiguous(&mut self, from: Key, to: Key) {
        let owner = &self.group.units[to.0];
        let Some(candidates) = owner.pairing.ambiguous.get(&to.1) else {
            return;
        };
        let user = self.label(from);
        let why = match &candidates[..] {
            [only] => format!("`{user}` uses it, and nothing shows that it is the kernel's `{only}`"),
            several => format!("`{user}` uses it, and it may be any of: {}", several.join(", ")),
        };
        self.refusals.push(
            Refusal::new(AMBIGUOUS, owner.patched.subject(to.1), why)
                .hint("give the static variable a name of its own, or make the change without moving it"),
        );
    }

    fn border(&mut self, from: Key, reloc: &Reloc<Patched>, place: &Place<Patched>) {
        let Some(before) = borders::meant_instead(self.group, self.verdicts, from, reloc, place) else {
            return;
        };
        let (before, next) = (self.label((from.0, before)), self.label((place.unit, place.atom)));
        let why = format!("an address in it may be the end of `{before}` or the start of `{next}`");
        let object = &self.group.units[from.0].patched;
        self.refusals.push(
            Refusal::new(UNCLEAR_ADDRESS, object.subject(from.1), why)
                .hint("define the new variable elsewhere, or without the attribute that gives both the same section"),
        );
    }

    /// resolve_btfids fills these in as the image or a module is linked (scripts/link-vmlinux.sh), and nobody does so for
    /// types that the livepatch brings along.
    fn identifiers(&mut self, from: Key, to: Key) {
        let object = &self.group.units[to.0].patched;
        if object.sections[object.atoms[to.1].section].name == BTF_IDS && from.1 != to.1 {
            let why = format!("`{}` uses it, and in a livepatch nobody fills it in", self.label(from));
            self.refusals.push(
                Refusal::new(BPF_IDENTIFIERS, object.subject(to.1), why)
                    .hint("leave the new identifiers out, and what registers them"),
            );
        }
    }

    fn init_reference(&mut self, from: Key, to: Key) {
        let object = &self.group.units[to.0].patched;
        let why = format!("`{}` refers to it, and it is gone after boot", self.label(from));
        self.refusals.push(
            Refusal::new(INIT_REFERENCE, object.subject(to.1), why)
                .hint("do not use __init code or data from code that still runs"),
        );
    }
}
