//! Cuts sections into atoms.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use super::entries::{self, Table};
use super::relocs::Decoded;
use super::sanitizer::Lengths;
use super::{AtomKind, AtomRow, Class, Object, Section, Symbol};
use crate::arch::{FilledReference, Split, Tracing};
use crate::error::{Error, Subject};
use crate::ids::{Id, Sec, Side, Sym};
use crate::names;

/// Offsets of bytes, by the section that they are in.
type Offsets<S> = BTreeMap<Id<S, Sec>, BTreeSet<u64>>;

/// Cuts every section that matters into atoms, in section and offset order.
///
/// # Errors
/// [`super::BAD_ENTRIES`] for a table that is cut into entries and has a part of one.
pub fn cut<S: Side>(object: &mut Object<'_, S>, decoded: &Decoded<S>, lengths: &Lengths<S>) -> Result<(), Error> {
    let mut symbols: BTreeMap<Id<S, Sec>, Vec<Id<S, Sym>>> = BTreeMap::new();
    for (id, symbol) in object.symbols.iter() {
        if let Some(section) = symbol
            .section
            .filter(|_| !symbol.is_section() && !names::is_temporary(symbol.name))
        {
            symbols.entry(section).or_default().push(id);
        }
    }
    let pads = targets(object, decoded, |from, _| from.name == "__patchable_function_entries");
    if object.arch.facts().tracing.mark == Tracing::PatchableEntries {
        let all = pads
            .iter()
            .flat_map(|(section, offsets)| offsets.iter().map(|offset| (*section, *offset)));
        object.patchable = all.collect();
    }
    let pieces = targets(object, decoded, |from, to| {
        to.class == Class::Special(Split::Targets) && uses_whole(from, to)
    });
    let mut replacements = targets(object, decoded, |from, to| is_code(to) && names_replacements(from));
    for id in object.sections.ids() {
        let first = object.atoms.len();
        let own = symbols.remove(&id).unwrap_or_default();
        let rows = match object.sections[id].class {
            Class::Ignored => Vec::new(),
            Class::Special(Split::Targets) => pieces_at(object, id, pieces.get(&id), &decoded.filled[id]),
            Class::Special(split) => {
                let mut relocs: Vec<u64> = decoded.relocs[id].iter().map(|reloc| reloc.offset).collect();
                // LoongArch expresses a difference with two relocations at one field, one that adds and one that
                // subtracts.
                relocs.dedup();
                let section = &object.sections[id];
                let table = Table {
                    at: &|| Subject::file(&object.file).section(section.name),
                    size: section.sh_size,
                    data: section.data.len() as u64,
                    relocs: &relocs,
                };
                let entries = entries::cut(&table, split)?.into_iter();
                entries
                    .map(|entry| row(object, id, entry.start, entry.end, AtomKind::Entry))
                    .collect()
            }
            Class::Strings if character(&object.sections[id]).is_some() => strings(object, id, &own),
            Class::Rodata if own.is_empty() && is_of_constants(&object.sections[id]) => constants(object, id),
            _ => {
                let rows = by_symbol(object, id, own, pads.get(&id));
                let rows = registered(object, id, rows, lengths.get(&id));
                close_gaps(object, id, decoded, replacements.remove(&id).unwrap_or_default(), rows)
            }
        };
        for row in rows {
            object.atoms.push(row);
        }
        object.sections[id].atoms = first..object.atoms.len();
    }
    Ok(())
}

/// Whether a section points at the start of the pieces it uses. Other tables (of instructions that may fault, of lock
/// prefixes) point at single instructions, also in the middle of a replacement; a cut there would split it.
fn uses_whole<S>(from: &Section<'_, S>, to: &Section<'_, S>) -> bool {
    let table = match to.special.and_then(|row| row.pointed_at_by) {
        Some(only) => from.name == only,
        None => names_replacements(from),
    };
    table || matches!(from.class, Class::Text | Class::Init)
}

/// Whether a table names replacement code, which is copied elsewhere before it runs.
fn names_replacements<S>(table: &Section<'_, S>) -> bool {
    table.special.is_some_and(|row| row.names_replacements)
}

fn is_code<S>(section: &Section<'_, S>) -> bool {
    section.sh_flags & object::elf::SHF_EXECINSTR.0 != 0
}

