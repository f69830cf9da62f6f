//! Converts a linked module: relocations against kernel symbols move into sections that livepatch applies.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::BAD_MODULE;
use super::symbol_name;
use crate::elf::{File, Place, RelaSection, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Symbol};
use crate::error::{Error, Subject};
use crate::group::ObjectName;
use crate::resolve::KlpSymbol;

/// What the conversion did.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The finished module, a relocatable file.
    pub bytes: Vec<u8>,
    /// Number of livepatch relocations, by the object whose loading applies them.
    pub relocations: BTreeMap<ObjectName, usize>,
    /// Number of symbols that livepatch looks up.
    pub symbols: usize,
}

/// Converts a linked module. `symbols` maps the names of undefined symbols to the kernel symbols that they stand for.
///
/// # Errors
/// [`BAD_MODULE`] if the module cannot be read, or defines a link name itself.
pub fn convert(module: &[u8], symbols: &BTreeMap<String, KlpSymbol>) -> Result<Converted, Error> {
    let bad = |why: String| Error::new(BAD_MODULE, Subject::default(), why);
    let mut file = crate::elf::read(module).map_err(bad)?;
    // BTF that does not fit the running kernel stops a module from loading; missing BTF never does: kernel/bpf/btf.c,
    // `btf_module_notify`.
    let named = file.remove_sections(|name| name == ".BTF" || name == ".BTF.base");
    if let Some(name) = named.first() {
        return Err(bad(format!("{name} cannot be dropped: something refers to it")));
    }
    let klp = mark(&mut file.symbols, symbols).map_err(bad)?;
    let mut relocations: BTreeMap<ObjectName, usize> = BTreeMap::new();
    for section in &mut file.sections {
        let mut moved: BTreeMap<&ObjectName, RelaSection> = BTreeMap::new();
        for rela in &mut section.relas {
            rela.rows.retain(|row| {
                let Some(symbol) = row.symbol.and_then(|symbol| klp.get(&symbol)) else {
                    return true;
                };
                let made = moved.entry(&symbol.gate).or_insert_with(|| RelaSection {
                    name: format!(".klp.rela.{}.{}", symbol.gate, section.name),
                    sh_flags: elf::SHF_ALLOC.0 | SHF_RELA_LIVEPATCH,
                    rows: Vec::new(),
                });
                made.rows.push(*row);
                *relocations.entry(symbol.gate.clone()).or_default() += 1;
                false
            });
        }
        section.relas.extend(moved.into_values());
    }
    drop_unused(&mut file, &klp.keys().copied().collect());
    Ok(Converted {
        bytes: file.write(),
        relocations,
        symbols: klp.len(),
    })
}

/// Renames the undefined symbols that stand for kernel symbols and sets their section index to SHN_LIVEPATCH.
fn mark<'s>(
    rows: &mut [Symbol],
    symbols: &'s BTreeMap<String, KlpSymbol>,
) -> Result<BTreeMap<usize, &'s KlpSymbol>, String> {
    let mut marked = BTreeMap::new();
    for (index, row) in rows.iter_mut().enumerate() {
        let Some(symbol) = symbols.get(&row.name).filter(|_| !row.is_local()) else {
            continue;
        };
        if row.place != Place::Reserved(elf::SHN_UNDEF.0) {
            return Err(format!(
                "`{}` should be left to the kernel and is defined in the module",
                row.name
            ));
        }
        row.name = symbol_name::name(&symbol.owner, &symbol.name, symbol.sympos.0);
        row.place = Place::Reserved(SHN_LIVEPATCH);
        marked.insert(index, symbol);
    }
    Ok(marked)
}

