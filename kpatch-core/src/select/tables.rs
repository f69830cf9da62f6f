//! Tables that the kernel reads and nobody here knows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Selected, UNKNOWN_SECTION};
use crate::compare::{UnitVerdicts, Verdict, owner};
use crate::error::{Refusal, Subject};
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, AtomRow, Class, Object, Reloc, Symbol, Target, is_mark};

/// Rows of `module_param` (include/linux/moduleparam.h, `__module_param_call`): a livepatch has no parameters, and the
/// variable keeps the value that it starts with.
const PARAMETERS: &str = "__param";

const DEAD: &str = "code without a symbol that nothing refers to: it cannot run";

/// Sections of rows that name a function to be called, by the start of their names: device quirks (include/linux/pci.h,
/// `DECLARE_PCI_FIXUP_SECTION`). The kernel goes on reading its own, whose pointers serve the new functions, too.
const CALLED: &[&str] = &[".pci_fixup_"];

/// Tables that nobody has decided about. Whoever reads such a table reads the kernel's: a change in it would be lost, and
/// what it refers to must not be a copy.
pub fn unknown(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    atoms: &BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'_>>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (unit, pair) in group.units.iter().enumerate() {
        let object = &pair.patched;
        let (orig_dead, dead) = (dead_code(&pair.orig), dead_code(object));
        let (orig_tables, patched_tables) = (nameless(&pair.orig), nameless(object));
        for (atom, row) in object.atoms.iter() {
            let name = object.sections[row.section].name;
            let known = is_known(object, atom) || atoms.contains_key(&(unit, atom));
            let why = match row.kind {
                AtomKind::Anonymous if !known && row.symbol.is_none() && !dead.contains(&atom) => {
                    let twin = twin(orig_tables.get(name), &patched_tables[name], atom);
                    nameless_table(pair, (twin, atom), |to| atoms.contains_key(&(unit, to)))
                }
                // A row with a name that was there before was compared like any variable.
                AtomKind::Object if !known && name != PARAMETERS && verdicts[unit].of[atom] == Verdict::New => {
                    refers_to(object, atom, |to| {
                        atoms.contains_key(&(unit, to)) && verdicts[unit].of[to] == Verdict::New
                    })
                    .map(|to| refers_why(object, to))
                }
                // Its readers in the livepatch have a copy; the one that goes through the table has none.
                AtomKind::Object if !known && matches!(verdicts[unit].of[atom], Verdict::Changed(_)) => {
                    Some(changed(name).to_owned())
                }
                _ => None,
            };
            if let Some(why) = why {
                let at = object.subject(atom);
                let rows = about(pair, name).filter(|_| row.symbol.is_none());
                refusals.extend(rows.unwrap_or_else(|| vec![refuse(at, &why)]));
            }
        }
        // Of a table that is gone as a whole nothing is left to look at above.
        let gone = orig_tables
            .iter()
            .filter(|(name, _)| !patched_tables.contains_key(*name));
        let counts = |atom: &&Id<Orig, Atom>| !is_known(&pair.orig, **atom) && !orig_dead.contains(*atom);
        for atom in gone.filter_map(|(_, atoms)| atoms.iter().find(counts)) {
            let name = pair.orig.sections[pair.orig.atoms[*atom].section].name;
            let at = pair.orig.subject(*atom);
            refusals.extend(about(pair, name).unwrap_or_else(|| vec![refuse(at, changed(name))]));
        }
        refusals.extend(rows_of_nobody(pair));
    }
    refusals
}