/// The offsets that relocations of the wanted sections point at, by target section.
fn targets<S: Side>(
    object: &Object<'_, S>,
    decoded: &Decoded<S>,
    wanted: impl Fn(&Section<'_, S>, &Section<'_, S>) -> bool,
) -> Offsets<S> {
    let mut found = Offsets::new();
    for (from, relocs) in decoded.relocs.iter() {
        for reloc in relocs {
            let Some(symbol) = object.symbols.get(reloc.symbol) else {
                continue;
            };
            let Some(section) = symbol.section else { continue };
            if wanted(&object.sections[from], &object.sections[section]) {
                let offset = (symbol.st_value as i64).wrapping_add(reloc.delta());
                found.entry(section).or_default().insert(offset as u64);
            }
        }
    }
    found
}

fn row<S: Side>(object: &Object<'_, S>, section: Id<S, Sec>, start: u64, end: u64, kind: AtomKind) -> AtomRow<S> {
    let most = object.sections[section].sh_addralign;
    let align = if start == 0 {
        most
    } else {
        most.min(1 << start.trailing_zeros().min(62))
    };
    AtomRow {
        section,
        start,
        anchor: start,
        end,
        kind,
        symbol: None,
        aliases: Vec::new(),
        relocs: 0..0,
        align,
    }
}

fn pieces_at<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    starts: Option<&BTreeSet<u64>>,
    filled: &[FilledReference],
) -> Vec<AtomRow<S>> {
    let len = object.sections[id].sh_size;
    let mut cuts: BTreeSet<u64> = starts.cloned().unwrap_or_default();
    cuts.retain(|cut| *cut <= len);
    if object.sections[id].special.is_some_and(|row| row.in_place) {
        join_pieces(object, id, &mut cuts, filled);
    }
    cuts.insert(0);
    let ends = cuts.iter().copied().skip(1).chain([len]);
    cuts.iter()
        .zip(ends)
        .map(|(start, end)| row(object, id, *start, end, AtomKind::Piece))
        .collect()
}

/// Takes away the cuts that control passes: by a jump whose distance is filled in, or from the last instruction of a piece
/// into the next.
fn join_pieces<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, cuts: &mut BTreeSet<u64>, filled: &[FilledReference]) {
    for reference in filled {
        let (from, to) = (
            reference.offset.min(reference.target),
            reference.offset.max(reference.target),
        );
        while let Some(passed) = cuts.range((Excluded(from), Included(to))).next().copied() {
            cuts.remove(&passed);
        }
    }
    let mut before = 0;
    cuts.retain(|cut| {
        let code = object.sections[id].data.get(before as usize..*cut as usize);
        let stays = code.is_some_and(|code| !code.is_empty() && !object.arch.runs_on(code));
        before = *cut;
        stays
    });
}

/// Size of a character of a string section in bytes: 1, or 2 or 4 for wide strings.
fn character<S>(section: &Section<'_, S>) -> Option<usize> {
    let size = section.sh_entsize;
    let whole = [1, 2, 4].contains(&size) && (section.data.len() as u64).is_multiple_of(size);
    whole.then_some(size as usize)
}

/// Whether a section consists of constants of `sh_entsize` bytes each, as SHF_MERGE without SHF_STRINGS says ("System V
/// Application Binary Interface", chapter "Sections").
fn is_of_constants<S>(section: &Section<'_, S>) -> bool {
    let (size, all) = (section.sh_entsize, section.data.len() as u64);
    let merge = section.sh_flags & object::elf::SHF_MERGE.0 != 0;
    merge && size > 0 && all == section.sh_size && all.is_multiple_of(size)
}

fn constants<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>) -> Vec<AtomRow<S>> {
    let (size, all) = (object.sections[id].sh_entsize, object.sections[id].sh_size);
    let starts = (0..all / size).map(|index| index * size);
    starts
        .map(|start| row(object, id, start, start + size, AtomKind::Anonymous))
        .collect()
}

fn strings<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, own: &[Id<S, Sym>]) -> Vec<AtomRow<S>> {
    let mut rows = Vec::new();
    let section = &object.sections[id];
    let mut start = 0;
    let mut end = 0;
    for character in section.data.chunks(character(section).unwrap_or(1)) {
        end += character.len() as u64;
        if character.iter().all(|byte| *byte == 0) || end == section.data.len() as u64 {
            rows.push(row(object, id, start, end, AtomKind::String));
            start = end;
        }
    }
    for symbol in own {
        let value = object.symbols[*symbol].st_value;
        if let Ok(index) = rows.binary_search_by_key(&value, |row| row.start) {
            rows[index].symbol.get_or_insert(*symbol);
        }
    }
    rows
}

