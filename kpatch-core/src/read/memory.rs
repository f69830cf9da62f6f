//! Which kind of memory a variable lies in. Its section says more than whether it can be written: compilers choose the
//! section by the initial value and by who writes, and attributes choose memory that other instructions reach.

use object::elf;

use super::{Class, Section};

/// What code that uses a variable must know about its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<'d> {
    /// Ordinary data, which the kernel may write at any time.
    Plain,
    /// What cannot be written once the kernel or module runs: constants, and `__ro_after_init`.
    Sealed,
    /// Memory that the kernel frees after boot.
    Init,
    /// One copy for each processor.
    PerCpu,
    /// One copy for each thread (SHF_TLS).
    Thread,
    /// A place of its own that an attribute gives by this name: a table, or memory that is treated otherwise
    /// (`__bss_decrypted`, `__nosavedata`).
    Named(&'d str),
}

/// What may follow `.data..` and `.bss..` without making the memory another: it is about cache lines and pages
/// (include/asm-generic/vmlinux.lds.h, `DATA_DATA`, `RW_DATA`), or the compiler's own.
const ORDINARY: &[&str] = &[
    "read_mostly",
    "once",
    "page_aligned",
    "cacheline_aligned",
    "shared_aligned",
    "L",
    "compoundliteral",
    "unlikely",
    "str",
];

/// What may follow `.data..percpu`, with the same consequence (include/linux/percpu-defs.h).
const ORDINARY_PER_CPU: &[&str] = &[
    "..first",
    "..hot",
    "..page_aligned",
    "..read_mostly",
    "..shared_aligned",
];

impl<'d> Memory<'d> {
    /// The memory of a section.
    pub fn of<S>(section: &Section<'d, S>) -> Memory<'d> {
        let name = section.name;
        if section.class == Class::Init {
            Memory::Init
        } else if section.sh_flags & elf::SHF_TLS.0 != 0 {
            Memory::Thread
        } else if let Some(rest) = name.strip_prefix(".data..percpu") {
            if rest.is_empty() || ORDINARY_PER_CPU.iter().any(|start| rest.starts_with(start)) {
                Memory::PerCpu
            } else {
                Memory::Named(name)
            }
        } else if let Some(rest) = name.strip_prefix(".data..").or_else(|| name.strip_prefix(".bss..")) {
            attributed(rest)
        } else if [".rodata", ".srodata", ".lrodata", ".data.rel.ro"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            Memory::Sealed
        } else if [".data", ".bss", ".sdata", ".sbss", ".ldata", ".lbss"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            Memory::Plain
        } else {
            Memory::Named(name)
        }
    }
}

/// The memory that a section attribute names.
fn attributed(rest: &str) -> Memory<'_> {
    if rest.starts_with("ro_after_init") {
        Memory::Sealed
    } else if ORDINARY.iter().any(|start| rest.starts_with(start)) {
        Memory::Plain
    } else {
        Memory::Named(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Orig;

    fn of(name: &str, flags: u64, class: Class) -> Memory<'_> {
        Memory::of(&Section::<Orig> {
            name,
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0 | flags,
            sh_addralign: 8,
            sh_entsize: 0,
            sh_size: 0,
            data: &[],
            class,
            special: None,
            relocs: Vec::new(),
            atoms: 0..0,
        })
    }

    #[test]
    fn memory_follows_from_the_section() {
        let write = elf::SHF_WRITE.0;
        let data = |name| of(name, write, Class::Data);
        for name in [
            ".data.x",
            ".bss.x",
            ".data..read_mostly",
            ".bss..page_aligned",
            ".data..Lubsan_data1",
        ] {
            assert_eq!(data(name), Memory::Plain, "{name}");
        }
        for name in [".rodata.x", ".data.rel.ro.x", ".data..ro_after_init", ".rodata.cst16"] {
            assert_eq!(data(name), Memory::Sealed, "{name}");
        }
        assert_eq!(data(".data..percpu..read_mostly"), Memory::PerCpu);
        assert_eq!(
            data(".data..percpu..decrypted"),
            Memory::Named(".data..percpu..decrypted")
        );
        assert_eq!(
            data(".bss..decrypted"),
            data(".data..decrypted"),
            "zero or not, it is the same memory"
        );
        assert_ne!(data(".data..decrypted"), Memory::Plain);
        assert_eq!(of(".tbss", write | elf::SHF_TLS.0, Class::Data), Memory::Thread);
        assert_eq!(of(".init.data", write, Class::Init), Memory::Init);
        assert_eq!(of("__param", 0, Class::Rodata), Memory::Named("__param"));
    }
}
