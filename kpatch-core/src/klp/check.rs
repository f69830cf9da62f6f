//! Checks the finished module against its kernel, by the kernel's own rules.

use std::collections::BTreeSet;

use object::elf;

use super::modinfo::{self, Modinfo};
use super::pointers;
use super::symbol_name;
use super::{
    BAD_CALL, BAD_MODINFO, BAD_MODULE, BAD_NAME, BAD_RELOCATION, FIELD_NOT_ZERO, LATE_RELOCATION, MAX_OBJECT_NAME,
    MAX_SYMBOL_NAME, NAME_TOO_LONG, NO_FTRACE_SITE, NOT_FOUND, NOTHING_PATCHED, OBJTOOL_INCOMPLETE, UNDEFINED,
    VERMAGIC_MISMATCH,
};
use crate::arch::{self, Arch, BadExit, RelocKind};
use crate::codes::Code;
use crate::elf::{File, Place, RelaSection, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Section, Symbol};
use crate::error::{Refusal, Subject};
use crate::group::ObjectName;
use crate::macros::Callback;
use crate::names;
use crate::resolve::{Hook, PatchedFunction, SymPos, Target};

/// What the module must contain.
pub struct Expected<'a> {
    /// The functions to redirect.
    pub functions: &'a [PatchedFunction],
    /// The functions to call when objects are patched.
    pub callbacks: &'a [Callback],
    /// `vermagic` of the kernel's own modules.
    pub vermagic: Option<&'a str>,
    /// Functions whose address is taken though no call through a pointer can reach them.
    pub addressed: &'a BTreeSet<String>,
}

/// Checks a finished module. An empty list means that the kernel will accept it.
pub fn check(module: &[u8], target: &Target<'_>, expected: &Expected<'_>) -> Vec<Refusal> {
    let file = match crate::elf::read(module) {
        Ok(file) => file,
        Err(why) => return vec![Refusal::new(BAD_MODULE, Subject::default(), why)],
    };
    let machine = elf::Machine(file.e_machine);
    let same = target.vmlinux.machine().is_none_or(|kernel| kernel == machine);
    let Some(arch) = arch::for_machine(machine).filter(|_| same) else {
        return vec![Refusal::new(
            BAD_MODULE,
            Subject::default(),
            "the module is for another machine",
        )];
    };
    let mut checker = Checker {
        file: &file,
        arch,
        target,
        found: Vec::new(),
    };
    checker.modinfo(expected.vermagic);
    checker.symbols();
    for section in &file.sections {
        for rela in section
            .relas
            .iter()
            .filter(|rela| rela.sh_flags & SHF_RELA_LIVEPATCH != 0)
        {
            checker.klp_section(section, rela);
        }
        for rela in section
            .relas
            .iter()
            .filter(|rela| rela.sh_flags & SHF_RELA_LIVEPATCH == 0)
        {
            checker.plain_section(section, rela);
        }
    }
    checker.functions(expected);
    checker.objtool();
    let pointers = pointers::check(&file, arch, target, expected.addressed);
    checker.found.extend(pointers);
    checker.found.sort();
    checker.found.dedup();
    checker.found
}

struct Checker<'a, 'd> {
    file: &'a File,
    arch: &'static dyn Arch,
    target: &'a Target<'d>,
    found: Vec<Refusal>,
}

impl Checker<'_, '_> {
    fn report(&mut self, code: Code, at: Subject, why: String) {
        self.found.push(Refusal::new(code, at, why));
    }

    fn modinfo(&mut self, vermagic: Option<&str>) {
        let at = || Subject::default().section(modinfo::SECTION);
        let mut sections = self.file.sections.iter();
        let section = sections.find(|section| section.name == modinfo::SECTION);
        let entries = section.map_or_else(Modinfo::default, |section| Modinfo::parse(&section.data));
        let value = |name: &str| entries.value(name);
        if value("livepatch").is_none() {
            self.report(BAD_MODINFO, at(), "the module is not marked as a livepatch".into());
        }
        if value("license") != Some("GPL") {
            self.report(BAD_MODINFO, at(), "livepatch is for GPL modules only".into());
        }
        if let Some(modules) = value("depends").filter(|modules| !modules.is_empty()) {
            let why = format!("it depends on {modules}: modprobe would load what need not be there");
            self.report(BAD_MODINFO, at(), why);
        }
        match (value("vermagic"), vermagic) {
            (Some(have), Some(want)) if have != want => {
                self.report(
                    VERMAGIC_MISMATCH,
                    at(),
                    format!("vermagic is {have:?}, the kernel's is {want:?}"),
                );
            }
            (None, _) => self.report(BAD_MODINFO, at(), "there is no vermagic".into()),
            _ => {}
        }
    }

