//! Comparison by meaning and content.
//!
//! References can form cycles (a constant that points to itself through another), so a pair that is being compared is
//! assumed equal while it is. An assumption counts only if the outermost comparison that made it succeeds.

use std::collections::BTreeSet;

use super::lines::{self, Lines};
use super::{Difference, Entries};
use crate::group::{Group, Meaning, Place, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Filled, Object, Reloc};

/// How many references deep a comparison follows; real data is far below, hostile input is stopped here.
const MAX_DEPTH: usize = 128;

type Twins = (UnitId, Id<Orig, Atom>, UnitId, Id<Patched, Atom>);

/// Compares atoms of a group, remembering what was found equal.
pub struct Comparison<'g, 'd> {
    group: &'g Group<'d>,
    entries: &'g [(Entries<Orig>, Entries<Patched>)],
    lines: Lines,
    equal: BTreeSet<Twins>,
    assumed: BTreeSet<Twins>,
    only_lines: BTreeSet<(UnitId, Id<Patched, Atom>)>,
    only_landing: BTreeSet<(UnitId, Id<Patched, Atom>)>,
}

impl<'g, 'd> Comparison<'g, 'd> {
    pub fn new(group: &'g Group<'d>, entries: &'g [(Entries<Orig>, Entries<Patched>)], lines: Lines) -> Self {
        Comparison {
            group,
            entries,
            lines,
            equal: BTreeSet::new(),
            assumed: BTreeSet::new(),
            only_lines: BTreeSet::new(),
            only_landing: BTreeSet::new(),
        }
    }

    /// The atoms of a unit whose bytes differ in numbers of source lines only.
    pub fn only_lines(&self, unit: UnitId) -> BTreeSet<Id<Patched, Atom>> {
        let own = self.only_lines.iter().filter(|(owner, _)| *owner == unit);
        own.map(|(_, atom)| *atom).collect()
    }

    /// The functions of a unit that differ in what indirect calls need only.
    pub fn only_landing(&self, unit: UnitId) -> BTreeSet<Id<Patched, Atom>> {
        let own = self.only_landing.iter().filter(|(owner, _)| *owner == unit);
        own.map(|(_, atom)| *atom).collect()
    }

