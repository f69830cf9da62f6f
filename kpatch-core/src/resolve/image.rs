//! The symbols of a running kernel or module as livepatch looks them up.
//!
//! * kernel/livepatch/core.c, `klp_find_object_symbol` (6.1 to 7.3): sympos 0 wants exactly one symbol of the name,
//!   sympos n takes the n-th; binding and type do not matter.
//! * vmlinux: kallsyms order ([`super::lookup`] has what it compares of a name), that is by address (scripts/kallsyms.c, `compare_symbols`); symbols that
//!   scripts/mksysmap filters out do not count.
//! * modules: symbol table order (kernel/module/kallsyms.c, `module_kallsyms_on_each_symbol`), undefined symbols
//!   skipped. While a module is being loaded its init symbols count too, later they do not.
//!
//! With ThinLTO hidden globals are local in the final image, so binding tells nothing about what a symbol is in C.
//! What does is the STT_FILE symbols, whose groups follow link order, and the visibility, which a demoted global keeps.

use std::collections::{BTreeSet, HashMap};

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, Sym as _};
use object::{Endianness, SectionIndex};

use super::landings::{self, Flaw, Landings};
use super::lookup::Lookup;
use super::sites::{self, Hook, Place, Sites};
use crate::arch::{self, TracingFacts};
use crate::error::{Error, Subject};
use crate::group::{ObjectName, Unit};
use crate::ids::{Atom, Id, Orig};
use crate::names;

pub use crate::codes::resolve::{BAD_IMAGE, LINK_ORDER};
/// Position of a symbol among those of its name; 0: it is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct SymPos(pub u32);

/// A symbol of an image.
#[derive(Debug, Clone, Copy)]
pub struct ImageSymbol<'d> {
    /// Name as in the symbol table of the image.
    pub name: &'d str,
    /// `st_value`: an address in vmlinux, an offset in a section of a module.
    pub value: u64,
    /// `st_size`: size in bytes; 0 if it is not known.
    pub size: u64,
    /// Whether it lies in memory that is freed after boot or after the module's init.
    pub init: bool,
    /// Number of its section.
    pub section: usize,
    /// Whether other units can mean it: its binding is global, or was before the link hid it.
    global: bool,
    /// `STB_*` as it stands in the image.
    raw_bind: u8,
    kind: u8,
    group: Option<usize>,
}

impl ImageSymbol<'_> {
    /// `STB_*`, with hidden symbols as what they were before the link.
    pub fn bind(&self) -> u8 {
        if self.global {
            elf::STB_GLOBAL.0
        } else {
            elf::STB_LOCAL.0
        }
    }

    /// Whether it is a definition that takes the place of weak ones (gABI, "Symbol Binding"). What the link hid is
    /// local in the image, strong or weak.
    pub fn is_strong(&self) -> bool {
        self.raw_bind == elf::STB_GLOBAL.0
    }

    /// The type in `st_info` (STT_*).
    pub fn kind(&self) -> u8 {
        self.kind
    }
}

/// Index of a symbol in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageId(usize);

/// The kernel image or a module, as it runs.
pub struct Image<'d> {
    /// What the kernel calls it.
    pub name: ObjectName,
    symbols: Vec<ImageSymbol<'d>>,
    /// By name, in the order in which the kernel counts. Looked up only.
    pub(super) by_name: HashMap<&'d str, Vec<ImageId>>,
    /// The same by what livepatch compares of the names, if that is less.
    pub(super) by_cut_name: Option<(Lookup, HashMap<&'d str, Vec<ImageId>>)>,
    files: Vec<&'d str>,
    /// Where functions can be hooked. `None`: not known.
    sites: Option<Sites>,
    /// What indirect calls may lead to. `None`: not known.
    landings: Option<Landings<'d>>,
    /// For each unit, the FILE group of each of its FILE blocks.
    units: HashMap<String, Vec<Option<usize>>>,
    /// For each unit that was found without FILE symbols, what its names mean. Looked up only.
    located: HashMap<String, HashMap<String, ImageId>>,
    /// Names of the sections.
    sections: BTreeSet<&'d [u8]>,
    /// `e_machine`, where the file was at hand.
    machine: Option<elf::Machine>,
}