    fn symbols(&mut self) {
        for symbol in &self.file.symbols {
            let at = Subject::default().symbol(&symbol.name);
            match symbol.place {
                Place::Reserved(SHN_LIVEPATCH) => self.livepatch_symbol(symbol),
                Place::Reserved(st_shndx) if st_shndx == elf::SHN_UNDEF.0 => {
                    let known = self.target.exports.get(&symbol.name).is_some()
                        || self.arch.facts().loader.is_own_in_each_module(&symbol.name);
                    if !known && symbol.st_info >> 4 != elf::STB_WEAK.0 {
                        self.report(UNDEFINED, at, "the kernel does not export it".into());
                    }
                }
                Place::Reserved(st_shndx) if st_shndx == elf::SHN_COMMON.0 => {
                    self.report(BAD_MODULE, at, "common symbols are not loaded".into());
                }
                Place::Reserved(_) | Place::Section(_) => {}
            }
        }
    }

    fn livepatch_symbol(&mut self, symbol: &Symbol) {
        let at = Subject::default().symbol(&symbol.name);
        let Some((object, name, sympos)) = symbol_name::parse(&symbol.name) else {
            return self.report(BAD_NAME, at, "it is not .klp.sym.<object>.<symbol>,<position>".into());
        };
        if object.len() > MAX_OBJECT_NAME {
            return self.report(BAD_NAME, at, "its object name is longer than the kernel reads".into());
        }
        if name.len() > MAX_SYMBOL_NAME {
            return self.report(NAME_TOO_LONG, at, "it is longer than the kernel reads".into());
        }
        let owner = ObjectName::module(object);
        match self.target.image(&owner) {
            Some(image) if image.find(name, SymPos(sympos)).is_none() => {
                let why = format!("{owner} has {} symbols of that name", image.found(name).len());
                self.report(NOT_FOUND, at, why);
            }
            // A patched module may use a symbol of a module that is not patched itself.
            None if self.target.exports.get(name).is_none_or(|export| export.owner != owner) => {
                self.report(NOT_FOUND, at, format!("{owner} is not known"));
            }
            _ => {}
        }
    }

    fn klp_section(&mut self, section: &Section, rela: &RelaSection) {
        let at = || Subject::default().section(&rela.name);
        let gate = rela
            .name
            .strip_prefix(".klp.rela.")
            .and_then(|rest| rest.split_once('.'))
            .map(|(gate, _)| gate);
        let Some(gate) = gate.filter(|gate| !gate.is_empty() && gate.len() <= MAX_OBJECT_NAME) else {
            return self.report(BAD_NAME, at(), "it is not .klp.rela.<object>.<section>".into());
        };
        if !rela.name.ends_with(&format!(".{}", section.name)) {
            self.report(BAD_NAME, at(), format!("it applies to {}", section.name));
        }
        let special = self.arch.facts().special(&section.name);
        if gate != "vmlinux" && special.is_some_and(|row| row.read_early) {
            self.report(
                LATE_RELOCATION,
                at(),
                "the kernel reads this section before it is relocated".into(),
            );
        }
        for row in &rela.rows {
            self.field(section, rela, row);
            self.late_write(section, rela, gate, row);
            self.late_slot(rela, gate, row);
            self.exit(section, rela, row);
            let symbol = row.symbol.and_then(|symbol| self.file.symbols.get(symbol));
            let Some(symbol) = symbol.filter(|symbol| symbol.place == Place::Reserved(SHN_LIVEPATCH)) else {
                self.report(
                    BAD_RELOCATION,
                    at().offset(row.r_offset),
                    "its symbol is not a livepatch symbol".into(),
                );
                continue;
            };
            let owner = symbol_name::parse(&symbol.name).map_or("", |(owner, ..)| owner);
            if gate != "vmlinux" && owner == "vmlinux" {
                let why = format!(
                    "`{}` belongs to vmlinux, which a section of a module must not use",
                    symbol.name
                );
                self.report(BAD_RELOCATION, at().offset(row.r_offset), why);
            }
            if gate == "vmlinux" && owner != "vmlinux" {
                let why = format!("`{}` may not be there when the livepatch is loaded", symbol.name);
                self.report(BAD_RELOCATION, at().offset(row.r_offset), why);
            }
        }
    }

