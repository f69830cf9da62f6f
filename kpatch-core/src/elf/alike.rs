//! Whether two files are the same for whoever links and runs them.

use super::{File, Place, Section, Symbol};

/// What debuggers read. Lines that move in a header change it in each object that reads the header, and nothing else there.
const FOR_DEBUGGERS: &str = ".debug_";

impl File {
    /// Whether this and the other file differ in debugging information at most.
    pub fn same_but_for_debugging(&self, other: &File) -> bool {
        let head = |file: &File| (file.e_machine, file.e_flags, file.big_endian);
        head(self) == head(other)
            && self
                .kept()
                .map(|section| self.row(section))
                .eq(other.kept().map(|section| other.row(section)))
            && self.names().eq(other.names())
    }

    fn kept(&self) -> impl Iterator<Item = &Section> {
        let sections = self.sections.iter();
        sections.filter(|section| !section.name.starts_with(FOR_DEBUGGERS))
    }

    /// The symbols of what is compared. Numbers of sections and of symbols may differ.
    fn names(&self) -> impl Iterator<Item = impl PartialEq + '_> {
        let symbols = self.symbols.iter();
        let of_debuggers = |name: &str| name.starts_with(FOR_DEBUGGERS);
        symbols
            .map(|symbol| self.name(symbol))
            .filter(move |(section, _)| !section.is_some_and(|(name, _)| of_debuggers(name)))
    }

    fn name<'f>(&'f self, symbol: &'f Symbol) -> (Option<(&'f str, usize)>, SymbolRow<'f>) {
        let (section, reserved) = match symbol.place {
            Place::Section(index) => (
                self.sections
                    .get(index)
                    .map(|section| (&*section.name, self.among(index))),
                None,
            ),
            Place::Reserved(reserved) => (None, Some(reserved)),
        };
        let numbers = (symbol.st_info, symbol.st_other, symbol.st_value, symbol.st_size);
        (section, (&symbol.name, reserved, numbers))
    }

    /// Which of the sections of its name this is.
    fn among(&self, index: usize) -> usize {
        let before = self.sections[..index].iter();
        before
            .filter(|section| section.name == self.sections[index].name)
            .count()
    }

    fn row<'f>(&'f self, section: &'f Section) -> impl PartialEq + 'f {
        let relas = section.relas.iter().flat_map(|rela| &rela.rows);
        let rows = relas.map(|row| {
            let symbol = row.symbol.and_then(|symbol| self.symbols.get(symbol));
            (
                row.r_offset,
                row.r_type,
                row.r_addend,
                symbol.map(|symbol| self.name(symbol)),
            )
        });
        let link = section
            .sh_link
            .and_then(|link| self.sections.get(link))
            .map(|link| &link.name);
        let numbers = (
            section.sh_type,
            section.sh_flags,
            section.sh_addralign,
            section.sh_entsize,
            section.size,
        );
        (&section.name, numbers, link, &section.data, rows.collect::<Vec<_>>())
    }
}

/// Name, reserved section, and numbers.
type SymbolRow<'f> = (&'f str, Option<u16>, (u8, u8, u64, u64));

#[cfg(test)]
mod tests {
    use super::super::{Rela, RelaSection};
    use super::*;

    fn section(name: &str, data: &[u8]) -> Section {
        Section {
            name: name.into(),
            sh_type: object::elf::SHT_PROGBITS.0,
            size: data.len() as u64,
            data: data.to_vec(),
            ..Section::default()
        }
    }

    /// Debugging information in front of code that calls `callee`.
    fn file(lines: &[u8], code: &[u8], callee: &str) -> File {
        let row = Rela {
            r_offset: 1,
            symbol: Some(1),
            r_type: 2,
            r_addend: -4,
        };
        let mut text = section(".text", code);
        text.relas.push(RelaSection {
            name: ".rela.text".into(),
            sh_flags: 0,
            rows: vec![row],
        });
        let (local, global) = (object::elf::STB_LOCAL.0, object::elf::STB_GLOBAL.0);
        File {
            e_machine: object::elf::EM_X86_64.0,
            sections: vec![section(".debug_line", lines), text],
            symbols: vec![
                Symbol::new("", Place::Section(0), local, object::elf::STT_SECTION.0),
                Symbol::new(callee, Place::Reserved(0), global, 0),
            ],
            ..File::default()
        }
    }

    #[test]
    fn lines_that_move_are_no_difference_and_all_else_is() {
        let known = file(&[1, 2], &[0xe8, 0, 0, 0, 0], "callee");
        let same = |other: &File| known.same_but_for_debugging(other);
        assert!(same(&known));
        assert!(same(&file(&[1, 3, 4], &[0xe8, 0, 0, 0, 0], "callee")));
        assert!(!same(&file(&[1, 2], &[0xe9, 0, 0, 0, 0], "callee")));
        assert!(!same(&file(&[1, 2], &[0xe8, 0, 0, 0, 0], "other")));
        let mut without = file(&[], &[0xe8, 0, 0, 0, 0], "callee");
        without.sections.remove(0);
        without.symbols.remove(0);
        without.symbols[0].place = Place::Reserved(0);
        without.sections[0].relas[0].rows[0].symbol = Some(0);
        assert!(same(&without), "numbers of sections and symbols are no difference");
        without.sections[0].relas[0].rows[0].r_addend = 0;
        assert!(!same(&without));
        let mut more = known.clone();
        more.sections.push(section(".data", &[1]));
        assert!(!same(&more));
    }
}
