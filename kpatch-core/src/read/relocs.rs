//! Relocations: from rows of the file to the atoms that they mean.
//!
//! For a PC-relative relocation on x86-64, `addend + 4` is the target only if no immediate operand follows the field;
//! otherwise a reference to one string looks like one into its neighbour. So code is decoded.

use super::elf::{RawReloc, RawRelocs};
use super::{AtomKind, BAD_RELOCATION, Filled, Object, Reloc, Section, Symbol, Target};
use crate::arch::{CodeField, Fields, FilledReference, RelocKind, Split, Use};
use crate::error::{Error, Subject};
use crate::ids::{Atom, Id, Sec, Side, Sym, Table};
use crate::read::Class;
use crate::threads;

/// A relocation whose kind and field are known and whose target is not yet an atom.
pub struct Pending<S> {
    pub offset: u64,
    pub r_type: u32,
    pub kind: RelocKind,
    pub symbol: Id<S, Sym>,
    pub addend: i64,
    pub field: CodeField,
    /// Whether it names the end of a range, so that the byte before it is meant.
    pub end: bool,
}

impl<S> Pending<S> {
    /// The offset from the symbol in bytes that the instruction or field means.
    pub fn delta(&self) -> i64 {
        self.addend.wrapping_add(i64::from(self.field.bias))
    }
}

/// All relocations of an object by section, and the references without one.
pub struct Decoded<S> {
    pub relocs: Table<S, Sec, Vec<Pending<S>>>,
    pub filled: Table<S, Sec, Vec<FilledReference>>,
}

/// Reads the relocations of the sections that matter, and decodes code to find which operand each one is.
pub fn decode<S: Side>(object: &Object<'_, S>, raw: &RawRelocs<'_, S>) -> Result<Decoded<S>, Error> {
    let ids: Vec<Id<S, Sec>> = object.sections.ids().collect();
    let decoded = threads::map_many(&ids, object.size, |id| {
        let section = &object.sections[*id];
        let used = section.class != Class::Ignored
            || section.name == "__patchable_function_entries"
            || object.arch.facts().slot_section == Some(section.name);
        if used {
            pending(object, *id, &raw.of(*id))
        } else {
            Ok((Vec::new(), Vec::new()))
        }
    });
    let decoded: Vec<_> = decoded.into_iter().collect::<Result<_, _>>()?;
    let (relocs, filled): (Vec<_>, Vec<_>) = decoded.into_iter().unzip();
    Ok(Decoded {
        relocs: relocs.into_iter().collect(),
        filled: filled.into_iter().collect(),
    })
}

/// The relocations of a section, and its references that have none.
type OfSection<S> = (Vec<Pending<S>>, Vec<FilledReference>);

