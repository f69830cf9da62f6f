//! What a module says about itself: entries `name=value`, one after the other (include/linux/moduleparam.h,
//! `__MODULE_INFO`).

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};

/// The section of the entries.
pub(super) const SECTION: &str = ".modinfo";

/// The entries of a module, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modinfo(Vec<String>);

impl Modinfo {
    /// The entries of a module. What is no module has none.
    pub fn read(module: &[u8]) -> Modinfo {
        let file = ElfFile64::<Endianness>::parse(module).ok();
        let data = file
            .as_ref()
            .and_then(|file| file.section_by_name(SECTION)?.data().ok());
        Modinfo::parse(data.unwrap_or_default())
    }

    /// The entries in the bytes of their section.
    pub(super) fn parse(data: &[u8]) -> Modinfo {
        let entries = data.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        Modinfo(
            entries
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .collect(),
        )
    }

    /// The first value of a name; the kernel looks no further either (kernel/module/main.c, `get_modinfo`).
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{File, Section};

    const ENTRIES: &[u8] = b"license=GPL\0name=a\0\0vermagic=6.12.107 SMP mod_unload \0license=x\0vermagic_of=y\0";

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let entries = Modinfo::parse(ENTRIES);
        assert_eq!(entries.value("vermagic"), Some("6.12.107 SMP mod_unload "));
        assert_eq!(entries.value("license"), Some("GPL"));
        assert_eq!(entries.value("magic"), None);
        assert_eq!(entries.value("verm"), None);
    }

    #[test]
    fn a_module_has_its_entries_in_a_section() {
        let section = |name: &str, data: &[u8]| Section {
            name: name.into(),
            sh_type: object::elf::SHT_PROGBITS.0,
            size: data.len() as u64,
            data: data.to_vec(),
            ..Section::default()
        };
        let file = File {
            e_machine: object::elf::EM_X86_64.0,
            sections: vec![section(".data", b"\0vermagic=x\0"), section(SECTION, ENTRIES)],
            ..File::default()
        };
        assert_eq!(Modinfo::read(&file.write()), Modinfo::parse(ENTRIES));
        assert_eq!(Modinfo::read(b"nothing"), Modinfo::default());
    }
}
