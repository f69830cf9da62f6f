//! A kernel that fits the original units: an image with their symbols where the linker would put them, modules, and
//! what is exported. Whatever the units use and nobody defines is taken to be in the image as well.

use std::collections::{BTreeMap, BTreeSet};

use kpatch_core::ObjectName;
use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use kpatch_core::names;
use kpatch_core::resolve::{Exports, Image, Target};
use object::elf;

use super::case::Pair;

/// Where the image is linked to.
const BASE: u64 = 0xffff_ffff_8100_0000;

/// What differs from the kernel that the units suggest.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// Exported symbols: name, owner, namespace.
    pub exports: Vec<(&'static str, &'static str, &'static str)>,
    /// Units linked before those of the case, with a static function each.
    pub before: Vec<(&'static str, &'static str)>,
    /// Sizes of symbols that differ from the objects'.
    pub sizes: BTreeMap<&'static str, u64>,
    /// Functions without a record of the tracer.
    pub untraced: BTreeSet<&'static str>,
    /// Functions with code behind them that the tracer has a record of and whose symbol the link dropped.
    pub nameless_behind: BTreeSet<&'static str>,
    /// Names that the image has besides what the units use.
    pub also: BTreeSet<&'static str>,
    /// Names that the image does not have.
    pub absent: BTreeSet<&'static str>,
    /// Names among those the units use that lie in memory which is freed after boot.
    pub init: BTreeSet<&'static str>,
    /// Sections that the image has besides those made here.
    pub sections: Vec<&'static str>,
    /// Whether indirect calls want a landing pad. Then every function has one, but for these two kinds.
    pub ibt: bool,
    /// Functions whose landing pad the kernel removes at boot.
    pub sealed: BTreeSet<&'static str>,
    /// Functions without a landing pad.
    pub unpadded: BTreeSet<&'static str>,
    /// Hashes in front of functions.
    pub hashes: BTreeMap<&'static str, u32>,
    /// Modules that are not there.
    pub no_modules: bool,
}

/// The files of a kernel.
pub struct KernelFiles {
    pub vmlinux: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    orders: BTreeMap<ObjectName, Vec<(String, String)>>,
    pub symvers: String,
}

impl KernelFiles {
    /// The file of a module.
    pub fn module(&self, name: &ObjectName) -> &[u8] {
        &self.modules[name]
    }

    pub fn target(&self) -> Target<'_> {
        let order = |name: &ObjectName| self.orders.get(name).map_or(&[][..], Vec::as_slice);
        let read = |name: &ObjectName, bytes| Image::read(name.clone(), bytes, order(name)).expect("made here");
        let vmlinux = ObjectName::vmlinux();
        let modules = self.modules.iter();
        Target {
            vmlinux: read(&vmlinux, &self.vmlinux),
            modules: modules.map(|(name, bytes)| (name.clone(), read(name, bytes))).collect(),
            exports: Exports::parse(&self.symvers).expect("made here"),
            partial: false,
        }
    }
}

/// A defined symbol of a unit.
struct Defined {
    name: String,
    bind: u8,
    kind: u8,
    size: u64,
    init: bool,
    traced: bool,
    nameless_behind: bool,
}

impl Kernel {
    /// The kernel for some units.
    pub fn files(&self, pairs: &[Pair]) -> KernelFiles {
        let vmlinux = ObjectName::vmlinux();
        let parents: BTreeSet<&ObjectName> = pairs.iter().map(|pair| &pair.parent).collect();
        let mut modules = BTreeMap::new();
        let mut orders = BTreeMap::new();
        for parent in parents.into_iter().chain([&vmlinux]) {
            let (file, order) = self.image(parent, pairs);
            orders.insert(parent.clone(), order);
            if !parent.is_vmlinux() && !self.no_modules {
                modules.insert(parent.clone(), file.write());
            }
        }
        let (mut file, _) = self.image(&vmlinux, pairs);
        file.sections.extend(self.sections.iter().map(|name| empty(name)));
        let rows = [("__fentry__", "vmlinux", ""), ("_mcount", "vmlinux", "")];
        let rows = rows.iter().chain(&self.exports);
        let rows = rows.map(|(name, owner, space)| format!("0x1\t{name}\t{owner}\tEXPORT_SYMBOL\t{space}\n"));
        KernelFiles {
            vmlinux: linked(file.write(), self.ibt),
            modules,
            orders,
            symvers: rows.collect(),
        }
    }