/// Lines about code that cannot run, where the two sides differ in it.
pub fn dead(group: &Group<'_>) -> Vec<Ignored> {
    let bytes = |unit: &Unit<'_>| {
        let orig = dead_code(&unit.orig).into_iter().map(|atom| unit.orig.bytes(atom));
        let patched = dead_code(&unit.patched)
            .into_iter()
            .map(|atom| unit.patched.bytes(atom));
        orig.eq(patched)
    };
    let units = group.units.iter().filter(|unit| !bytes(unit));
    let lines = units.flat_map(|unit| {
        let orig = dead_code(&unit.orig).into_iter().map(|atom| unit.orig.label(atom));
        let patched = dead_code(&unit.patched)
            .into_iter()
            .map(|atom| unit.patched.label(atom));
        let labels: BTreeSet<String> = orig.chain(patched).collect();
        labels.into_iter().map(|name| Ignored {
            unit: unit.name.clone(),
            name,
            why: DEAD.to_owned(),
        })
    });
    lines.collect()
}

/// Code without a symbol that nothing refers to and that refers to nothing of its object: a statement of assembly outside of
/// functions leaves it. Code that does refer to something is somebody's, however it is reached.
fn dead_code<S: Side>(object: &Object<'_, S>) -> BTreeSet<Id<S, Atom>> {
    let nameless = |(id, row): (Id<S, Atom>, &AtomRow<S>)| {
        let code = object.class(id) == Class::Text && object.sections[row.section].special.is_none();
        let alone = row.kind == AtomKind::Anonymous && row.symbol.is_none() && object.relocs(id).is_empty();
        (code && alone).then_some(id)
    };
    let mut found: BTreeSet<Id<S, Atom>> = object.atoms.iter().filter_map(nameless).collect();
    if found.is_empty() {
        return found;
    }
    for (id, _) in object.atoms.iter() {
        for reloc in object.relocs(id) {
            if let Target::Atom { atom, .. } = reloc.target {
                found.remove(&atom);
            }
        }
    }
    let real = |symbol: &Symbol<'_, S>| !symbol.is_section() && !names::is_temporary(symbol.name);
    for (_, symbol) in object.symbols.iter().filter(|(_, symbol)| real(symbol)) {
        if let Some(atom) = symbol
            .section
            .and_then(|section| object.atom_at(section, symbol.st_value))
        {
            found.remove(&atom);
        }
    }
    found
}

fn refuse(at: Subject, why: &str) -> Refusal {
    let name = at.section.clone().unwrap_or_default();
    Refusal::new(UNKNOWN_SECTION, at, why).hint(hint(&name))
}

/// The rows of a table of functions that only one side has, each under the name of its function, so that it can be accepted.
/// `None` if the table is another one, or that is not all in which it differs.
fn about(unit: &Unit<'_>, section: &str) -> Option<Vec<Refusal>> {
    if !is_called(section) {
        return None;
    }
    let (orig, patched) = (rows_of(&unit.orig, section), rows_of(&unit.patched, section));
    let mut rest = orig.clone();
    let more: Vec<_> = patched.iter().filter(|row| !take(&mut rest, row)).collect();
    let refused = |file: &str, (_, function): &Row, what: &str| {
        let at = Subject::file(file).section(section).symbol(function);
        let why = format!("{what}, and the kernel goes on reading those rows of this table that it has");
        let hint = format!(
            "change a function that the table names already, or do it from one that runs; or, if the device need not get it \
             before the next boot, accept it with --accept {function}"
        );
        Refusal::new(UNKNOWN_SECTION, at, why).hint(hint)
    };
    let new = more.iter().map(|row| refused(&unit.patched.file, row, "it gets a row"));
    let gone = rest.iter().map(|row| refused(&unit.orig.file, row, "it loses a row"));
    let all: Vec<Refusal> = new.chain(gone).collect();
    (!all.is_empty()).then_some(all)
}

/// The bytes in front of the reference to a function, and the function.
type Row = (Vec<u8>, String);

fn rows_of<S: Side>(object: &Object<'_, S>, section: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let tables = object.sections.iter().filter(|(_, row)| row.name == section);
    for (_, table) in tables {
        let mut from = 0;
        for reloc in &table.relocs {
            let function = match reloc.target {
                Target::Atom { atom, .. } => of_author(&object.label(atom)),
                Target::Extern { symbol, .. } => of_author(object.symbols[symbol].name),
                Target::Absolute(_) => continue,
            };
            let before = table.data.get(from..reloc.offset as usize).unwrap_or_default();
            rows.push((before.to_vec(), function));
            from = reloc.offset as usize + usize::from(reloc.kind.size());
        }
    }
    rows
}

