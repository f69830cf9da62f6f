//! What the compilers' sanitizers add to an object, apart from the checks in its code.
//!
//! KASAN gives each variable and constant a red zone: the compiler makes them longer, lists them in a table with their real
//! length, and adds a constructor that hands the table to the kernel. The table changes with any string that a patch
//! adds, and nobody is to run the constructor for the sake of the kernel's variables a second time. So constructors, their
//! lists and the table are set aside; what the table says about lengths is kept, since symbols tell it only with GCC,
//! and GCC gives its strings no symbols at all.
//!
//! UBSAN hands each of its reports a descriptor: where the source has the operation, and its types. Descriptors are
//! variables without a name of the author's, and the kernel marks in them what was reported.

use std::collections::{BTreeMap, BTreeSet};

use super::elf::{RawReloc, RawRelocs};
use super::{AtomKind, Class, Object, Section};
use crate::ids::{Atom, Id, Sec, Side};
use crate::names;

/// Real lengths in bytes, by section and offset.
pub type Lengths<S> = BTreeMap<Id<S, Sec>, BTreeMap<u64, u64>>;

/// `struct kasan_global`, mm/kasan/kasan.h (6.12): where it is, its length, its length with the red zone, five more.
const GLOBAL: usize = 64;

/// Lists of constructors and destructors: include/asm-generic/vmlinux.lds.h (6.12), `KERNEL_CTORS`.
const LISTS: &[&str] = &[".init_array", ".fini_array", ".ctors", ".dtors"];

/// GCC's names of the table and of the places in the source that it names.
const TABLES: &[&str] = &[".data..LASAN"];

/// Sets the constructors of sanitizers aside with what only they use, and gives the real lengths of what they register.
pub fn set_aside<S: Side>(object: &mut Object<'_, S>, raw: &RawRelocs<'_, S>) -> Lengths<S> {
    let constructors = constructors(object);
    if constructors.is_empty() {
        return Lengths::new();
    }
    let leads = |id: Id<S, Sec>| raw.of(id).into_iter().filter_map(|reloc| place(object, &reloc));
    let lists = object.sections.iter().filter(|(id, section)| {
        let list = LISTS.iter().any(|name| section.name.starts_with(name));
        list && leads(*id).all(|(section, _)| constructors.contains(&section))
    });
    let mut aside: BTreeSet<Id<S, Sec>> = lists.map(|(id, _)| id).chain(constructors.iter().copied()).collect();
    let tables: BTreeSet<Id<S, Sec>> = constructors
        .iter()
        .flat_map(|constructor| leads(*constructor))
        .map(|(section, _)| section)
        .filter(|section| object.sections[*section].class == Class::Data)
        .collect();
    let mut lengths = Lengths::new();
    for table in &tables {
        registered(object, *table, &raw.of(*table), &mut lengths);
    }
    let named = |section: &Section<'_, S>| TABLES.iter().any(|name| section.name.starts_with(name));
    aside.extend(tables);
    aside.extend(
        object
            .sections
            .iter()
            .filter(|(_, section)| named(section))
            .map(|(id, _)| id),
    );
    for id in aside {
        object.sections[id].class = Class::Ignored;
    }
    object.registers = true;
    lengths
}

/// The sections that hold constructors of sanitizers and nothing else.
fn constructors<S: Side>(object: &Object<'_, S>) -> BTreeSet<Id<S, Sec>> {
    let mut found = BTreeSet::new();
    let mut others = BTreeSet::new();
    for (_, symbol) in object.symbols.iter().filter(|(_, symbol)| symbol.is_function()) {
        if let Some(section) = symbol.section {
            let own = names::is_sanitizers_constructor(symbol.name);
            if own { &mut found } else { &mut others }.insert(section);
        }
    }
    found.difference(&others).copied().collect()
}

/// Where a relocation leads in this object.
fn place<S: Side>(object: &Object<'_, S>, reloc: &RawReloc<S>) -> Option<(Id<S, Sec>, u64)> {
    let symbol = object.symbols.get(reloc.symbol)?;
    Some((symbol.section?, symbol.st_value.checked_add_signed(reloc.addend)?))
}

/// The rows of a table, if it is one.
fn registered<S: Side>(object: &Object<'_, S>, table: Id<S, Sec>, rows: &[RawReloc<S>], lengths: &mut Lengths<S>) {
    let section = &object.sections[table];
    let number = |bytes: &[u8]| {
        let bytes = bytes.first_chunk::<8>()?;
        let big = object.arch.facts().big_endian;
        Some(if big {
            u64::from_be_bytes(*bytes)
        } else {
            u64::from_le_bytes(*bytes)
        })
    };
    for (index, row) in section.data.chunks_exact(GLOBAL).enumerate() {
        let start = (index * GLOBAL) as u64;
        let reloc = rows.binary_search_by_key(&start, |reloc| reloc.offset).ok();
        let named = reloc.and_then(|at| place(object, rows.get(at)?));
        let length = row.get(8..).and_then(number);
        let whole = row.get(16..).and_then(number);
        if let (Some((section, offset)), Some(length), Some(whole)) = (named, length, whole)
            && length <= whole
            && offset
                .checked_add(whole)
                .is_some_and(|end| end <= object.sections[section].sh_size)
        {
            lengths.entry(section).or_default().insert(offset, length);
        }
    }
}

/// Whether an atom is a descriptor of UBSAN, which begins with the place in the source.
pub(crate) fn is_descriptor<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> bool {
    let row = &object.atoms[atom];
    let section = &object.sections[row.section];
    row.kind == AtomKind::Anonymous && section.class == Class::Data && is_of_descriptors(section.name)
}

/// GCC calls them `*.Lubsan_data<n>`; to LLVM they have no name, and it makes one up.
fn is_of_descriptors(section: &str) -> bool {
    let name = section.strip_prefix(".data.").unwrap_or_default();
    let name = name.strip_prefix(".L").unwrap_or(name);
    name.starts_with("ubsan_data") || names::is_of_nobody(name)
}

#[cfg(test)]
mod tests {
    use super::is_of_descriptors;

    #[test]
    fn sections_of_descriptors() {
        for name in [
            ".data..Lubsan_data12",
            ".data..L__unnamed_3",
            ".data..Lanon.b6b687433458652100ea286fe00ddd18.4",
            ".data.anon.b6b687433458652100ea286fe00ddd18.4.llvm.123",
        ] {
            assert!(is_of_descriptors(name), "{name}");
        }
        for name in [
            ".data..Lubsan_type1",
            ".data.anon",
            ".data.unnamed_3",
            ".rodata..L__unnamed_3",
        ] {
            assert!(!is_of_descriptors(name), "{name}");
        }
    }
}