    fn image(&self, parent: &ObjectName, pairs: &[Pair]) -> (File, Vec<(String, String)>) {
        let machine = pairs
            .first()
            .map_or(elf::EM_X86_64.0, |pair| pair.patched.file().e_machine);
        let mut maker = Maker::new(self, parent.is_vmlinux(), machine);
        let mut order = Vec::new();
        if parent.is_vmlinux() {
            for (unit, name) in &self.before {
                order.push(((*unit).to_owned(), source(unit)));
                maker.file(&source(unit));
                maker.add(&extra(name, elf::STB_LOCAL.0), true);
            }
        }
        let mut late = Vec::new();
        for pair in pairs.iter().filter(|pair| pair.parent == *parent) {
            let Some(orig) = pair.shipped.as_ref().or(pair.orig.as_ref()) else {
                continue;
            };
            order.push((pair.name.clone(), source(&pair.name)));
            maker.file(&source(&pair.name));
            let defined = defined(&orig.file()).into_iter();
            let defined = defined.filter(|symbol| !self.absent.contains(symbol.name.as_str()));
            for symbol in defined.map(|symbol| self.adjusted(symbol)) {
                match symbol.bind == elf::STB_LOCAL.0 {
                    true => maker.add(&symbol, true),
                    false => late.push(symbol),
                }
            }
        }
        if parent.is_vmlinux() {
            late.extend(
                elsewhere(pairs)
                    .iter()
                    .map(String::as_str)
                    .filter(|name| !self.absent.contains(name))
                    .chain(self.also.iter().copied())
                    .map(|name| Defined {
                        init: self.init.contains(name),
                        ..extra(name, elf::STB_GLOBAL.0)
                    }),
            );
        }
        // The linker keeps a weak definition only if there is no other.
        let strong = late.iter().filter(|symbol| symbol.bind == elf::STB_GLOBAL.0);
        let strong: BTreeSet<String> = strong.map(|symbol| symbol.name.clone()).collect();
        late.retain(|symbol| symbol.bind != elf::STB_WEAK.0 || !strong.contains(&symbol.name));
        // Hidden globals become local when the image is linked, and stand behind the last unit's symbols.
        let hidden = |symbol: &Defined| names::split_promoted(&symbol.name).1.is_some();
        late.iter()
            .filter(|symbol| hidden(symbol))
            .for_each(|symbol| maker.add_demoted(symbol));
        late.iter()
            .filter(|symbol| !hidden(symbol))
            .for_each(|symbol| maker.add(symbol, false));
        (maker.finish(), order)
    }

    fn adjusted(&self, mut symbol: Defined) -> Defined {
        symbol.size = self.sizes.get(symbol.name.as_str()).copied().unwrap_or(symbol.size);
        symbol.traced &= !self.untraced.contains(symbol.name.as_str());
        symbol.nameless_behind = self.nameless_behind.contains(symbol.name.as_str());
        symbol
    }
}

/// Puts an image together; the sections are text, the tracer's table, and what is freed after boot.
struct Maker<'k> {
    kernel: &'k Kernel,
    vmlinux: bool,
    file: File,
    sites: Vec<u64>,
    pads: Vec<u64>,
    seals: Vec<u64>,
    hashes: Vec<(u64, u32)>,
    next: u64,
}