/// With link time optimisation a row names a stub, `__UNIQUE_ID_<function><counter>` (include/linux/pci.h, 6.12).
fn of_author(name: &str) -> String {
    let stem = names::stable(name);
    stem.strip_prefix("__UNIQUE_ID_").unwrap_or(stem).to_owned()
}

/// Takes one row out of others.
fn take(rows: &mut Vec<Row>, row: &Row) -> bool {
    let at = rows.iter().position(|other| other == row);
    at.map(|at| rows.remove(at)).is_some()
}

/// Rows that belong to nothing in their object, and so were compared with nothing.
fn rows_of_nobody(unit: &Unit<'_>) -> Vec<Refusal> {
    let (orig_rows, patched_rows) = (ownerless(&unit.orig), ownerless(&unit.patched));
    let refuse = |at: Subject| {
        let name = at.section.clone().unwrap_or_default();
        self::refuse(at, changed(&name))
    };
    let mut refusals = Vec::new();
    for (name, rows) in &patched_rows {
        let own = orig_rows.get(name).map_or(&[][..], Vec::as_slice);
        let other = |index: usize, row| own.get(index).is_none_or(|orig_row| !same_rows(unit, *orig_row, row));
        let first = rows.iter().enumerate().find(|(index, row)| other(*index, **row));
        refusals.extend(first.map(|(_, row)| refuse(unit.patched.subject(*row))));
    }
    for (name, rows) in &orig_rows {
        let kept = patched_rows.get(name).map_or(0, Vec::len);
        refusals.extend(rows.get(kept).map(|row| refuse(unit.orig.subject(*row))));
    }
    refusals
}

/// The rows of special sections that name no place in their object first, by section.
fn ownerless<'d, S: Side>(object: &Object<'d, S>) -> BTreeMap<&'d str, Vec<Id<S, Atom>>> {
    let mut found: BTreeMap<&str, Vec<Id<S, Atom>>> = BTreeMap::new();
    for (id, row) in object.atoms.iter() {
        if row.kind == AtomKind::Entry && owner(object, id).is_none() {
            found.entry(object.sections[row.section].name).or_default().push(id);
        }
    }
    found
}

/// Whether somebody else looks at it: the sections of plain variables, what is gone after boot, and marks of macros.
fn is_known<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> bool {
    let name = object.sections[object.atoms[atom].section].name;
    let plain = [".data", ".rodata", ".bss"].iter().any(|start| name.starts_with(start));
    plain || object.class(atom) == Class::Init || is_mark(name)
}

fn changed(section: &str) -> &'static str {
    if is_called(section) {
        "the rows of this table of functions changed, and the kernel goes on reading those it has"
    } else {
        "this section is not known, and its content changed"
    }
}

/// Whether a refusal is about one row of a table of functions.
pub fn is_row_of_called(refusal: &Refusal) -> bool {
    refusal.code == UNKNOWN_SECTION && refusal.at.section.as_deref().is_some_and(is_called)
}

fn is_called(section: &str) -> bool {
    CALLED.iter().any(|start| section.starts_with(start))
}

fn hint(section: &str) -> &'static str {
    if is_called(section) {
        "the kernel reads its own table only: change a function that it names already, or do it from one that runs"
    } else {
        "leave this part of the change out; or add a row to the table of special sections of this architecture that \
         says how it is read"
    }
}

fn refers_to<S: Side>(
    object: &Object<'_, S>,
    from: Id<S, Atom>,
    holds: impl Fn(Id<S, Atom>) -> bool,
) -> Option<Id<S, Atom>> {
    object.relocs(from).iter().find_map(|reloc| match reloc.target {
        Target::Atom { atom, .. } => holds(atom).then_some(atom),
        _ => None,
    })
}

