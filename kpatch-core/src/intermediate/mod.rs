//! Makes one object of a livepatch in the form that kpatch's driver links: what `create-diff-object` does.
//!
//! Unlike [`crate::build_patch`] this sees one object at a time, knows the kernel only as a list of symbols, and gets
//! objects that objtool has processed. Names that the kernel lacks are left to the link with the livepatch's other
//! objects, moved line numbers are noise, and objtool's tables are copied.
//!
//! `intermediate/records.rs` describes the sections, and [`crate::klp::from_records`] what becomes of them after the link.

mod derived;
pub(crate) mod records;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use crate::Author;
use crate::compare::{self, Lines, UnitVerdicts, Verdict};
use crate::elf::{File, Place, Section};
use crate::emit::{self, Spot};
use crate::error::{Error, Refusal, Stop};
use crate::group::{Group, Input, ObjectName, Unit};
use crate::ids::{Atom, Id, Patched};
use crate::ignored::Ignored;
use crate::macros::{self, Macros};
use crate::read::{AtomKind, Class, is_mark};
use crate::report::{self, Element};
use crate::resolve::{self, KlpSymbol, PatchedFunction, Routes, Target};
use crate::select::{self, Finish, Reason};

use records::{Func, Relocation, Wanted, Writer};

pub use sizes::{STRUCT_SIZE, StructSizes};

pub use crate::codes::object::BAD_TABLE;
/// The object of one pair.
#[derive(Debug)]
pub struct Created {
    /// The object with its records, ready for `ld -r`.
    pub bytes: Vec<u8>,
    /// The functions to redirect.
    pub functions: Vec<PatchedFunction>,
    /// Functions that are called at loading and unloading: (moment, name).
    pub callbacks: Vec<(String, String)>,
    /// Everything that is in, with the reason.
    pub elements: Vec<Element>,
    /// Differences that were left out, with the reason.
    pub ignored: Vec<Ignored>,
    /// Refusals that the caller accepted by name.
    pub accepted: Vec<Refusal>,
    /// Sizes of the caller that the object contradicts ([`STRUCT_SIZE`]); the object counts.
    pub contradicted: Vec<Error>,
}

/// Compares one pair and makes its object. `accepted` is as for [`Author`].
///
/// # Errors
/// As [`crate::build_patch`]; [`BAD_TABLE`].
pub fn create(
    input: &Input<'_>,
    target: &mut Target<'_>,
    sizes: &StructSizes,
    accepted: &[String],
) -> Result<Created, Stop> {
    let group = Group::read(std::slice::from_ref(input))?;
    let unit = &group.units[0];
    let mut contradicted = sizes.contradicted(&unit.orig);
    contradicted.extend(sizes.contradicted(&unit.patched));
    if let Some(image) = target.image_mut(&unit.parent) {
        image.match_blocks(&unit.name, &unit.orig);
    }
    let mut verdicts = compare::group(&group, Lines::Noise);
    let marks = macros::read(unit)?;
    marks.check_form(unit)?;
    let overlooked = marks.apply(unit, &mut verdicts[0]);
    let callbacks = marks.callbacks.iter().map(|(_, atom)| (0, *atom, Reason::Callback));
    let globals = new_globals(unit, &verdicts[0])
        .into_iter()
        .map(|atom| (0, atom, Reason::NewGlobal));
    let others: Vec<_> = callbacks.chain(globals).collect();
    let author = Author {
        accepted,
        ..Author::default()
    };
    let selection = select::elements(&group, &verdicts, target, &others, &author, Finish::Copied)
        .map_err(|stop| stop.ignoring(&overlooked))?;
    let routes = resolve::references(&group, &selection, target)?;
    let (mut file, places) = emit::file(&group, &verdicts, &selection, &routes, 0);
    let object = &unit.patched;
    derived::restore_calls(&mut file, object, &places);
    let of_section = records::section_symbols(&mut file);
    let tables = derived::sections(object, input.patched, &places, &|section| of_section[section])?;
    file.sections.extend(tables);
    let maker = Maker {
        group: &group,
        target,
        routes: &routes,
        marks: &marks,
        places: &places,
    };
    maker.records(&mut file);
    let mut ignored = selection.ignored.clone();
    ignored.extend(routes.ignored.iter().cloned());
    ignored.extend(overlooked);
    Ok(Created {
        bytes: file.write(),
        callbacks: maker.callback_names(),
        elements: report::elements(&group, &selection, &routes),
        functions: routes.functions.into_values().collect(),
        ignored,
        accepted: selection.accepted,
        contradicted: contradicted.into_values().collect(),
    })
}

/// New global functions and variables. The livepatch's other objects, which this does not see, may use them.
fn new_globals(unit: &Unit<'_>, verdicts: &UnitVerdicts) -> Vec<Id<Patched, Atom>> {
    let object = &unit.patched;
    let all = object.atoms.iter().filter(|(id, row)| {
        let global = row
            .symbol
            .is_some_and(|symbol| object.symbols[symbol].st_bind == elf::STB_GLOBAL.0);
        let mark = is_mark(object.sections[row.section].name);
        global && !mark && verdicts.of[*id] == Verdict::New && object.class(*id) != Class::Init
    });
    all.map(|(id, _)| id).collect()
}

struct Maker<'a, 'd> {
    group: &'a Group<'d>,
    target: &'a Target<'d>,
    routes: &'a Routes,
    marks: &'a Macros,
    places: &'a BTreeMap<Id<Patched, Atom>, Spot>,
}

impl Maker<'_, '_> {
    fn parent(&self) -> &ObjectName {
        &self.group.units[0].parent
    }