fn pending<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, raws: &[RawReloc<S>]) -> Result<OfSection<S>, Error> {
    let section = &object.sections[id];
    let data = CodeField {
        bias: 0,
        usage: Use::Address,
    };
    let code = section.sh_flags & object::elf::SHF_EXECINSTR.0 != 0;
    let (fields, filled) = if code {
        let offsets: Vec<u64> = raws.iter().map(|raw| raw.offset).collect();
        let map = object.arch.code_map(section.data, &offsets);
        (map.fields, map.filled)
    } else {
        (vec![Some(data); raws.len()], Vec::new())
    };
    let entry = entry_fields(section);
    let mut all = Vec::with_capacity(raws.len());
    for (raw, field) in raws.iter().zip(fields) {
        let at = || Subject::file(&object.file).section(section.name).offset(raw.offset);
        if raw.symbol.index() >= object.symbols.len().max(1) {
            let why = "the relocation names a symbol that does not exist";
            return Err(Error::new(super::BAD_ELF, at(), why));
        }
        let kind = object.arch.facts().relocs.kind(raw.r_type).ok_or_else(|| {
            let why = format!(
                "relocation type {} is not known",
                object.arch.facts().relocs.name(raw.r_type)
            );
            Error::new(BAD_RELOCATION, at(), why)
        })?;
        if raw
            .offset
            .checked_add(kind.size().into())
            .is_none_or(|end| end > section.sh_size)
        {
            return Err(Error::new(
                BAD_RELOCATION,
                at(),
                "the relocation lies outside its section",
            ));
        }
        let mut end = false;
        let field = match (field, kind) {
            (Some(field), RelocKind::Relative { .. }) if object.arch.facts().relocs.is_branch(raw.r_type) => {
                CodeField {
                    usage: Use::Branch,
                    ..field
                }
            }
            (Some(field), RelocKind::Relative { .. }) => match entry {
                Some((size, ends)) => {
                    let inside = raw.offset % size;
                    end = ends.contains(&inside);
                    let bias = -i16::try_from(inside).expect("entries are short");
                    CodeField { bias, ..field }
                }
                None => field,
            },
            (Some(field), _) => CodeField { bias: 0, ..field },
            (None, RelocKind::None) => data,
            (None, _) => {
                return Err(Error::new(
                    BAD_RELOCATION,
                    at(),
                    "no instruction has an operand at the relocation",
                ));
            }
        };
        let (offset, r_type) = (raw.offset, raw.r_type);
        all.push(Pending {
            offset,
            r_type,
            kind,
            symbol: raw.symbol,
            addend: raw.addend,
            field,
            end,
        });
    }
    Ok((all, filled))
}

/// Entry size, and the fields that name an end, for a table whose fields count from the start of their entry.
fn entry_fields<S>(section: &Section<'_, S>) -> Option<(u64, &'static [u64])> {
    let row = section.special?;
    match (row.split, row.fields) {
        (Split::Entries(size), Fields::FromEntry(ends)) => Some((size, ends)),
        _ => None,
    }
}

/// Turns the pending relocations into targets, now that the atoms are known.
///
/// # Errors
/// [`BAD_RELOCATION`] if a field lies in two atoms.
pub fn attach<S: Side>(object: &mut Object<'_, S>, decoded: Decoded<S>) -> Result<(), Error> {
    let Decoded { relocs, filled } = decoded;
    let slots = object.arch.facts().slot_section;
    let slots = object
        .sections
        .ids()
        .find(|id| slots.is_some() && Some(object.sections[*id].name) == slots);
    let slots = slots.map(|id| (id, &relocs[id]));
    let ids: Vec<Id<S, Sec>> = object.sections.ids().collect();
    let found = threads::map_many(&ids, object.size, |id| {
        resolved(object, *id, &relocs[*id], &filled[*id], slots)
    });
    let found: Vec<Vec<Reloc<S>>> = found.into_iter().collect::<Result<_, _>>()?;
    drop((relocs, filled));
    for (index, all) in found.into_iter().enumerate() {
        let id = Id::new(index);
        for index in object.sections[id].atoms.clone() {
            let atom = &mut object.atoms[Id::new(index)];
            let low = all.partition_point(|reloc| reloc.offset < atom.start);
            let high = all.partition_point(|reloc| reloc.offset < atom.end);
            atom.relocs = low..high.max(low);
            let torn = all.get(atom.relocs.clone()).and_then(|own| {
                own.iter()
                    .find(|reloc| atom.end - reloc.offset < reloc.kind.size().into())
            });
            if let Some(torn) = torn {
                let at = Subject::file(&object.file)
                    .section(object.sections[id].name)
                    .offset(torn.offset);
                return Err(Error::new(BAD_RELOCATION, at, "the relocation lies in two atoms"));
            }
        }
        object.sections[id].relocs = all;
    }
    Ok(())
}

/// The section of address slots, with its relocations.
type Slots<'p, S> = Option<(Id<S, Sec>, &'p Vec<Pending<S>>)>;