impl Maker<'_> {
    fn new(kernel: &Kernel, vmlinux: bool, e_machine: u16) -> Maker<'_> {
        let file = File {
            e_machine,
            e_flags: if e_machine == elf::EM_PPC64.0 { 2 } else { 0 },
            sections: [".text", "__mcount_loc", ".init.text"].map(empty).to_vec(),
            ..File::default()
        };
        let room = if kernel.hashes.is_empty() { 0 } else { 16 };
        Maker {
            kernel,
            vmlinux,
            file,
            sites: Vec::new(),
            pads: Vec::new(),
            seals: Vec::new(),
            hashes: Vec::new(),
            next: room + if vmlinux { BASE } else { 0 },
        }
    }

    fn file(&mut self, source: &str) {
        let place = Place::Reserved(elf::SHN_ABS.0);
        let symbol = Symbol::new(source, place, elf::STB_LOCAL.0, elf::STT_FILE.0);
        self.file.symbols.push(symbol);
    }

    fn add(&mut self, symbol: &Defined, local: bool) {
        let section = if symbol.init { 2 } else { 0 };
        let bind = if local { elf::STB_LOCAL.0 } else { symbol.bind };
        let mut made = Symbol::new(&symbol.name, Place::Section(section), bind, symbol.kind);
        (made.st_value, made.st_size) = (self.next, symbol.size);
        if symbol.traced {
            self.sites.push(self.next + 4);
        }
        let name = symbol.name.as_str();
        if self.kernel.ibt && !self.kernel.unpadded.contains(name) {
            self.pads.push(self.next);
        }
        if self.kernel.sealed.contains(name) {
            self.seals.push(self.next);
        }
        if let Some(hash) = self.kernel.hashes.get(name) {
            let prefix = format!("__cfi_{name}");
            let mut prefix = Symbol::new(&prefix, Place::Section(section), bind, elf::STT_FUNC.0);
            prefix.st_value = self.next - 16;
            self.file.symbols.push(prefix);
            self.hashes.push((self.next - 16, *hash));
        }
        self.next += symbol.size.next_multiple_of(16) + 16;
        if symbol.nameless_behind {
            self.sites.push(self.next + 4);
            self.next += 32;
        }
        self.file.symbols.push(made);
    }

    fn add_demoted(&mut self, symbol: &Defined) {
        self.add(symbol, true);
        let made = self.file.symbols.last_mut().expect("one was just added");
        made.st_other = elf::STV_HIDDEN.0;
    }

    /// Code that is nothing but landing pads and hashes, and the list of the pads that go at boot.
    fn landings(&mut self) {
        let start = if self.vmlinux { BASE } else { 0 };
        let mut code = vec![0x90; (self.next - start) as usize + 64];
        let mut put = |at: u64, bytes: &[u8]| {
            let from = (at - start) as usize;
            code[from..from + bytes.len()].copy_from_slice(bytes);
        };
        self.pads.iter().for_each(|at| put(*at, &[0xf3, 0x0f, 0x1e, 0xfa]));
        for (at, hash) in &self.hashes {
            put(*at, &[&[0xb8][..], &hash.to_le_bytes()].concat());
        }
        let text = &mut self.file.sections[0];
        (text.size, text.data) = (code.len() as u64, code);
        let mut list = empty(".ibt_endbr_seal");
        list.size = 4 * self.seals.len() as u64;
        if self.vmlinux {
            let places = self.seals.iter().enumerate();
            let distance = |(index, seal): (usize, &u64)| *seal as i64 - (list_address() + 4 * index as u64) as i64;
            list.data = places
                .map(distance)
                .flat_map(|distance| (distance as i32).to_le_bytes())
                .collect();
        } else {
            list.data = vec![0; list.size as usize];
            let rows = self.seals.iter().enumerate().map(|(index, seal)| Rela {
                r_offset: 4 * index as u64,
                symbol: Some(0),
                r_type: elf::R_X86_64_PC32.0,
                r_addend: *seal as i64,
            });
            list.relas.push(RelaSection {
                name: ".rela.ibt_endbr_seal".into(),
                sh_flags: 0,
                rows: rows.collect(),
            });
        }
        self.file.sections.push(list);
    }

    fn finish(mut self) -> File {
        if self.kernel.ibt {
            self.landings();
        }
        let table = &mut self.file.sections[1];
        table.size = 8 * self.sites.len() as u64;
        if self.vmlinux {
            table.data = self.sites.iter().flat_map(|site| site.to_le_bytes()).collect();
            let end = table.size;
            for (name, value) in [("__start_mcount_loc", 0), ("__stop_mcount_loc", end)] {
                let mut symbol = Symbol::new(name, Place::Section(1), elf::STB_GLOBAL.0, elf::STT_NOTYPE.0);
                symbol.st_value = table_address() + value;
                self.file.symbols.push(symbol);
            }
            return self.file;
        }
        table.data = vec![0; table.size as usize];
        let section = Symbol::new("", Place::Section(0), elf::STB_LOCAL.0, elf::STT_SECTION.0);
        self.file.symbols.insert(0, section);
        let r_type = match self.file.e_machine == elf::EM_PPC64.0 {
            true => elf::R_PPC64_ADDR64.0,
            false => elf::R_X86_64_64.0,
        };
        let rows = self.sites.iter().enumerate().map(|(index, site)| Rela {
            r_offset: 8 * index as u64,
            symbol: Some(0),
            r_type,
            r_addend: *site as i64,
        });
        let rows = rows.collect();
        self.file.sections[1].relas.push(RelaSection {
            name: ".rela__mcount_loc".into(),
            sh_flags: 0,
            rows,
        });
        self.file
    }
}