/// The objects of a link that have an STT_FILE symbol, in link order: (unit, source file name).
pub type LinkOrder = [(String, String)];

type Header = FileHeader64<Endianness>;

impl<'d> Image<'d> {
    /// Reads an image.
    ///
    /// # Errors
    /// [`BAD_IMAGE`]; [`LINK_ORDER`] if the FILE symbols do not fit `order`.
    pub fn read(name: ObjectName, bytes: &'d [u8], order: &LinkOrder) -> Result<Self, Error> {
        let mut image = parse(name.clone(), bytes).map_err(|why| {
            Error::new(
                BAD_IMAGE,
                Subject::file(name.as_str()),
                format!("cannot be read as a kernel image: {why}"),
            )
        })?;
        image.align(order)?;
        Ok(image)
    }

    /// Reads only the symbols of an ELF file: as from a listing, sizes prove nothing and ftrace sites are not known.
    ///
    /// # Errors
    /// [`BAD_IMAGE`].
    pub fn from_symbols(name: ObjectName, bytes: &'d [u8]) -> Result<Self, Error> {
        let mut image = Image::read(name, bytes, &[])?;
        image.sites = None;
        Ok(image)
    }

    /// Matches the FILE symbols with the objects of the link: the first of them start the list, in order. Behind them
    /// come those of files that the build adds at the end.
    fn align(&mut self, order: &LinkOrder) -> Result<(), Error> {
        let fits =
            order.len() <= self.files.len() && order.iter().zip(&self.files).all(|((_, file), seen)| file == seen);
        if !fits {
            let first = order.iter().zip(&self.files).position(|((_, file), seen)| file != seen);
            let why = match first {
                Some(index) => format!(
                    "FILE symbol {} is {} and not {}",
                    index, self.files[index], order[index].1
                ),
                None => format!("{} FILE symbols for {} objects", self.files.len(), order.len()),
            };
            return Err(Error::new(LINK_ORDER, Subject::file(self.name.as_str()), why));
        }
        self.units = order
            .iter()
            .enumerate()
            .map(|(index, (unit, _))| (unit.clone(), vec![Some(index)]))
            .collect();
        Ok(())
    }