/// The relocations of a section by offset, with those that the assembler had filled in.
fn resolved<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    pending: &[Pending<S>],
    filled: &[FilledReference],
    slots: Slots<'_, S>,
) -> Result<Vec<Reloc<S>>, Error> {
    if object.sections[id].class == Class::Ignored {
        return Ok(Vec::new());
    }
    let mut all = Vec::with_capacity(pending.len());
    for pending in pending.iter().filter(|pending| !is_idle(object, id, pending.offset)) {
        let slot = slots.and_then(|(slots, relocs)| Some((slots, relocs, slot_offset(object, slots, pending)?)));
        let target = match slot {
            Some((slots, relocs, offset)) => {
                held(object, slots, offset, relocs).ok_or_else(|| no_slot(object, id, pending.offset))?
            }
            None => target(object, pending),
        };
        all.push(Reloc {
            offset: pending.offset,
            r_type: pending.r_type,
            kind: pending.kind,
            addend: pending.addend,
            bias: pending.field.bias,
            usage: pending.field.usage,
            target,
            by_section: object.symbols.get(pending.symbol).is_some_and(Symbol::is_section),
            by_slot: slot.is_some(),
            filled: Filled::No,
        });
    }
    let count = all.len();
    all.extend(filled.iter().filter_map(|reference| leaving(object, id, *reference)));
    if all.len() > count {
        all.sort_by_key(|reloc| reloc.offset);
    }
    Ok(all)
}

/// Whether the kernel never reads a field: the field points at the code that an entry copies, and the entry copies 0
/// bytes. The code at that address belongs to another entry.
fn is_idle<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, offset: u64) -> bool {
    let Class::Special(Split::OneOf(shapes)) = object.sections[id].class else {
        return false;
    };
    let Some(entry) = object.atom_at(id, offset) else {
        return false;
    };
    let row = &object.atoms[entry];
    let shape = shapes.iter().find(|shape| shape.size == row.end - row.start);
    let Some((shape, copied)) = shape.and_then(|shape| Some((shape, shape.copied?))) else {
        return false;
    };
    let length = object.bytes(entry).get(copied as usize);
    length == Some(&0) && shape.perhaps.contains(&(offset - row.start))
}

/// The offset of the slot that a relocation refers to, if it refers to one.
fn slot_offset<S: Side>(object: &Object<'_, S>, slots: Id<S, Sec>, pending: &Pending<S>) -> Option<i64> {
    let symbol = object.symbols.get(pending.symbol)?;
    let through = symbol.section == Some(slots) && matches!(pending.kind, RelocKind::TocRelative { .. });
    through.then(|| (symbol.st_value as i64).wrapping_add(pending.delta()))
}

/// What a slot holds: an address, or a number. `None` if there is no slot at the offset.
fn held<S: Side>(object: &Object<'_, S>, slots: Id<S, Sec>, offset: i64, relocs: &[Pending<S>]) -> Option<Target<S>> {
    const SIZE: u64 = 8;
    let offset = u64::try_from(offset)
        .ok()
        .filter(|offset| offset.is_multiple_of(SIZE))?;
    let bytes = object.sections[slots]
        .data
        .get(offset as usize..)?
        .get(..SIZE as usize)?;
    let first = relocs.partition_point(|pending| pending.offset < offset);
    let mut own = relocs[first..]
        .iter()
        .take_while(|pending| pending.offset < offset + SIZE);
    match (own.next(), own.next()) {
        (None, _) => {
            let value = u64::from_le_bytes(bytes.try_into().ok()?);
            let value = if object.arch.facts().big_endian {
                value.swap_bytes()
            } else {
                value
            };
            Some(Target::Absolute(value as i64))
        }
        (Some(pending), None) => {
            let pointer = pending.r_type == object.arch.facts().relocs.pointer.0 && pending.offset == offset;
            pointer.then(|| target(object, pending))
        }
        _ => None,
    }
}

fn no_slot<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, offset: u64) -> Error {
    let at = Subject::file(&object.file)
        .section(object.sections[id].name)
        .offset(offset);
    Error::new(BAD_RELOCATION, at, "it refers to an address slot that does not exist")
}