    fn records(&self, file: &mut File) {
        let object = &self.group.units[0].patched;
        let relocations = self.take_relocations(file);
        self.drop_unused(file);
        self.add_namespaces(file);
        let funcs = self.funcs(file);
        let absolute = object.arch.facts().relocs.pointer.0;
        let callbacks = self.callback_records(file);
        let mut writer = Writer::new(file, absolute);
        for (section, records) in callbacks {
            writer.name_callbacks(section, &records, self.parent().as_str());
        }
        writer.write(self.parent().as_str(), &funcs, &relocations);
    }

    /// Removes the relocations that livepatch must apply from the file and returns them as records.
    fn take_relocations(&self, file: &mut File) -> Vec<Relocation> {
        let mut taken = Vec::new();
        for (index, section) in file.sections.iter_mut().enumerate() {
            for rela in &mut section.relas {
                rela.rows.retain(|row| {
                    let symbol = row.symbol.map(|symbol| &file.symbols[symbol]);
                    let undefined = symbol.filter(|symbol| symbol.place == Place::Reserved(elf::SHN_UNDEF.0));
                    let Some(klp) = undefined.and_then(|symbol| self.routes.symbols.get(&symbol.name)) else {
                        return true;
                    };
                    taken.push(Relocation {
                        place: (index, row.r_offset),
                        r_type: row.r_type,
                        addend: row.r_addend,
                        external: klp.owner != klp.gate,
                        object: klp.gate.as_str().to_owned(),
                        symbol: self.wanted(klp),
                    });
                    false
                });
            }
            section.relas.retain(|rela| !rela.rows.is_empty());
        }
        taken
    }

    fn wanted(&self, klp: &KlpSymbol) -> Wanted {
        let image = self.target.image(&klp.owner);
        let found = image.and_then(|image| Some(image.symbol(image.find(&klp.name, klp.sympos)?)));
        Wanted {
            address: found
                .filter(|_| klp.owner.is_vmlinux())
                .map_or(0, |symbol| symbol.value),
            sympos: klp.sympos.0.into(),
            bind: found.map_or(elf::STB_GLOBAL.0, |symbol| symbol.bind()),
            kind: found.map_or(elf::STT_NOTYPE.0, |symbol| symbol.kind()),
            name: klp.name.clone(),
            owner: klp.owner.as_str().to_owned(),
        }
    }

    /// Drops undefined symbols that only the removed relocations named.
    fn drop_unused(&self, file: &mut File) {
        let rows = file
            .sections
            .iter()
            .flat_map(|section| &section.relas)
            .flat_map(|rela| &rela.rows);
        let used: BTreeSet<usize> = rows.filter_map(|row| row.symbol).collect();
        file.retain_symbols(|index, symbol| {
            let undefined = symbol.place == Place::Reserved(elf::SHN_UNDEF.0);
            used.contains(&index) || !undefined
        });
    }

    /// The records of the functions. An object linked from several files may have several functions of one name, so the
    /// place identifies them.
    fn funcs(&self, file: &File) -> Vec<Func> {
        let object = &self.group.units[0].patched;
        let mut funcs = Vec::new();
        for ((_, atom), function) in &self.routes.functions {
            let name = object.name(*atom).unwrap_or_default();
            let (row, spot) = (&object.atoms[*atom], self.places[atom]);
            let entry = (Place::Section(spot.section), spot.offset + (row.anchor - row.start));
            let named = file
                .symbols
                .iter()
                .position(|symbol| symbol.name == name && (symbol.place, symbol.st_value) == entry);
            let symbol = named.expect("what is redirected was emitted under its name");
            let image = self.target.image(&function.object);
            let old = image.and_then(|image| Some(image.symbol(image.find(&function.name, function.sympos)?)));
            funcs.push(Func {
                symbol,
                size: object.size(*atom),
                old: old.map_or((0, 0), |old| (old.value, old.size)),
                sympos: function.sympos.0.into(),
                name: function.name.clone(),
                object: function.object.as_str().to_owned(),
            });
        }
        funcs
    }

    /// The sections of callback records with the offsets of the records in them.
    fn callback_records(&self, file: &File) -> Vec<(usize, Vec<u64>)> {
        let mut found = Vec::new();
        for (index, section) in file.sections.iter().enumerate() {
            if !section.name.starts_with(".kpatch.callbacks.") {
                continue;
            }
            let rows = section.relas.iter().flat_map(|rela| &rela.rows);
            found.push((index, rows.map(|row| row.r_offset).collect()));
        }
        found
    }

    fn callback_names(&self) -> Vec<(String, String)> {
        let object = &self.group.units[0].patched;
        let name = |atom: Id<Patched, Atom>| {
            let functions = object.relocs(atom).iter().filter_map(|reloc| match reloc.target {
                crate::read::Target::Atom { atom, .. } if object.atoms[atom].kind == AtomKind::Function => {
                    Some(object.label(atom))
                }
                _ => None,
            });
            functions.collect::<Vec<_>>().join(" ")
        };
        self.marks
            .callbacks
            .iter()
            .map(|(moment, atom)| (moment.to_string(), name(*atom)))
            .collect()
    }

    /// Adds the symbol namespaces that the patched unit imports: the livepatch must import them as well.
    fn add_namespaces(&self, file: &mut File) {
        let mut all = self.marks.namespaces.clone();
        all.extend(self.routes.namespaces.iter().cloned());
        let mut seen = BTreeSet::new();
        all.retain(|name| seen.insert(name.clone()));
        if all.is_empty() {
            return;
        }
        let data: Vec<u8> = all
            .iter()
            .flat_map(|name| format!("import_ns={name}\0").into_bytes())
            .collect();
        file.sections.push(Section {
            name: ".modinfo".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0,
            sh_addralign: 1,
            size: data.len() as u64,
            data,
            ..Section::default()
        });
    }
}