    /// The row of a symbol of this image.
    pub fn symbol(&self, id: ImageId) -> &ImageSymbol<'d> {
        &self.symbols[id.0]
    }

    pub(super) fn named(&self, name: &str) -> &[ImageId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The static symbol of a name in one FILE block of a unit.
    pub fn local(&self, unit: &str, block: Option<usize>, name: &str) -> Option<ImageId> {
        if let Some(own) = self.located.get(unit) {
            return own.get(name).copied();
        }
        let group = (*self.units.get(unit)?.get(block.unwrap_or(0))?)?;
        let own = self.named(name).iter().copied();
        // Demoted globals stand in the last group as well.
        own.filter(|id| self.symbols[id.0].group == Some(group) && !self.symbols[id.0].global)
            .min()
    }

    /// The symbols that a reference from another unit can mean: not static to a unit.
    pub fn global(&self, name: &str) -> Vec<ImageId> {
        let reachable = |id: &&ImageId| self.symbols[id.0].global;
        self.named(name).iter().filter(reachable).copied().collect()
    }

    /// The kernel's symbol of an atom of the original side.
    pub(crate) fn of_atom(&self, owner: &Unit<'_>, atom: Id<Orig, Atom>) -> Option<ImageId> {
        let id = owner.orig.atoms[atom].symbol?;
        let symbol = &owner.orig.symbols[id];
        if symbol.is_local() {
            return self.local(&owner.name, owner.orig.block_of(id), symbol.name);
        }
        match self.global(symbol.name)[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// How livepatch must name a symbol, beside its [`Image::lookup_name`]: its position among those of that name.
    /// `None` if the position differs between a module that is being loaded and one that runs.
    pub fn sympos(&self, id: ImageId) -> Option<SymPos> {
        let all = self.found(self.lookup_name(id));
        let position = |live: bool| {
            let mut counted = all.iter().filter(|id| !live || !self.symbols[id.0].init);
            counted.position(|other| *other == id).map(|index| index as u32 + 1)
        };
        if all.len() == 1 {
            return Some(SymPos(0));
        }
        let coming = position(false)?;
        let settled = self.name.is_vmlinux() || position(true) == Some(coming);
        settled.then_some(SymPos(coming))
    }

    /// How many symbols have a name.
    pub fn count(&self, name: &str) -> usize {
        self.named(name).len()
    }

    /// Whether the image has a section.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.contains(name.as_bytes())
    }

    /// `e_machine`; `None` for a listing.
    pub fn machine(&self) -> Option<elf::Machine> {
        self.machine
    }

    /// How the tracer can hook a function.
    pub fn hook(&self, id: ImageId) -> Hook {
        let symbol = self.symbol(id);
        let hook = |sites: &Sites| sites.hook(self.place(symbol), symbol.size);
        self.sites.as_ref().map_or(Hook::Own, hook)
    }

    /// Whether an indirect call of a function is checked, in this image by itself: by a landing pad, and by a hash.
    pub(super) fn checks(&self) -> landings::Checks {
        self.landings.as_ref().map(Landings::checks).unwrap_or_default()
    }

    /// Why a function must not be called through a pointer, in a kernel with these checks; `hash` is the one that the
    /// caller expects. Symbols that are no functions are not judged: kernel code takes the addresses of labels for other
    /// purposes, such as return addresses.
    pub(super) fn flaw(&self, id: ImageId, checks: landings::Checks, hash: Option<u32>) -> Option<Flaw> {
        let symbol = self.symbol(id);
        if symbol.kind != elf::STT_FUNC.0 {
            return None;
        }
        let landings = self.landings.as_ref()?;
        let prefix = landings.prefix_of(symbol.name);
        let prefix = prefix.iter().flat_map(|name| self.named(name));
        let near = prefix
            .map(|id| self.symbol(*id))
            .filter(|prefix| prefix.section == symbol.section && landings::is_before(prefix.value, symbol.value));
        let entry = landings::Entry {
            place: (symbol.section, symbol.value),
            listed: self.place(symbol),
            prefix: near.map(|prefix| prefix.value).next(),
        };
        landings.flaw(&entry, checks, hash)
    }

    /// Where a symbol is, among the places of the tracer.
    fn place(&self, symbol: &ImageSymbol<'_>) -> Place {
        let section = if self.name.is_vmlinux() { 0 } else { symbol.section };
        (section, symbol.value)
    }

    /// Reads where functions can be hooked.
    fn read_sites(&self, bytes: &[u8]) -> object::read::Result<Sites> {
        let bound = |name: &str| self.named(name).first().map(|id| self.symbol(*id));
        let places = if !self.name.is_vmlinux() {
            sites::of_module(bytes)?
        } else if let (Some(start), Some(stop)) = (bound("__start_mcount_loc"), bound("__stop_mcount_loc")) {
            sites::of_vmlinux(bytes, start.section, start.value..stop.value)?
        } else {
            Vec::new()
        };
        // The tracer's search ends at the next symbol that the kernel counts.
        let counted = self.by_name.values().flatten();
        let starts = counted.map(|id| self.place(self.symbol(*id))).collect();
        Ok(Sites::new(places, starts, self.tracing()))
    }

    fn tracing(&self) -> Option<&'static TracingFacts> {
        let arch = arch::for_machine(self.machine?)?;
        Some(&arch.facts().tracing)
    }

    /// Whether the compiler has put landing pads at the entries. Only code that the compiler made has places of the tracer.
    fn has_pads(&self, landings: &Landings<'_>) -> bool {
        let mut functions = self.symbols.iter().filter(|symbol| symbol.kind == elf::STT_FUNC.0);
        functions.any(|symbol| {
            let traced = |sites: &Sites| sites.hook(self.place(symbol), symbol.size) == Hook::Own;
            landings.has_pad(symbol.section, symbol.value) && self.sites.as_ref().is_some_and(traced)
        })
    }

    /// Whether sizes and sites of this very image are known. A listing of symbols may come from a kernel that another
    /// command line compiled.
    pub fn is_exact(&self) -> bool {
        self.sites.is_some()
    }
}

