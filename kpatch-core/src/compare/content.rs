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
use crate::read::{AtomKind, Class, Filled, Object, Reloc};

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
        let (orig_object, patched_object) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        if depth > MAX_DEPTH {
            return Some(Difference::Bytes { offset: 0 });
        }
        if let Some(difference) = bytes(orig_object, orig, patched_object, patched) {
            let only_lines = lines::only_place(orig_object, orig, patched_object, patched)
                || self.lines == Lines::Noise && lines::only_lines(orig_object, orig, patched_object, patched);
            if !only_lines {
                return Some(difference);
            }
            self.only_lines.insert((patched_unit, patched));
        }
        let difference = self.relocs(twins, depth).or_else(|| self.attached(twins, depth));
        if difference.is_none() && landing(orig_object, orig, patched_object, patched).is_some() {
            self.only_landing.insert((patched_unit, patched));
        }
        difference
    }

    fn relocs(&mut self, twins: Twins, depth: usize) -> Option<Difference> {
        let (orig_unit, orig, patched_unit, patched) = twins;
        let (orig_object, patched_object) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        let (orig_relocs, patched_relocs) = (orig_object.relocs(orig), patched_object.relocs(patched));
        let (orig_anchor, patched_anchor) = match landing(orig_object, orig, patched_object, patched) {
            Some((before, after)) => (
                orig_object.atoms[orig].start + before,
                patched_object.atoms[patched].start + after,
            ),
            None => (orig_object.atoms[orig].anchor, patched_object.atoms[patched].anchor),
        };
        for (orig_reloc, patched_reloc) in orig_relocs.iter().zip(patched_relocs) {
            let offset = patched_reloc.offset.wrapping_sub(patched_anchor);
            if orig_reloc.offset.wrapping_sub(orig_anchor) != offset
                || orig_reloc.kind != patched_reloc.kind
                || orig_reloc.bias != patched_reloc.bias
                || orig_reloc.by_slot != patched_reloc.by_slot
            {
                return Some(Difference::Bytes {
                    offset: offset.min(orig_reloc.offset.wrapping_sub(orig_anchor)),
                });
            }
            if let Some(difference) =
                self.references((orig_unit, orig_reloc), (patched_unit, patched_reloc), offset, depth)
            {
                return Some(difference);
            }
        }
        (orig_relocs.len() != patched_relocs.len()).then_some(Difference::Bytes { offset: 0 })
    }

    fn references(
        &mut self,
        (orig_unit, orig): (UnitId, &Reloc<Orig>),
        (patched_unit, patched): (UnitId, &Reloc<Patched>),
        offset: u64,
        depth: usize,
    ) -> Option<Difference> {
        let orig = self.group.orig_meaning(orig_unit, &orig.target);
        let patched = self.group.patched_meaning(patched_unit, &patched.target);
        match (&orig, &patched) {
            (Meaning::Absolute(orig), Meaning::Absolute(patched)) if orig == patched => None,
            (
                Meaning::Elsewhere {
                    name: orig_name,
                    delta: orig_delta,
                },
                Meaning::Elsewhere {
                    name: patched_name,
                    delta: patched_delta,
                },
            ) if orig_name == patched_name && orig_delta == patched_delta => None,
            (Meaning::Here(orig), Meaning::Here(patched)) => self.places(*orig, *patched, offset, depth),
            _ => Some(Difference::Reference {
                offset,
                from: self.describe_orig(&orig),
                to: self.describe_patched(&patched),
            }),
        }
    }

    fn places(&mut self, orig: Place<Orig>, patched: Place<Patched>, offset: u64, depth: usize) -> Option<Difference> {
        let (orig_object, patched_object) = (
            &self.group.units[orig.unit].orig,
            &self.group.units[patched.unit].patched,
        );
        let other = |this: &Self| {
            let (orig, patched) = (Meaning::Here(orig), Meaning::Here(patched));
            Some(Difference::Reference {
                offset,
                from: this.describe_orig(&orig),
                to: this.describe_patched(&patched),
            })
        };
        let (orig_kind, patched_kind) = (
            orig_object.atoms[orig.atom].kind,
            patched_object.atoms[patched.atom].kind,
        );
        if orig_kind == AtomKind::String && patched_kind == AtomKind::String {
            let ((orig_text, orig_outside), (patched_text, patched_outside)) =
                (string(orig_object, orig), string(patched_object, patched));
            // Half of the bytes of a string of wide characters are zero, or more.
            let printable = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "");
            let same = orig_text == patched_text
                || self.lines == Lines::Noise && lines::only_lines_of_frame(orig_text, patched_text);
            return (!same || orig_outside != patched_outside).then(|| Difference::String {
                offset,
                from: printable(orig_text),
                to: printable(patched_text),
            });
        }
        let (orig_delta, patched_delta) = match landing(orig_object, orig.atom, patched_object, patched.atom) {
            // The entry is the entry; what lies behind it has moved.
            Some((before, after)) if orig.delta != 0 => {
                let ahead = |start: u64, anchor: u64, skip: u64| (start + skip) as i64 - anchor as i64;
                let (orig_row, patched_row) = (&orig_object.atoms[orig.atom], &patched_object.atoms[patched.atom]);
                (
                    orig.delta - ahead(orig_row.start, orig_row.anchor, before),
                    patched.delta - ahead(patched_row.start, patched_row.anchor, after),
                )
            }
            _ => (orig.delta, patched.delta),
        };
        if orig_kind != patched_kind || orig_delta != patched_delta {
            return other(self);
        }
        match orig_kind {
            AtomKind::Function | AtomKind::Object => {
                let pairing = &self.group.units[orig.unit].pairing;
                let twin = orig.unit == patched.unit && pairing.patched_of[orig.atom] == Some(patched.atom);
                // Constants whose names are only counted (`__func__.3`) may have no twin: then their content decides.
                let counted = orig.unit == patched.unit
                    && pairing.patched_of[orig.atom].is_none()
                    && pairing.orig_of[patched.atom].is_none()
                    && orig_kind == AtomKind::Object
                    && super::is_constant(orig_object, orig.atom)
                    && orig_object.name(orig.atom).map(names::stable)
                        == patched_object.name(patched.atom).map(names::stable);
                if !twin && !counted {
                    return other(self);
                }
                let constant = orig_kind == AtomKind::Object && super::is_constant(orig_object, orig.atom);
                let changed = constant
                    && self
                        .atoms((orig.unit, orig.atom, patched.unit, patched.atom), depth + 1)
                        .is_some();
                changed.then(|| Difference::Constant {
                    offset,
                    name: names::readable(&patched_object.label(patched.atom)),
                })
            }
            AtomKind::String | AtomKind::Anonymous | AtomKind::Entry | AtomKind::Piece => {
                let inner = self.atoms((orig.unit, orig.atom, patched.unit, patched.atom), depth + 1);
                inner.map(|inner| match inner {
                    Difference::String { .. } => inner,
                    _ => Difference::Constant {
                        offset,
                        name: names::readable(&patched_object.label(patched.atom)),
                    },
                })
            }
        }
    }

    /// The entries of special sections that belong to both.
    fn attached(&mut self, twins: Twins, depth: usize) -> Option<Difference> {
        let (orig_unit, orig, patched_unit, patched) = twins;
        let none = (Vec::new(), Vec::new());
        let (orig_object, patched_object) = (
            &self.group.units[orig_unit].orig,
            &self.group.units[patched_unit].patched,
        );
        let orig_entries = self.entries[orig_unit].0.get(&orig).unwrap_or(&none.0);
        let patched_entries = self.entries[patched_unit].1.get(&patched).unwrap_or(&none.1);
        let of = |section: &str| section.to_owned();
        for (orig_entry, patched_entry) in orig_entries.iter().zip(patched_entries) {
            let section = patched_object.sections[patched_object.atoms[*patched_entry].section].name;
            if orig_object.sections[orig_object.atoms[*orig_entry].section].name != section {
                return Some(Difference::Entry { section: of(section) });
            }
            if let Some(inner) = self.atoms((orig_unit, *orig_entry, patched_unit, *patched_entry), depth + 1) {
                return Some(match inner {
                    Difference::String { .. } => inner,
                    _ => Difference::Entry { section: of(section) },
                });
            }
        }
        let longer = orig_entries.len().max(patched_entries.len());
        (orig_entries.len() != patched_entries.len()).then(|| {
            let section = match (orig_entries.get(longer - 1), patched_entries.get(longer - 1)) {
                (Some(entry), _) => orig_object.sections[orig_object.atoms[*entry].section].name,
                (_, Some(entry)) => patched_object.sections[patched_object.atoms[*entry].section].name,
                (None, None) => "?",
            };
            Difference::Entries {
                section: of(section),
                from: orig_entries.len(),
                to: patched_entries.len(),
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
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> Option<Difference> {
    let (orig_row, patched_row) = (&orig_object.atoms[orig], &patched_object.atoms[patched]);
    let (before, after) = landing(orig_object, orig, patched_object, patched).unwrap_or_default();
    let orig_size = orig_row.end - orig_row.start - before;
    let patched_size = patched_row.end - patched_row.start - after;
    if orig_size != patched_size {
        let (from, to) = (orig_row.end - orig_row.anchor, patched_row.end - patched_row.anchor);
        // A landing pad may have taken the room of padding in front of a loop.
        return Some(match from == to {
            true => Difference::Bytes { offset: 0 },
            false => Difference::Size { from, to },
        });
    }
    // Where a variable lies is not what it holds; whether the place matters is judged where it is used.
    if patched_row.kind != AtomKind::Object && orig_object.class(orig) != patched_object.class(patched) {
        return Some(Difference::Bytes { offset: 0 });
    }
    // Boot data is read by whoever walks its section. What becomes boot data, or stays, is judged where it is used, too.
    let are_boot = orig_object.class(orig) == Class::Init && patched_object.class(patched) == Class::Init;
    if are_boot && orig_object.sections[orig_row.section].name != patched_object.sections[patched_row.section].name {
        return Some(Difference::Bytes { offset: 0 });
    }
    let pad = ((patched_row.anchor - patched_row.start) as usize).saturating_sub(after as usize);
    let behind = |bytes, skip: u64| <[u8]>::get(bytes, skip as usize..).unwrap_or_default();
    let orig_bytes = behind(orig_object.bytes(orig), before);
    let patched_bytes = behind(patched_object.bytes(patched), after);
    if orig_bytes == patched_bytes {
        return None;
    }
    // A variable that is zero goes to .bss, where there are no bytes, and to .data once it is something else.
    let length = orig_bytes.len().max(patched_bytes.len());
    let (mut orig_bytes, mut patched_bytes) = (filled_up(orig_bytes, length), filled_up(patched_bytes, length));
    // A distance that the assembler filled in says nothing by itself. One side may have a relocation there instead: a
    // static function that another file begins to import is reached by one.
    for field in filled(orig_object, orig, before)
        .into_iter()
        .chain(filled(patched_object, patched, after))
    {
        for bytes in [&mut orig_bytes, &mut patched_bytes] {
            if let Some(bytes) = bytes.get_mut(field.clone()) {
                orig_object.arch.clear_filled(bytes);
            }
        }
    }
    let at = orig_bytes.iter().zip(&patched_bytes).position(|(x, y)| x != y)?;
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
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> Option<(u64, u64)> {
    let functions =
        orig_object.atoms[orig].kind == AtomKind::Function && patched_object.atoms[patched].kind == AtomKind::Function;
    functions
        .then(|| orig_object.landing_differs(orig, patched_object, patched))
        .flatten()
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