/// Makes one atom for each symbol; aliases and labels inside it join that atom.
fn by_symbol<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    mut own: Vec<Id<S, Sym>>,
    pads: Option<&BTreeSet<u64>>,
) -> Vec<AtomRow<S>> {
    let section = &object.sections[id];
    let has_function = own.iter().any(|symbol| object.symbols[*symbol].is_function());
    let is_code = is_code(section);
    own.retain(|symbol| object.symbols[*symbol].st_value <= section.sh_size);
    own.sort_by_key(|symbol| order(object, *symbol, has_function));
    let mut rows: Vec<AtomRow<S>> = Vec::new();
    let mut prefixes = Vec::new();
    for symbol in own {
        let sym = &object.symbols[symbol];
        if names::is_function_prefix(sym.name) && sym.is_function() {
            prefixes.push(symbol);
            continue;
        }
        let label = has_function && !sym.is_function();
        // A size of 0 means unknown, so it does not say where the next atom begins. Labels in code still belong to the
        // code.
        let label_of_code = label || (is_code && !has_function);
        let reach = rows.last().map_or(0, |last| match last.symbol {
            Some(own) if object.symbols[own].st_size == 0 && !label_of_code => last.anchor,
            _ => last.end,
        });
        let covered = rows
            .last()
            .is_some_and(|last| sym.st_value < reach || sym.st_value == last.anchor);
        if let Some(last) = rows.last_mut().filter(|_| covered || label) {
            if covered {
                last.aliases.push(symbol);
            }
            continue;
        }
        rows.push(named_row(object, id, symbol, reach, &mut prefixes, pads));
    }
    rows
}

/// Gives variables and constants the length that they have without their red zones, and those without a symbol an atom.
fn registered<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    mut rows: Vec<AtomRow<S>>,
    lengths: Option<&BTreeMap<u64, u64>>,
) -> Vec<AtomRow<S>> {
    let Some(lengths) = lengths else { return rows };
    let mut open = lengths.clone();
    for row in &mut rows {
        if let Some(length) = lengths.get(&row.anchor).filter(|_| row.kind != AtomKind::Function) {
            row.end = row.end.min(row.anchor + length);
        }
        open.retain(|offset, _| !(row.start..=row.anchor).contains(offset) && !(row.start..row.end).contains(offset));
    }
    // Taken apart, the pieces would no longer lie where the code looks for them.
    if object.arch.facts().section_anchors {
        open.clear();
    }
    let nameless = open.into_iter();
    rows.extend(nameless.map(|(offset, length)| row(object, id, offset, offset + length, AtomKind::Anonymous)));
    rows.sort_by_key(|row| row.start);
    rows
}

/// Sort key of a symbol: by offset; at one offset, functions and variables before bare labels, sized before unsized,
/// global before local before weak.
fn order<S: Side>(object: &Object<'_, S>, id: Id<S, Sym>, has_function: bool) -> (u64, bool, bool, u8, Id<S, Sym>) {
    let symbol = &object.symbols[id];
    let bare = symbol.st_type == object::elf::STT_NOTYPE.0 || (has_function && !symbol.is_function());
    let bind = match symbol.st_bind {
        bind if bind == object::elf::STB_GLOBAL.0 => 0,
        bind if bind == object::elf::STB_LOCAL.0 => 1,
        _ => 2,
    };
    (symbol.st_value, bare, symbol.st_size == 0, bind, id)
}

/// Whether it is a variable without bytes (`struct {}`). A function or label with size 0 has an unknown size.
fn is_empty<S>(symbol: &Symbol<'_, S>) -> bool {
    symbol.st_size == 0 && symbol.st_type == object::elf::STT_OBJECT.0
}

/// The start of a function if the code at its entry shows that bytes before the entry belong to it.
fn entry_start<S: Side>(object: &Object<'_, S>, id: Id<S, Sec>, anchor: u64) -> u64 {
    let code = object.sections[id].data.get(anchor as usize..).unwrap_or(&[]);
    anchor.saturating_sub(object.arch.entry_prefix(code))
}