    /// objtool gives up with a warning and exit status 0, so this counts what it should have made.
    fn objtool(&mut self) {
        for table in self.arch.facts().objtool.required {
            let vmlinux = &self.target.vmlinux;
            let has_symbol = table.symbol.is_some_and(|symbol| !vmlinux.global(symbol).is_empty());
            if !has_symbol && !vmlinux.has_section(table.name) {
                continue;
            }
            let made = self.file.sections.iter().find(|section| section.name == table.name);
            let why = match &table.callers {
                None if made.is_none_or(|section| section.size == 0) => "the section is missing or empty".to_owned(),
                None => continue,
                Some(callers) => {
                    let wanted = callers.relocs * self.branches_to(callers.of);
                    let relas = made.iter().flat_map(|section| &section.relas);
                    let have: usize = relas.map(|rela| rela.rows.len()).sum();
                    if have >= wanted && have.is_multiple_of(callers.relocs) {
                        continue;
                    }
                    format!(
                        "{have} relocations instead of {wanted} for the branches to `{}`",
                        callers.of
                    )
                }
            };
            self.report(OBJTOOL_INCOMPLETE, Subject::default().section(table.name), why);
        }
    }

    /// How many branches lead to a symbol with this prefix, in the image or in the livepatch. Code may also take the
    /// address of one: `static_call_update()` passes that of the trampoline. Calls of a module's are hidden from objtool, which
    /// makes no row of them (docs/decisions/static-calls-of-modules.md).
    fn branches_to(&self, start: &str) -> usize {
        let symbols = &self.file.symbols;
        let named = |row: &&crate::elf::Rela| {
            let name = row.symbol.map_or("", |symbol| &symbols[symbol].name);
            match symbol_name::parse(name) {
                Some((owner, name, _)) => owner == "vmlinux" && name.starts_with(start),
                None => name.starts_with(start),
            }
        };
        let code = self.file.sections.iter().filter(|section| {
            section.sh_flags & elf::SHF_EXECINSTR.0 != 0 && !self.arch.facts().objtool.is_unlisted(&section.name)
        });
        let branches = code.flat_map(|section| {
            let rows = section.relas.iter().flat_map(|rela| &rela.rows).filter(named);
            rows.filter(|row| self.arch.is_branch(&section.data, row.r_offset))
        });
        branches.count()
    }

    /// arch/x86/kernel/module.c, `__write_relocate_add`: a field that is not zero stops the module from loading,
    /// whether the loader or livepatch applies the relocation.
    fn field(&mut self, section: &Section, rela: &RelaSection, row: &crate::elf::Rela) {
        let at = Subject::default().section(&rela.name).offset(row.r_offset);
        let facts = self.arch.facts();
        let kind = facts.relocs.kind(row.r_type);
        let Some(kind) = kind.filter(|_| facts.loader_accepts(row.r_type)) else {
            let why = format!("the module loader does not know {}", facts.relocs.name(row.r_type));
            return self.report(BAD_RELOCATION, at, why);
        };
        let start = row.r_offset as usize;
        match section.data.get(start..start.saturating_add(usize::from(kind.size()))) {
            None => self.report(BAD_RELOCATION, at, format!("it lies outside {}", section.name)),
            Some(bytes) if self.arch.facts().loader.wants_zero_fields && bytes.iter().any(|byte| *byte != 0) => {
                self.report(FIELD_NOT_ZERO, at, format!("the bytes are {bytes:02x?}"));
            }
            Some(_) => {}
        }
    }

    fn plain_section(&mut self, section: &Section, rela: &RelaSection) {
        if section.sh_flags & elf::SHF_ALLOC.0 == 0 {
            return;
        }
        for row in &rela.rows {
            let at = || Subject::default().section(&rela.name).offset(row.r_offset);
            let symbol = row.symbol.and_then(|symbol| self.file.symbols.get(symbol));
            if symbol.is_some_and(|symbol| symbol.place == Place::Reserved(SHN_LIVEPATCH)) {
                self.report(
                    BAD_RELOCATION,
                    at(),
                    "a livepatch symbol outside a livepatch section".into(),
                );
            }
            self.field(section, rela, row);
            self.far_per_cpu(rela, row);
            self.exit(section, rela, row);
        }
    }

    /// By the time a module is loaded after the livepatch, the livepatch's memory is write-protected.
    fn late_write(&mut self, section: &Section, rela: &RelaSection, gate: &str, row: &crate::elf::Rela) {
        let writable = section.sh_flags & elf::SHF_WRITE.0 != 0;
        if gate != "vmlinux" && !writable && !self.arch.facts().loader.writes_protected(row.r_type) {
            let why = format!(
                "{} is write-protected when {gate} is loaded, and the kernel applies {} by a plain store",
                section.name,
                self.arch.facts().relocs.name(row.r_type)
            );
            self.report(
                LATE_RELOCATION,
                Subject::default().section(&rela.name).offset(row.r_offset),
                why,
            );
        }
    }