/// Drops livepatch symbols that no relocation names. The kernel would ignore them, but they would mislead a reader of
/// the module.
fn drop_unused(file: &mut File, klp: &BTreeSet<usize>) {
    let used: BTreeSet<usize> = file
        .sections
        .iter()
        .flat_map(|section| {
            section
                .relas
                .iter()
                .flat_map(|rela| rela.rows.iter().filter_map(|row| row.symbol))
        })
        .collect();
    file.retain_symbols(|index, _| !klp.contains(&index) || used.contains(&index));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{Rela, Section};
    use crate::resolve::SymPos;

    fn module() -> File {
        let mut file = File {
            e_machine: elf::EM_X86_64.0,
            ..File::default()
        };
        let rows = vec![
            Rela {
                r_offset: 1,
                symbol: Some(1),
                r_type: elf::R_X86_64_PLT32.0,
                r_addend: -4,
            },
            Rela {
                r_offset: 6,
                symbol: Some(2),
                r_type: elf::R_X86_64_PLT32.0,
                r_addend: -4,
            },
        ];
        let relas = vec![RelaSection {
            name: ".rela.text".into(),
            sh_flags: 0,
            rows,
        }];
        file.sections.push(Section {
            name: ".text".into(),
            sh_type: elf::SHT_PROGBITS.0,
            data: vec![0; 10],
            size: 10,
            relas,
            ..Section::default()
        });
        file.symbols.push(Symbol::new("f", Place::Section(0), 0, 2));
        file.symbols.push(Symbol::new("hidden", Place::Reserved(0), 1, 0));
        file.symbols.push(Symbol::new("exported", Place::Reserved(0), 1, 0));
        file.symbols.push(Symbol::new("unused", Place::Reserved(0), 1, 0));
        file
    }

    fn klp(name: &str) -> KlpSymbol {
        let owner = ObjectName::vmlinux();
        KlpSymbol {
            gate: owner.clone(),
            owner,
            name: name.into(),
            sympos: SymPos(2),
        }
    }

    #[test]
    fn relocations_to_kernel_symbols_move() {
        let symbols = BTreeMap::from([
            ("hidden".to_owned(), klp("hidden.llvm.7")),
            ("unused".to_owned(), klp("unused")),
        ]);
        let converted = convert(&module().write(), &symbols).expect("converts");
        let file = crate::elf::read(&converted.bytes).expect("our own file");
        let names: Vec<_> = file.sections[0]
            .relas
            .iter()
            .map(|rela| (rela.name.as_str(), rela.rows.len()))
            .collect();
        assert_eq!(names, [(".rela.text", 1), (".klp.rela.vmlinux..text", 1)]);
        let names: Vec<_> = file.symbols.iter().map(|symbol| symbol.name.as_str()).collect();
        assert_eq!(names, ["f", ".klp.sym.vmlinux.hidden.llvm.7,2", "exported"]);
        assert_eq!(file.symbols[1].place, Place::Reserved(SHN_LIVEPATCH));
    }

    #[test]
    fn type_information_is_dropped_and_indexes_follow() {
        let mut file = module();
        file.sections.insert(
            0,
            Section {
                name: ".BTF".into(),
                sh_type: elf::SHT_PROGBITS.0,
                ..Section::default()
            },
        );
        file.symbols[0].place = Place::Section(1);
        file.symbols
            .insert(0, Symbol::new("", Place::Section(0), 0, elf::STT_SECTION.0));
        file.sections[1].relas[0].rows[0].symbol = Some(2);
        file.sections[1].relas[0].rows[1].symbol = Some(3);
        let converted = convert(&file.write(), &BTreeMap::new()).expect("converts");
        let file = crate::elf::read(&converted.bytes).expect("our own file");
        assert_eq!(file.sections.len(), 1);
        assert_eq!(file.symbols[0].place, Place::Section(0));
        assert_eq!(file.sections[0].relas[0].rows[0].symbol, Some(1));
    }

    #[test]
    fn a_link_name_that_the_module_defines_is_an_error() {
        let mut file = module();
        file.symbols[1].place = Place::Section(0);
        let symbols = BTreeMap::from([("hidden".to_owned(), klp("hidden"))]);
        assert_eq!(convert(&file.write(), &symbols).expect_err("defined").code, BAD_MODULE);
    }
}
