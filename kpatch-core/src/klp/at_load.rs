//! What modules of other builders register: they have compact records, and fill the kernel's tables in as they are loaded.
//!
//! kpatch's (kmod/patch/livepatch-patch-hook.c) have functions as in [`crate::intermediate::records`], and callbacks with the
//! object that each is for. Those of klp-build (scripts/livepatch/init.c and include/linux/livepatch_external.h, 6.19) have
//! rows of name, code and position, and for each object name, rows and callbacks.

use std::collections::{BTreeMap, BTreeSet};

use super::registered::{POINTER, Redirect, Rows, at, is_code, number, place, rows, string};
use crate::elf::{File, Rela, Section};
use crate::group::ObjectName;
use crate::intermediate::records::{FUNC_SIZE, FUNCS};
use crate::macros::Moment;
use crate::read::CALLBACK_RECORDS;

/// Functions and objects of klp-build: scripts/module.lds.S.
const KLP_FUNCS: &str = ".init.klp_funcs";
const KLP_OBJECTS: &str = ".init.klp_objects";
/// Bytes of `struct klp_func_ext`.
const KLP_FUNC_SIZE: u64 = 24;

/// What the records of a module say.
pub(super) fn all(file: &File) -> Vec<Rows> {
    let named = |name: &str| file.sections.iter().position(|section| section.name == name);
    match (named(KLP_OBJECTS), named(KLP_FUNCS)) {
        (Some(objects), Some(functions)) => of_klp_build(file, objects, functions),
        _ => of_kpatch(file),
    }
}

fn object_name(name: &str) -> ObjectName {
    match name {
        "vmlinux" => ObjectName::vmlinux(),
        module => ObjectName::module(module),
    }
}

fn of_kpatch(file: &File) -> Vec<Rows> {
    let mut found: BTreeMap<ObjectName, Rows> = BTreeMap::new();
    let mut of = |object: ObjectName, add: &mut dyn FnMut(&mut Rows)| {
        let rows = found.entry(object.clone()).or_insert_with(|| Rows {
            object,
            functions: Vec::new(),
            callbacks: Vec::new(),
        });
        add(rows);
    };
    for section in &file.sections {
        let all: Vec<&Rela> = rows(section).collect();
        let text = |offset: u64| at(&all, Some(offset)).and_then(|row| string(file, row));
        if section.name == FUNCS {
            for start in (0..section.size / FUNC_SIZE).map(|index| index * FUNC_SIZE) {
                let code = at(&all, Some(start)).and_then(|row| place(file, row));
                let sympos = number(file, section, start + 4 * POINTER);
                if let (Some(code), Some(sympos), Some(name), Some(object)) =
                    (code, sympos, text(start + 5 * POINTER), text(start + 6 * POINTER))
                {
                    let mut one = Some(Redirect { name, sympos, code });
                    of(object_name(&object), &mut |rows| rows.functions.extend(one.take()));
                }
            }
        }
        let moment = section.name.strip_prefix(CALLBACK_RECORDS);
        let moment = moment.and_then(|name| Moment::ALL.into_iter().find(|moment| moment.member() == name));
        for row in all.iter().filter(|row| moment.is_some() && is_code(file, row)) {
            if let Some(object) = text(row.r_offset + POINTER) {
                of(object_name(&object), &mut |rows| rows.callbacks.extend(moment));
            }
        }
    }
    found.into_values().collect()
}

fn of_klp_build(file: &File, objects: usize, functions: usize) -> Vec<Rows> {
    let all: Vec<&Rela> = rows(&file.sections[objects]).collect();
    let lists = all.iter().filter_map(|row| Some((row.r_offset, place(file, row)?)));
    let lists: Vec<(u64, u64)> = lists
        .filter(|(_, (section, _))| *section == functions)
        .map(|(offset, (_, start))| (offset, start))
        .collect();
    let table = &file.sections[functions];
    // A list ends where that of another object begins.
    let ends: BTreeSet<u64> = lists.iter().map(|(_, start)| *start).chain([table.size]).collect();
    let object = |(offset, start): &(u64, u64)| {
        let name = offset.checked_sub(POINTER)?;
        let object = match at(&all, Some(name)) {
            Some(row) => object_name(&string(file, row)?),
            None => ObjectName::vmlinux(),
        };
        let is_called = |place: u64| at(&all, Some(name + POINTER * place)).is_some_and(|row| is_code(file, row));
        let called = (2..).zip(Moment::ALL).filter(|(place, _)| is_called(*place));
        let end = ends.range(start + 1..).next().copied().unwrap_or(*start);
        Some(Rows {
            object,
            callbacks: called.map(|(_, moment)| moment).collect(),
            functions: klp_functions(file, table, *start, end),
        })
    };
    lists.iter().filter_map(object).collect()
}

fn klp_functions(file: &File, table: &Section, start: u64, end: u64) -> Vec<Redirect> {
    let all: Vec<&Rela> = rows(table).collect();
    let row = |index: u64| {
        let start = start.checked_add(index * KLP_FUNC_SIZE).filter(|start| *start < end)?;
        Some(Redirect {
            name: string(file, at(&all, Some(start))?)?,
            sympos: number(file, table, start + 2 * POINTER)?,
            code: place(file, at(&all, Some(start + POINTER))?)?,
        })
    };
    (0..).map_while(row).collect()
}