    /// The first difference between twins of one unit.
    pub fn twins(&mut self, unit: UnitId, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> Option<Difference> {
        let difference = self.atoms((unit, orig, unit, patched), 0);
        let assumed = std::mem::take(&mut self.assumed);
        if difference.is_none() {
            self.equal.extend(assumed);
        }
        difference
    }

    fn atoms(&mut self, twins: Twins, depth: usize) -> Option<Difference> {
        if self.equal.contains(&twins) || !self.assumed.insert(twins) {
            return None;
        }
        let (orig_unit, orig, patched_unit, patched) = twins;
        let (ours, theirs) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        if depth > MAX_DEPTH {
            return Some(Difference::Bytes { offset: 0 });
        }
        if let Some(difference) = bytes(ours, orig, theirs, patched) {
            if self.lines == Lines::Count || !lines::only_lines(ours, orig, theirs, patched) {
                return Some(difference);
            }
            self.only_lines.insert((patched_unit, patched));
        }
        let difference = self.relocs(twins, depth).or_else(|| self.attached(twins, depth));
        if difference.is_none() && landing(ours, orig, theirs, patched).is_some() {
            self.only_landing.insert((patched_unit, patched));
        }
        difference
    }

    fn relocs(&mut self, twins: Twins, depth: usize) -> Option<Difference> {
        let (orig_unit, orig, patched_unit, patched) = twins;
        let (ours, theirs) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        let (our_relocs, their_relocs) = (ours.relocs(orig), theirs.relocs(patched));
        let (our_anchor, their_anchor) = match landing(ours, orig, theirs, patched) {
            Some((a, b)) => (ours.atoms[orig].start + a, theirs.atoms[patched].start + b),
            None => (ours.atoms[orig].anchor, theirs.atoms[patched].anchor),
        };
        for (one, other) in our_relocs.iter().zip(their_relocs) {
            let offset = other.offset.wrapping_sub(their_anchor);
            if one.offset.wrapping_sub(our_anchor) != offset
                || one.kind != other.kind
                || one.bias != other.bias
                || one.by_slot != other.by_slot
            {
                return Some(Difference::Bytes {
                    offset: offset.min(one.offset.wrapping_sub(our_anchor)),
                });
            }
            if let Some(difference) = self.references((orig_unit, one), (patched_unit, other), offset, depth) {
                return Some(difference);
            }
        }
        (our_relocs.len() != their_relocs.len()).then_some(Difference::Bytes { offset: 0 })
    }

    fn references(
        &mut self,
        (orig_unit, one): (UnitId, &Reloc<Orig>),
        (patched_unit, other): (UnitId, &Reloc<Patched>),
        offset: u64,
        depth: usize,
    ) -> Option<Difference> {
        let ours = self.group.orig_meaning(orig_unit, &one.target);
        let theirs = self.group.patched_meaning(patched_unit, &other.target);
        match (&ours, &theirs) {
            (Meaning::Absolute(from), Meaning::Absolute(to)) if from == to => None,
            (Meaning::Elsewhere { name: from, delta: a }, Meaning::Elsewhere { name: to, delta: b })
                if from == to && a == b =>
            {
                None
            }
            (Meaning::Here(from), Meaning::Here(to)) => self.places(*from, *to, offset, depth),
            _ => Some(Difference::Reference {
                offset,
                from: self.describe_orig(&ours),
                to: self.describe_patched(&theirs),
            }),
        }
    }

    fn places(&mut self, from: Place<Orig>, to: Place<Patched>, offset: u64, depth: usize) -> Option<Difference> {
        let (ours, theirs) = (&self.group.units[from.unit].orig, &self.group.units[to.unit].patched);
        let other = |this: &Self| {
            let (from, to) = (Meaning::Here(from), Meaning::Here(to));
            Some(Difference::Reference {
                offset,
                from: this.describe_orig(&from),
                to: this.describe_patched(&to),
            })
        };
        let (our_kind, their_kind) = (ours.atoms[from.atom].kind, theirs.atoms[to.atom].kind);
        if our_kind == AtomKind::String && their_kind == AtomKind::String {
            let ((one, before), (two, after)) = (string(ours, from), string(theirs, to));
            // Half of the bytes of a string of wide characters are zero, or more.
            let printable = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "");
            return (one != two || before != after).then(|| Difference::String {
                offset,
                from: printable(one),
                to: printable(two),
            });
        }
        let distances = match landing(ours, from.atom, theirs, to.atom) {
            // The entry is the entry; what lies behind it has moved.
            Some((a, b)) if from.delta != 0 => {
                let ahead = |start: u64, anchor: u64, skip: u64| (start + skip) as i64 - anchor as i64;
                let (one, two) = (&ours.atoms[from.atom], &theirs.atoms[to.atom]);
                (
                    from.delta - ahead(one.start, one.anchor, a),
                    to.delta - ahead(two.start, two.anchor, b),
                )
            }
            _ => (from.delta, to.delta),
        };
        if our_kind != their_kind || distances.0 != distances.1 {
            return other(self);
        }
        match our_kind {
            AtomKind::Function | AtomKind::Object => {
                let pairing = &self.group.units[from.unit].pairing;
                let twin = from.unit == to.unit && pairing.patched_of[from.atom] == Some(to.atom);
                // Constants whose names are only counted (`__func__.3`) may have no twin: then their content decides.
                let counted = from.unit == to.unit
                    && pairing.patched_of[from.atom].is_none()
                    && pairing.orig_of[to.atom].is_none()
                    && our_kind == AtomKind::Object
                    && super::is_constant(ours, from.atom)
                    && ours.name(from.atom).map(names::stable) == theirs.name(to.atom).map(names::stable);
                if !twin && !counted {
                    return other(self);
                }
                let constant = our_kind == AtomKind::Object && super::is_constant(ours, from.atom);
                let changed = constant
                    && self
                        .atoms((from.unit, from.atom, to.unit, to.atom), depth + 1)
                        .is_some();
                changed.then(|| Difference::Constant {
                    offset,
                    name: names::readable(&theirs.label(to.atom)),
                })
            }
            AtomKind::String | AtomKind::Anonymous | AtomKind::Entry | AtomKind::Piece => {
                let inner = self.atoms((from.unit, from.atom, to.unit, to.atom), depth + 1);
                inner.map(|inner| match inner {
                    Difference::String { .. } => inner,
                    _ => Difference::Constant {
                        offset,
                        name: names::readable(&theirs.label(to.atom)),
                    },
                })
            }
        }
    }

    /// The entries of special sections that belong to both.
    fn attached(&mut self, twins: Twins, depth: usize) -> Option<Difference> {
        let (orig_unit, orig, patched_unit, patched) = twins;
        let none = (Vec::new(), Vec::new());
        let (ours, theirs) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        let our_entries = self.entries[orig_unit].0.get(&orig).unwrap_or(&none.0);
        let their_entries = self.entries[patched_unit].1.get(&patched).unwrap_or(&none.1);
        let of = |section: &str| section.to_owned();
        for (one, other) in our_entries.iter().zip(their_entries) {
            let section = theirs.sections[theirs.atoms[*other].section].name;
            if ours.sections[ours.atoms[*one].section].name != section {
                return Some(Difference::Entry { section: of(section) });
            }
            if let Some(inner) = self.atoms((orig_unit, *one, patched_unit, *other), depth + 1) {
                return Some(match inner {
                    Difference::String { .. } => inner,
                    _ => Difference::Entry { section: of(section) },
                });
            }
        }
        let longer = our_entries.len().max(their_entries.len());
        (our_entries.len() != their_entries.len()).then(|| {
            let section = match (our_entries.get(longer - 1), their_entries.get(longer - 1)) {
                (Some(entry), _) => ours.sections[ours.atoms[*entry].section].name,
                (_, Some(entry)) => theirs.sections[theirs.atoms[*entry].section].name,
                (None, None) => "?",
            };
            Difference::Entries {
                section: of(section),
                from: our_entries.len(),
                to: their_entries.len(),
            }
        })
    }