/// Where the tracer's table is in memory.
fn table_address() -> u64 {
    BASE + 0x80_0000
}

/// Where the list of removed landing pads is in memory.
fn list_address() -> u64 {
    BASE + 0x90_0000
}

/// Turns a relocatable file into an executable as far as a reader of symbols can tell: the type, and the address of
/// the tracer's table, and of code with landing pads and their list.
fn linked(mut bytes: Vec<u8>, ibt: bool) -> Vec<u8> {
    const E_TYPE: usize = 0x10;
    const E_SHOFF: usize = 0x28;
    const SH_ADDR: usize = 0x10;
    const SH_SIZE: usize = 0x40;
    bytes[E_TYPE..E_TYPE + 2].copy_from_slice(&elf::ET_EXEC.0.to_le_bytes());
    let headers = u64::from_le_bytes(bytes[E_SHOFF..E_SHOFF + 8].try_into().expect("eight bytes")) as usize;
    let mut address = |index: usize, address: u64| {
        let at = headers + index * SH_SIZE + SH_ADDR;
        bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
    };
    address(2, table_address());
    if ibt {
        address(1, BASE);
        address(4, list_address());
    }
    bytes
}

/// `fs/a.o` to `a.c`.
fn source(unit: &str) -> String {
    let name = unit.rsplit('/').next().expect("split gives at least one part");
    name.replace(".o", ".c")
}

fn empty(name: &str) -> Section {
    Section {
        name: name.to_owned(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0,
        sh_addralign: 8,
        ..Section::default()
    }
}

fn extra(name: &str, bind: u8) -> Defined {
    Defined {
        name: name.to_owned(),
        bind,
        kind: elf::STT_FUNC.0,
        size: 16,
        init: false,
        traced: false,
        nameless_behind: false,
    }
}

fn defined(file: &File) -> Vec<Defined> {
    let tracer = |symbol: &Symbol| ["__fentry__", "_mcount"].contains(&symbol.name.as_str());
    let fentry = file.symbols.iter().position(tracer);
    let mut all = Vec::new();
    for symbol in file.symbols.iter().filter(|symbol| !symbol.is_section()) {
        let index = match symbol.place {
            Place::Section(index) => index,
            // The linker finds a place for it.
            Place::Reserved(index) if index == elf::SHN_COMMON.0 => {
                let (bind, size) = (symbol.st_info >> 4, symbol.st_size);
                all.push(Defined {
                    kind: elf::STT_OBJECT.0,
                    size,
                    ..extra(&symbol.name, bind)
                });
                continue;
            }
            Place::Reserved(_) => continue,
        };
        let section = &file.sections[index];
        let near = symbol.st_value..symbol.st_value + symbol.st_size.min(20);
        let entry = |row: &&Rela| row.symbol == fentry && near.contains(&row.r_offset);
        let mut rows = section.relas.iter().flat_map(|rela| &rela.rows);
        all.push(Defined {
            name: symbol.name.clone(),
            bind: symbol.st_info >> 4,
            kind: symbol.st_info & 0xf,
            size: symbol.st_size,
            init: section.name.starts_with(".init"),
            traced: fentry.is_some() && rows.any(|row| entry(&row)),
            nameless_behind: false,
        });
    }
    all
}

/// Names that some side uses and no original unit defines.
fn elsewhere(pairs: &[Pair]) -> BTreeSet<String> {
    let (mut used, mut own) = (BTreeSet::new(), BTreeSet::new());
    for file in pairs
        .iter()
        .flat_map(|pair| pair.orig.iter().chain([&pair.patched]))
        .map(|unit| unit.file())
    {
        for symbol in file.symbols {
            match symbol.place {
                Place::Reserved(index) if index == elf::SHN_UNDEF.0 => used.insert(symbol.name),
                _ => own.insert(symbol.name),
            };
        }
    }
    used.difference(&own).cloned().collect()
}