fn target<S: Side>(object: &Object<'_, S>, pending: &Pending<S>) -> Target<S> {
    let delta = pending.delta();
    let Some(symbol) = object.symbols.get(pending.symbol) else {
        return Target::Absolute(delta);
    };
    let Some(section) = symbol.section else {
        let absolute = symbol.absolute || pending.symbol.index() == 0;
        return if absolute {
            Target::Absolute(delta.wrapping_add(symbol.st_value as i64))
        } else {
            Target::Extern {
                symbol: pending.symbol,
                delta,
            }
        };
    };
    let meant = (symbol.st_value as i64).wrapping_add(delta);
    // A reference by a symbol means that symbol, whatever the addend; a reference by a section means the byte it points
    // at.
    let place = if symbol.is_section() {
        meant
    } else {
        symbol.st_value as i64
    };
    // Compilers may also refer to an element before the first or behind the last, to save an instruction; and the sum of a
    // field in a table of distances means something only to who adds the two up. What follows the last atom is filler.
    let place = u64::try_from(place).unwrap_or(0).min(object.sections[section].sh_size);
    let place = if symbol.is_section() {
        place.min(last_end(object, section))
    } else {
        place
    };
    let place = if pending.end { place.saturating_sub(1) } else { place };
    let atom = object.atom_at(section, place);
    match atom {
        Some(atom) => Target::Atom {
            atom,
            delta: to_entry(
                object,
                atom,
                pending,
                meant.wrapping_sub(object.atoms[atom].anchor as i64),
            ),
        },
        None => Target::Extern {
            symbol: pending.symbol,
            delta,
        },
    }
}

/// Where the last atom of a section ends; the section may be longer.
fn last_end<S: Side>(object: &Object<'_, S>, section: Id<S, Sec>) -> u64 {
    let last = object.sections[section].atoms.clone().next_back();
    last.map_or(u64::MAX, |last| object.atoms[Id::new(last)].end)
}

/// A branch to the local entry by section is a call of the function, like a branch that names it.
fn to_entry<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>, pending: &Pending<S>, delta: i64) -> i64 {
    let local = object.local_entry(atom) as i64;
    let by_place = object.symbols.get(pending.symbol).is_some_and(Symbol::is_section);
    if by_place && pending.field.usage == Use::Branch && delta == local {
        0
    } else {
        delta
    }
}

/// A filled-in reference from one atom to another: it needs a relocation once the atoms are moved apart. So does the
/// address that a function takes of itself, which may have to be the kernel's copy.
fn leaving<S: Side>(object: &Object<'_, S>, section: Id<S, Sec>, reference: FilledReference) -> Option<Reloc<S>> {
    let row = &object.sections[section];
    if row.class == Class::Special(Split::Targets) {
        return None;
    }
    let (Some(from), Some(to)) = (
        object.atom_at(section, reference.offset),
        object.atom_at(section, reference.target),
    ) else {
        return None;
    };
    let inside = reference.offset < object.atoms[from].end;
    let target = &object.atoms[to];
    let is_function = target.kind == AtomKind::Function;
    let leaves = match reference.usage {
        Use::Branch => from != to && is_function,
        Use::Address | Use::Access => from != to || is_function && reference.target == target.anchor,
    };
    if !inside || !leaves {
        return None;
    }
    Some(Reloc {
        offset: reference.offset,
        r_type: object.arch.facts().relocs.filled(reference.usage),
        kind: RelocKind::Relative { size: reference.size },
        addend: -i64::from(reference.bias),
        bias: reference.bias,
        usage: reference.usage,
        by_section: false,
        by_slot: false,
        target: Target::Atom {
            atom: to,
            delta: reference.target as i64 - target.anchor as i64,
        },
        filled: if reference.movable {
            Filled::Movable
        } else {
            Filled::TooShort
        },
    })
}