    fn describe_orig(&self, meaning: &Meaning<'d, Orig>) -> String {
        match meaning {
            Meaning::Here(place) => located(&self.group.units[place.unit].orig, place),
            Meaning::Elsewhere { name, delta } => plus(&names::readable(name), *delta),
            Meaning::Absolute(value) => format!("{value:#x}"),
        }
    }

    fn describe_patched(&self, meaning: &Meaning<'d, Patched>) -> String {
        match meaning {
            Meaning::Here(place) => located(&self.group.units[place.unit].patched, place),
            Meaning::Elsewhere { name, delta } => plus(&names::readable(name), *delta),
            Meaning::Absolute(value) => format!("{value:#x}"),
        }
    }
}

fn located<S: Side>(object: &Object<'_, S>, place: &Place<S>) -> String {
    plus(&names::readable(&object.label(place.atom)), place.delta)
}

fn plus(name: &str, delta: i64) -> String {
    if delta == 0 {
        name.to_owned()
    } else {
        let sign = if delta < 0 { '-' } else { '+' };
        format!("{name}{sign}{:#x}", delta.unsigned_abs())
    }
}

/// The string from the place on, without its NUL, and how far outside of it the place is: a loop may count from the byte
/// in front of the first.
fn string<'d, S: Side>(object: &Object<'d, S>, place: Place<S>) -> (&'d [u8], i64) {
    let bytes = object.bytes(place.atom);
    let from = place.delta.clamp(0, bytes.len() as i64);
    let rest = &bytes[from as usize..];
    (rest.strip_suffix(&[0]).unwrap_or(rest), place.delta.wrapping_sub(from))
}

/// The first difference in length, kind of section or bytes; the fields of relocations are compared by meaning later.
fn bytes(
    ours: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    theirs: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> Option<Difference> {
    let (one, other) = (&ours.atoms[orig], &theirs.atoms[patched]);
    let (skip, skipped) = landing(ours, orig, theirs, patched).unwrap_or_default();
    let (from, to) = (one.end - one.start - skip, other.end - other.start - skipped);
    if from != to {
        return Some(Difference::Size {
            from: one.end - one.anchor,
            to: other.end - other.anchor,
        });
    }
    // Where a variable lies is not what it holds; whether the place matters is judged where it is used.
    if other.kind != AtomKind::Object && ours.class(orig) != theirs.class(patched) {
        return Some(Difference::Bytes { offset: 0 });
    }
    let pad = ((other.anchor - other.start) as usize).saturating_sub(skipped as usize);
    let behind = |bytes, skip: u64| <[u8]>::get(bytes, skip as usize..).unwrap_or_default();
    let (a, b) = (behind(ours.bytes(orig), skip), behind(theirs.bytes(patched), skipped));
    if a == b {
        return None;
    }
    // A variable that is zero goes to .bss, where there are no bytes, and to .data once it is something else.
    let length = a.len().max(b.len());
    let (mut a, mut b) = (filled_up(a, length), filled_up(b, length));
    // A distance that the assembler filled in says nothing by itself. One side may have a relocation there instead: a
    // static function that another file begins to import is reached by one.
    for field in filled(ours, orig, skip)
        .into_iter()
        .chain(filled(theirs, patched, skipped))
    {
        for bytes in [&mut a, &mut b] {
            if let Some(bytes) = bytes.get_mut(field.clone()) {
                ours.arch.clear_filled(bytes);
            }
        }
    }
    let at = a.iter().zip(&b).position(|(x, y)| x != y)?;
    Some(Difference::Bytes {
        offset: at.saturating_sub(pad) as u64,
    })
}

/// Bytes with the zeros that a section without bytes stands for. Memory is bounded by the side that has them.
fn filled_up(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(length, 0);
    all
}

/// How many bytes from their start two functions have that are there for indirect calls only, where one side has what
/// the other lacks. A static function gains a landing pad and a hash as soon as somebody takes its address, and one that
/// another file begins to import gains them, too; what it does stays the same. Whether the kernel's copy can be the
/// target of a pointer is asked where one is made (`select/closure.rs`).
fn landing(
    ours: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    theirs: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> Option<(u64, u64)> {
    let functions = ours.atoms[orig].kind == AtomKind::Function && theirs.atoms[patched].kind == AtomKind::Function;
    functions.then(|| ours.landing_differs(orig, theirs, patched)).flatten()
}

/// The fields of an atom that the assembler filled in, as ranges from `skip` bytes behind its start.
fn filled<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>, skip: u64) -> Vec<std::ops::Range<usize>> {
    let start = object.atoms[atom].start + skip;
    let relocs = object.relocs(atom).iter();
    let relocs = relocs.filter(|reloc| reloc.filled != Filled::No && reloc.offset >= start);
    let field = |reloc: &Reloc<S>| {
        let from = (reloc.offset - start) as usize;
        from..from + usize::from(reloc.kind.size())
    };
    relocs.map(field).collect()
}