fn named_row<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    symbol: Id<S, Sym>,
    floor: u64,
    prefixes: &mut Vec<Id<S, Sym>>,
    pads: Option<&BTreeSet<u64>>,
) -> AtomRow<S> {
    let (section, sym) = (&object.sections[id], &object.symbols[symbol]);
    let anchor = sym.st_value;
    let start = if sym.is_function() {
        let prefix = prefixes
            .iter()
            .map(|prefix| object.symbols[*prefix].st_value)
            .filter(|value| *value >= floor)
            .min();
        let pad = pads.and_then(|pads| pads.range(floor..=anchor).next().copied());
        [prefix, pad].into_iter().flatten().min().unwrap_or(if floor == 0 {
            0
        } else {
            entry_start(object, id, anchor).max(floor)
        })
    } else {
        anchor
    };
    let end = if is_empty(sym) {
        anchor
    } else if sym.st_size == 0 {
        section.sh_size
    } else {
        anchor.saturating_add(sym.st_size).min(section.sh_size)
    };
    let kind = if sym.is_function() {
        AtomKind::Function
    } else if (names::is_made_up(sym.name) && section.class.is_constant())
        || (names::is_of_nobody(sym.name) && section.class == Class::Data)
        || names::is_dynamic_debug(sym.name)
        || holds_descriptors(section.name)
    {
        AtomKind::Anonymous
    } else {
        AtomKind::Object
    };
    let mut made = row(object, id, start, end, kind);
    prefixes.retain(|prefix| object.symbols[*prefix].st_value >= start);
    (made.anchor, made.symbol, made.aliases) = (anchor, Some(symbol), std::mem::take(prefixes));
    made
}

/// Whether a section holds dynamic debug descriptors, whatever their names: `__verbose` up to 5.9, `__dyndbg` since.
fn holds_descriptors(section: &str) -> bool {
    section == "__dyndbg" || section == "__verbose"
}

/// Ends atoms of unknown size where the next one begins, and makes atoms of uncovered bytes that are not filler. Code
/// without a symbol belongs to the function before it: the assembler puts a subsection (`.subsection 1`, which arm64
/// and loongarch use for replacements) behind the rest of its section.
fn close_gaps<S: Side>(
    object: &Object<'_, S>,
    id: Id<S, Sec>,
    decoded: &Decoded<S>,
    replacements: BTreeSet<u64>,
    mut rows: Vec<AtomRow<S>>,
) -> Vec<AtomRow<S>> {
    let section = &object.sections[id];
    for index in 1..rows.len() {
        let next = rows[index].start;
        let before = &mut rows[index - 1];
        before.end = before.end.min(next.max(before.anchor));
    }
    let is_code = is_code(section);
    let entered = LazyCell::new(|| {
        let filled = decoded.filled[id].iter().map(|reference| reference.target);
        replacements.into_iter().chain(filled).collect::<BTreeSet<u64>>()
    });
    let mut all = Vec::with_capacity(rows.len());
    let mut covered = 0;
    let alone = rows.is_empty() && section.sh_size > 0;
    // A table of addresses is all zeros until its relocations are applied.
    let relocated = |from: u64, to: u64| {
        let relocs = &decoded.relocs[id];
        let first = relocs.partition_point(|reloc| reloc.offset < from);
        relocs.get(first).is_some_and(|reloc| reloc.offset < to)
    };
    let gap = |all: &mut Vec<AtomRow<S>>, from: u64, to: u64| {
        if from >= to {
            return;
        }
        let bytes = section.data.get(from as usize..to as usize).unwrap_or(&[]);
        let blank = bytes.iter().all(|byte| *byte == 0);
        let entered = is_code && entered.range(from..to).next().is_some();
        if (is_code || blank) && !entered && !relocated(from, to) {
            return;
        }
        match all.last_mut() {
            Some(before) if is_code => before.end = to,
            None if is_code => {}
            // Assembly may omit sizes.
            Some(before) if before.end == from && before.symbol.is_some_and(|own| is_empty(&object.symbols[own])) => {
                before.end = to;
            }
            _ => all.push(row(object, id, from, to, AtomKind::Anonymous)),
        }
    };
    for atom in rows {
        gap(&mut all, covered, atom.start);
        covered = covered.max(atom.end);
        all.push(atom);
    }
    if alone {
        all.push(row(object, id, 0, section.sh_size, AtomKind::Anonymous));
    } else {
        gap(&mut all, covered, section.sh_size);
    }
    all
}