/// Names and types of static functions and variables.
pub(super) type Statics<'a> = BTreeSet<(&'a str, u8)>;

/// One row of a symbol table.
pub(super) struct Row<'d> {
    pub name: &'d str,
    pub value: u64,
    pub size: u64,
    pub init: bool,
    pub section: usize,
    pub bind: elf::SymbolBind,
    pub kind: elf::SymbolType,
    pub shndx: elf::SymbolSection,
    pub hidden: bool,
}

impl<'d> Image<'d> {
    /// An image of which nothing is known.
    pub fn empty(name: ObjectName) -> Self {
        Image {
            name,
            symbols: Vec::new(),
            by_name: HashMap::new(),
            by_cut_name: None,
            files: Vec::new(),
            sites: None,
            landings: None,
            units: HashMap::new(),
            located: HashMap::new(),
            sections: BTreeSet::new(),
            machine: None,
        }
    }

    /// Adds the next row of the symbol table.
    pub(super) fn add(&mut self, row: Row<'d>) {
        if row.kind == elf::STT_FILE {
            self.files.push(row.name);
        }
        let id = ImageId(self.symbols.len());
        let local = row.bind == elf::STB_LOCAL;
        self.symbols.push(ImageSymbol {
            name: row.name,
            value: row.value,
            size: row.size,
            init: row.init,
            section: row.section,
            // gABI, "Symbol Visibility": a hidden symbol becomes local when the image is linked. Its visibility stays.
            global: !local || row.hidden,
            raw_bind: row.bind.0,
            kind: names::type_in_code(row.name, row.kind.0, row.size),
            group: local.then(|| self.files.len().checked_sub(1)).flatten(),
        });
        let absent = row.shndx == elf::SHN_UNDEF || row.name.is_empty();
        let counted = if self.name.is_vmlinux() {
            let plain = row.shndx != elf::SHN_ABS && row.kind != elf::STT_FILE && row.kind != elf::STT_SECTION;
            !absent && plain && in_kallsyms(row.name)
        } else {
            !absent
        };
        if counted {
            self.by_name.entry(row.name).or_default().push(id);
        }
    }

    /// The symbol of a name whose value and section are the wanted ones.
    pub(super) fn at(&self, name: &str, is_it: impl Fn(u64, usize) -> bool) -> Option<ImageId> {
        let all = self.named(name).iter().copied();
        all.into_iter()
            .find(|id| is_it(self.symbol(*id).value, self.symbol(*id).section))
    }

    /// Adds a size that the image does not tell.
    pub(super) fn set_size(&mut self, id: ImageId, size: u64) {
        self.symbols[id.0].size = size;
    }

    /// Records what the names of a unit mean.
    pub(super) fn set_located(&mut self, unit: &str, own: HashMap<String, ImageId>) {
        self.located.insert(unit.to_owned(), own);
    }

    /// Adds what is known beside the symbols.
    pub(super) fn complete(
        &mut self,
        machine: elf::Machine,
        sections: BTreeSet<&'d [u8]>,
        places: Vec<Place>,
        landings: Option<Landings<'d>>,
    ) {
        let starts = self
            .by_name
            .values()
            .flatten()
            .map(|id| self.place(self.symbol(*id)))
            .collect();
        self.machine = Some(machine);
        self.sections = sections;
        self.sites = Some(Sites::new(places, starts, self.tracing()));
        self.landings = landings;
    }