fn refers_why(object: &Object<'_, Patched>, to: Id<Patched, Atom>) -> String {
    format!(
        "this section is not known and refers to `{}`",
        names::readable(&object.label(to))
    )
}

/// What speaks against a livepatch with such a table.
fn nameless_table(
    unit: &Unit<'_>,
    (twin, table): (Option<Id<Orig, Atom>>, Id<Patched, Atom>),
    selected: impl Fn(Id<Patched, Atom>) -> bool,
) -> Option<String> {
    let object = &unit.patched;
    let name = object.sections[object.atoms[table].section].name;
    if twin.is_none_or(|twin| !same_rows(unit, twin, table)) {
        return Some(changed(name).to_owned());
    }
    let relocs = object.relocs(table).iter();
    let bad = relocs.filter_map(|reloc| match reloc.target {
        Target::Atom { atom, delta } if selected(atom) => {
            let function = object.atoms[atom].kind == AtomKind::Function && delta == 0;
            (!(is_called(name) && function)).then_some(atom)
        }
        _ => None,
    });
    bad.map(|to| refers_why(object, to)).next()
}

/// The atoms without a name, by their section's.
fn nameless<'d, S: Side>(object: &Object<'d, S>) -> BTreeMap<&'d str, Vec<Id<S, Atom>>> {
    let mut found: BTreeMap<&str, Vec<Id<S, Atom>>> = BTreeMap::new();
    for (id, row) in object.atoms.iter() {
        if row.kind == AtomKind::Anonymous && row.symbol.is_none() {
            found.entry(object.sections[row.section].name).or_default().push(id);
        }
    }
    found
}

/// The table at the same place among those of its section, if both sides have as many.
fn twin(
    orig: Option<&Vec<Id<Orig, Atom>>>,
    patched: &[Id<Patched, Atom>],
    table: Id<Patched, Atom>,
) -> Option<Id<Orig, Atom>> {
    let orig = orig.filter(|orig| orig.len() == patched.len())?;
    orig.get(patched.binary_search(&table).ok()?).copied()
}

/// Whether two tables have the same bytes, and refer to twins or to the same strings.
fn same_rows(unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
    let (orig_relocs, patched_relocs) = (unit.orig.relocs(orig), unit.patched.relocs(patched));
    let start = (unit.orig.atoms[orig].start, unit.patched.atoms[patched].start);
    let same = |(orig_reloc, patched_reloc): (&Reloc<Orig>, &Reloc<Patched>)| {
        let place =
            orig_reloc.offset - start.0 == patched_reloc.offset - start.1 && orig_reloc.kind == patched_reloc.kind;
        place
            && match (&orig_reloc.target, &patched_reloc.target) {
                (
                    Target::Atom {
                        atom: orig_id,
                        delta: orig_delta,
                    },
                    Target::Atom {
                        atom: patched_id,
                        delta: patched_delta,
                    },
                ) => {
                    let twins = unit.pairing.patched_of[*orig_id] == Some(*patched_id);
                    let string = |kind| kind == AtomKind::String;
                    let strings =
                        string(unit.orig.atoms[*orig_id].kind) && string(unit.patched.atoms[*patched_id].kind);
                    orig_delta == patched_delta
                        && (twins || (strings && unit.orig.bytes(*orig_id) == unit.patched.bytes(*patched_id)))
                }
                (
                    Target::Extern {
                        symbol: orig_id,
                        delta: orig_delta,
                    },
                    Target::Extern {
                        symbol: patched_id,
                        delta: patched_delta,
                    },
                ) => {
                    orig_delta == patched_delta
                        && unit.orig.symbols[*orig_id].name == unit.patched.symbols[*patched_id].name
                }
                (Target::Absolute(orig_value), Target::Absolute(patched_value)) => orig_value == patched_value,
                _ => false,
            }
    };
    unit.orig.bytes(orig) == unit.patched.bytes(patched)
        && orig_relocs.len() == patched_relocs.len()
        && orig_relocs.iter().zip(patched_relocs).all(same)
}
