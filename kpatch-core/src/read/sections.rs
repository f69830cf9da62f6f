//! What a section holds, judged by its header and name.

use object::elf;

use super::{Object, is_mark};
use crate::arch::{SpecialSection, Split};
use crate::ids::Side;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Code that stays after boot.
    Text,
    /// Code or data that the kernel frees after boot, and exit code.
    Init,
    /// Variables, which the kernel writes.
    Data,
    /// Constant data, such as `.rodata` and `.data.rel.ro`.
    Rodata,
    /// Per-CPU data: each processor has a copy.
    PerCpu,
    /// Strings that a linker may merge (SHF_MERGE | SHF_STRINGS).
    Strings,
    /// A special section, with the way it is cut.
    Special(Split),
    /// Not part of the running kernel, or made anew by a later step.
    Ignored,
}

impl Class {
    /// Whether the content is constant, so that code reading it changes when the content does.
    pub fn is_constant(self) -> bool {
        matches!(self, Class::Rodata | Class::Strings)
    }
}

/// Fills in the class of every section.
pub fn classify<S: Side>(object: &mut Object<'_, S>) {
    let facts = object.arch.facts();
    for id in object.sections.ids() {
        let section = &mut object.sections[id];
        section.special = facts.special(section.name).filter(|_| !is_mark(section.name));
        section.class = class(section.name, section.sh_type, section.sh_flags, section.special);
    }
}

fn class(name: &str, sh_type: u32, sh_flags: u64, special: Option<&SpecialSection>) -> Class {
    let has = |flag: elf::SectionFlags| sh_flags & flag.0 != 0;
    if let Some(row) = special {
        return match row.split {
            Split::Drop => Class::Ignored,
            split => Class::Special(split),
        };
    }
    let occupied = [elf::SHT_PROGBITS, elf::SHT_NOBITS, elf::SHT_INIT_ARRAY]
        .iter()
        .any(|kind| kind.0 == sh_type);
    if !occupied || !has(elf::SHF_ALLOC) {
        return Class::Ignored;
    }
    if is_init(name) {
        Class::Init
    } else if has(elf::SHF_EXECINSTR) {
        Class::Text
    } else if has(elf::SHF_STRINGS) && has(elf::SHF_MERGE) {
        Class::Strings
    } else if name.starts_with(".data..percpu") {
        Class::PerCpu
    } else if has(elf::SHF_WRITE) && !is_relro(name) {
        Class::Data
    } else {
        Class::Rodata
    }
}

/// Tables that only boot reads and that are freed with it: include/asm-generic/vmlinux.lds.h (6.12), INIT_DATA, and
/// arch/x86/kernel/vmlinux.lds.S.
const BOOT_TABLES: &[&str] = &[
    "__clk_of_table",
    "__cpu_method_of_table",
    "__cpuidle_method_of_table",
    "__earlycon_table",
    "__governor_thermal_table",
    "__irqchip_acpi_probe_table",
    "__irqchip_of_table",
    "__reservedmem_of_table",
    "__timer_acpi_probe_table",
    "__timer_of_table",
    ".early_lsm_info.init",
    ".lsm_info.init",
    ".x86_cpu_dev.init",
];

/// include/asm-generic/vmlinux.lds.h (6.12): the input sections of INIT_TEXT, INIT_DATA, EXIT_TEXT and EXIT_DATA.
fn is_init(name: &str) -> bool {
    name.starts_with(".init.") || name.starts_with(".exit.") || name == ".exitcall.exit" || BOOT_TABLES.contains(&name)
}

/// Constant after relocation: compilers mark these sections writable, and the kernel's linker scripts put them with the
/// constants.
fn is_relro(name: &str) -> bool {
    name.starts_with(".data.rel.ro")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Arch, X86_64};

    fn check(name: &str, flags: &[elf::SectionFlags], expect: Class) {
        let flags = flags.iter().fold(elf::SHF_ALLOC.0, |all, flag| all | flag.0);
        assert_eq!(
            class(name, elf::SHT_PROGBITS.0, flags, X86_64.facts().special(name)),
            expect,
            "{name}"
        );
    }

    #[test]
    fn classes_follow_flags_and_names() {
        check(".text.foo", &[elf::SHF_EXECINSTR], Class::Text);
        check(".init.text", &[elf::SHF_EXECINSTR], Class::Init);
        check("__earlycon_table", &[], Class::Init);
        check(".rodata.str1.1", &[elf::SHF_MERGE, elf::SHF_STRINGS], Class::Strings);
        check(".rodata.cst16", &[elf::SHF_MERGE], Class::Rodata);
        check(".data.foo", &[elf::SHF_WRITE], Class::Data);
        check(".data.rel.ro.foo", &[elf::SHF_WRITE], Class::Rodata);
        check(".data..percpu..shared_aligned", &[elf::SHF_WRITE], Class::PerCpu);
        check("__ex_table", &[], Class::Special(Split::Entries(12)));
        check(".comment", &[], Class::Ignored);
    }

    #[test]
    fn sections_outside_the_image_are_ignored() {
        assert_eq!(class(".foo", elf::SHT_PROGBITS.0, 0, None), Class::Ignored);
    }
}