    /// Whether there is no symbol.
    pub(super) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The FILE groups with their static functions and variables.
    pub(super) fn groups(&self) -> Vec<(&'d str, Statics<'d>)> {
        let mut all: Vec<(&str, Statics<'_>)> = self.files.iter().map(|name| (*name, Statics::new())).collect();
        for symbol in &self.symbols {
            let counts = symbol.kind == elf::STT_FUNC.0 || symbol.kind == elf::STT_OBJECT.0;
            if counts
                && !symbol.global
                && let Some(group) = symbol.group
            {
                all[group].1.insert((symbol.name, symbol.kind));
            }
        }
        all
    }

    /// Records the FILE groups of a unit's blocks.
    pub(super) fn set_blocks(&mut self, unit: &str, groups: Vec<Option<usize>>) {
        self.units.insert(unit.to_owned(), groups);
    }

    /// Puts the symbols of each name into the order in which the kernel counts them.
    pub(super) fn sort(&mut self) {
        let mut by_name = std::mem::take(&mut self.by_name);
        if self.name.is_vmlinux() {
            by_name.values_mut().for_each(|ids| self.in_order(ids));
        }
        self.by_name = by_name;
    }

    /// Puts symbols of the image into the order of kallsyms.
    pub(super) fn in_order(&self, ids: &mut [ImageId]) {
        ids.sort_by_key(|id| (self.symbols[id.0].value, id.0));
    }
}

fn parse<'d>(name: ObjectName, bytes: &'d [u8]) -> Result<Image<'d>, String> {
    let text = |error: object::read::Error| error.to_string();
    let header = Header::parse(bytes).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let sections = header.sections(endian, bytes).map_err(text)?;
    let symtab = sections.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(text)?;
    if symtab.is_empty() {
        return Err("it has no symbol table".into());
    }
    // arch/x86/kernel/vmlinux.lds.S and its like (6.12): what the image has of exit code goes with its boot code.
    let whole = name.is_vmlinux();
    let init: Vec<bool> = sections
        .iter()
        .map(|section| {
            sections
                .section_name(endian, section)
                .is_ok_and(|name| name.starts_with(b".init") || (whole && name.starts_with(b".exit")))
        })
        .collect();
    let mut image = Image::empty(name);
    image.machine = Some(header.e_machine(endian));
    for section in sections.iter() {
        image
            .sections
            .insert(sections.section_name(endian, section).map_err(text)?);
    }
    let starts: Vec<u64> = sections.iter().map(|section| section.sh_addr.get(endian)).collect();
    for (index, symbol) in symtab.enumerate() {
        let name = std::str::from_utf8(symtab.symbol_name(endian, symbol).map_err(text)?).unwrap_or("");
        let section = symtab
            .symbol_section(endian, symbol, index)
            .map_err(text)?
            .unwrap_or(SectionIndex(0))
            .0;
        image.add(Row {
            name,
            value: symbol.st_value(endian),
            size: symbol.st_size(endian),
            init: init.get(section).copied().unwrap_or(false) && !ends_before(symbol, starts[section], endian),
            section,
            bind: symbol.st_bind(),
            kind: symbol.st_type(),
            shndx: symbol.st_shndx(endian),
            hidden: symbol.st_visibility() == elf::STV_HIDDEN,
        });
    }
    image.sort();
    image.sites = Some(image.read_sites(bytes).map_err(text)?);
    let prefixed = |start: &str| image.by_name.keys().any(|name| name.starts_with(start));
    let landings = Landings::read(whole, bytes, &prefixed).map_err(text)?;
    image.landings = landings.map(|found| {
        let pads = found.are_unlisted() && image.has_pads(&found);
        found.with_pads(pads)
    });
    Ok(image)
}

/// A linker script's mark for the end of what lies in front of a section, like `__end_rodata`: it names an address, and
/// the link counts it to the section that begins there.
fn ends_before(symbol: &elf::Sym64<Endianness>, start: u64, endian: Endianness) -> bool {
    let mark = symbol.st_type() == elf::STT_NOTYPE && symbol.st_size(endian) == 0;
    mark && start != 0 && symbol.st_value(endian) == start
}

/// Whether kallsyms lists the name: scripts/mksysmap, `is_ignored_symbol` (6.12).
fn in_kallsyms(name: &str) -> bool {
    let prefixes = [
        "$",
        ".L",
        "__efistub_",
        "__kvm_nvhe_$",
        "__pi_$",
        "__crc_",
        "__kstrtab_",
        "__kstrtabns_",
        "__kcfi_typeid_",
    ];
    // scripts/kallsyms.c (6.1) and scripts/mksysmap (6.12): stubs that the linker makes on powerpc.
    let inner = [".long_branch.", ".plt_branch."];
    !prefixes.iter().any(|prefix| name.starts_with(prefix)) && !inner.iter().any(|part| name.contains(part))
}