    /// A slot that is filled only once has a stale address after the second loading of an object.
    fn late_slot(&mut self, rela: &RelaSection, gate: &str, row: &crate::elf::Rela) {
        let facts = self.arch.facts();
        if gate != "vmlinux" && facts.loader.fills_once(row.r_type) {
            let why = format!(
                "the kernel fills the slot of {} once only, and {gate} may be loaded again elsewhere",
                facts.relocs.name(row.r_type)
            );
            let at = Subject::default().section(&rela.name).offset(row.r_offset);
            self.report(LATE_RELOCATION, at, why);
        }
    }

    /// A distance to a per-CPU variable of the module, where those may be out of reach.
    fn far_per_cpu(&mut self, rela: &RelaSection, row: &crate::elf::Rela) {
        let facts = self.arch.facts();
        let place = row.symbol.and_then(|symbol| self.file.symbols.get(symbol));
        let target = match place.map(|symbol| &symbol.place) {
            Some(Place::Section(index)) => self.file.sections.get(*index),
            _ => None,
        };
        let distance = matches!(facts.relocs.kind(row.r_type), Some(RelocKind::Relative { .. }));
        let per_cpu = target.is_some_and(|section| section.name.starts_with(".data..percpu"));
        if facts.loader.far_data && per_cpu && distance && !facts.loader.fills_once(row.r_type) {
            let why = "a per-CPU variable of a module may be too far away for a distance";
            let at = Subject::default().section(&rela.name).offset(row.r_offset);
            self.report(BAD_RELOCATION, at, why.into());
        }
    }

    /// Checks a branch that leaves the module by the module loader's rules.
    fn exit(&mut self, section: &Section, rela: &RelaSection, row: &crate::elf::Rela) {
        let Some(symbol) = row.symbol.and_then(|symbol| self.file.symbols.get(symbol)) else {
            return;
        };
        let outside =
            matches!(symbol.place, Place::Reserved(index) if index == SHN_LIVEPATCH || index == elf::SHN_UNDEF.0);
        if !self.arch.facts().relocs.is_branch(row.r_type)
            || !outside
            || self.arch.facts().tracing.is_callee(&symbol.name)
        {
            return;
        }
        let at = Subject::default().section(&rela.name).offset(row.r_offset);
        match self.arch.check_exit(&section.data, row.r_offset) {
            Ok(()) => {}
            Err(BadExit::NoRestore) => {
                self.report(BAD_CALL, at, format!("no nop follows the call of `{}`", symbol.name));
            }
            Err(BadExit::NotACall) => {
                self.report(
                    BAD_CALL,
                    at,
                    format!("a jump leads to `{}`, which is elsewhere", symbol.name),
                );
            }
        }
        if self.arch.facts().has_module_pointer && !self.sets_up_pointer(section, row.r_offset) {
            let why = format!("what calls `{}` does not set up r2", symbol.name);
            self.report(
                BAD_CALL,
                Subject::default().section(&rela.name).offset(row.r_offset),
                why,
            );
        }
    }

    /// Whether the function at an offset sets up r2: it has a local entry, or is a cold part of one that does.
    fn sets_up_pointer(&self, section: &Section, offset: u64) -> bool {
        let holds = |symbol: &&Symbol| {
            let here =
                matches!(symbol.place, Place::Section(index) if std::ptr::eq(&self.file.sections[index], section));
            let inside = symbol.st_value <= offset && offset < symbol.st_value.saturating_add(symbol.st_size);
            here && inside && symbol.st_info & 0xf == elf::STT_FUNC.0
        };
        let mut own = self.file.symbols.iter().filter(holds).peekable();
        let part = |symbol: &Symbol| names::cold_parent(&symbol.name).is_some();
        own.peek().is_none() || own.any(|symbol| self.arch.local_entry(symbol.st_other) != 0 || part(symbol))
    }

    fn functions(&mut self, expected: &Expected<'_>) {
        if expected.functions.is_empty() && expected.callbacks.is_empty() {
            let why = "the module redirects no function and has no callback";
            self.report(NOTHING_PATCHED, Subject::default(), why.into());
        }
        for function in expected.functions {
            let at = Subject::default().symbol(&function.name);
            let image = self.target.image(&function.object);
            let found = image.and_then(|image| Some((image, image.find(&function.name, function.sympos)?)));
            match found {
                None => self.report(
                    NOT_FOUND,
                    at,
                    format!("{} does not have it at this position", function.object),
                ),
                Some((image, id)) if image.hook(id) != Hook::Own => {
                    self.report(NO_FTRACE_SITE, at, format!("{} cannot hook it", function.object));
                }
                Some(_) => {}
            }
            if !self
                .file
                .symbols
                .iter()
                .any(|symbol| symbol.name == function.handle && symbol.place != Place::Reserved(0))
            {
                let why = format!("the module does not define `{}`", function.handle);
                self.report(NOTHING_PATCHED, Subject::default().symbol(&function.name), why);
            }
        }
    }
}
