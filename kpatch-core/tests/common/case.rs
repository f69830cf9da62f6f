//! One run of `build_patch`, and everything it says as text.
//!
//! Each run is done twice, the second time on one thread, and must give the same bytes. What comes out must satisfy
//! the module loader: relocations lie in their sections, on bytes that are zero.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kpatch_core::arch::{self, Arch};
use kpatch_core::elf::{File, Place, Rela, Section, Symbol};
use kpatch_core::resolve::Target;
use kpatch_core::{Author, Input, ObjectName, Patch, Refusal, Stop, build_patch};
use object::elf;

use super::kernel::Kernel;
use super::unit::Unit;

/// A unit before and after.
#[derive(Debug, Clone)]
pub struct Pair {
    pub name: String,
    pub parent: ObjectName,
    pub orig: Option<Unit>,
    pub patched: Unit,
    /// What the kernel was linked from, if not from `orig`.
    pub shipped: Option<Unit>,
}

/// A unit of the kernel image.
pub fn pair(name: &str, orig: Unit, patched: Unit) -> Pair {
    Pair {
        name: name.to_owned(),
        parent: ObjectName::vmlinux(),
        orig: Some(orig),
        patched,
        shipped: None,
    }
}

impl Pair {
    /// Makes it part of a module.
    pub fn of_module(mut self, name: &str) -> Pair {
        self.parent = ObjectName::module(name);
        self
    }

    /// Makes the kernel be linked from another object than the original of the pair.
    pub fn linked_from(mut self, shipped: Unit) -> Pair {
        self.shipped = Some(shipped);
        self
    }

    /// Makes it a source file that the patch adds.
    pub fn added(mut self) -> Pair {
        self.orig = None;
        self
    }
}

/// Units and the kernel they are from.
#[derive(Debug, Clone)]
pub struct Case {
    pub pairs: Vec<Pair>,
    pub kernel: Kernel,
    accepted: Vec<String>,
    edits: Option<BTreeSet<(String, String)>>,
}

impl Case {
    /// One unit of the kernel image.
    pub fn of(orig: Unit, patched: Unit) -> Case {
        Case::pairs(vec![pair("fs/a.o", orig, patched)])
    }

    /// Several units.
    pub fn pairs(pairs: Vec<Pair>) -> Case {
        Case {
            pairs,
            kernel: Kernel::default(),
            accepted: Vec::new(),
            edits: None,
        }
    }

    /// Accepts that a table of functions changes.
    pub fn accepting(mut self, name: &str) -> Case {
        self.accepted.push(name.to_owned());
        self
    }

    /// As a patch of one function, which others have inlined.
    pub fn of_one_function(self) -> Case {
        self.editing(&["f"])
    }

    /// As a patch of the bodies of these functions, which others have inlined.
    pub fn editing(mut self, names: &[&str]) -> Case {
        self.edits = Some(
            names
                .iter()
                .map(|name| ("fs/a.c".to_owned(), (*name).to_owned()))
                .collect(),
        );
        self
    }

    /// With another kernel than the units suggest.
    pub fn on(mut self, change: impl FnOnce(&mut Kernel)) -> Case {
        change(&mut self.kernel);
        self
    }

    /// Runs it for the result.
    pub fn run(&self) -> Result<Patch, Stop> {
        let files = self.kernel.files(&self.pairs);
        self.run_on(&files.target())
    }

    fn run_on(&self, target: &Target<'_>) -> Result<Patch, Stop> {
        let bytes: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| {
                let built = |unit: &Option<Unit>| unit.as_ref().map(Unit::build);
                (built(&pair.orig), pair.patched.build(), built(&pair.shipped))
            })
            .collect();
        let inputs = self
            .pairs
            .iter()
            .zip(&bytes)
            .map(|(pair, (orig, patched, shipped))| Input {
                name: pair.name.clone(),
                parent: pair.parent.clone(),
                orig: orig.as_deref(),
                patched,
                shipped: shipped.as_deref(),
            });
        let author = Author {
            accepted: &self.accepted,
            edits: self.edits.as_ref(),
            world: None,
        };
        build_patch(&inputs.collect::<Vec<_>>(), target, &author)
    }
}

/// What must become of a case, whatever its snapshot says.
pub enum Verdict {
    /// There is a livepatch.
    Patched,
    /// There is nothing to patch.
    NoChange,
    /// Only boot code changes.
    BootOnly,
    /// There are refusals of exactly these codes, which are in alphabetical order.
    Refused(&'static [&'static str]),
    /// The input is damaged, by its code.
    Failed(&'static str),
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Patched => "patched".to_owned(),
            Verdict::NoChange => "no change".to_owned(),
            Verdict::BootOnly => "boot only".to_owned(),
            Verdict::Refused(codes) => format!("refused {}", codes.join(", ")),
            Verdict::Failed(code) => format!("failed {code}"),
        }
    }
}

fn verdict(result: &Result<Patch, Stop>) -> String {
    match result {
        Ok(_) => "patched".to_owned(),
        Err(Stop::NoChange(_)) => "no change".to_owned(),
        Err(Stop::BootOnly(_)) => "boot only".to_owned(),
        Err(Stop::Refused(refusals)) => {
            let codes: BTreeSet<String> = refusals.iter().map(|refusal| refusal.code.to_string()).collect();
            format!("refused {}", codes.into_iter().collect::<Vec<_>>().join(", "))
        }
        Err(Stop::Failed(error)) => format!("failed {}", error.code),
    }
}

/// Runs a case, compares with the verdict, and says what came out.
pub fn check(case: &Case, expected: &Verdict) -> String {
    let files = case.kernel.files(&case.pairs);
    let target = files.target();
    let result = case.run_on(&target);
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let again = one_thread.expect("one thread").install(|| case.run_on(&target));
    let text = describe(&result);
    assert_eq!(verdict(&result), expected.text(), "another verdict: {text}");
    assert_eq!(text, describe(&again), "the same input gave another output");
    if let (Ok(one), Ok(other)) = (result, again) {
        assert_eq!(one.objects, other.objects, "the same input gave other bytes");
    }
    text
}

/// Compares with the recorded text of a name.
pub fn recorded(name: &str, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn describe(result: &Result<Patch, Stop>) -> String {
    match result {
        Ok(patch) => describe_patch(patch),
        Err(stop @ (Stop::NoChange(_) | Stop::BootOnly(_))) => {
            let (what, ignored) = match stop {
                Stop::NoChange(ignored) => ("no change", ignored),
                Stop::BootOnly(ignored) => ("boot only", ignored),
                _ => unreachable!("one of these two"),
            };
            let left = ignored.iter().map(|one| format!("\nignored {}: {}", one.name, one.why));
            format!("{what}{}", left.collect::<String>())
        }
        Err(Stop::Refused(refusals)) => codes(refusals),
        Err(Stop::Failed(error)) => format!("failed {} {}: {}", error.code, error.at, error.why),
    }
}

/// Refusals without their prose.
pub fn codes(refusals: &[Refusal]) -> String {
    let lines = refusals
        .iter()
        .map(|refusal| format!("refused {} {}", refusal.code, refusal.at));
    lines.collect::<Vec<_>>().join("\n")
}

fn describe_patch(patch: &Patch) -> String {
    let mut text = String::new();
    let out = &mut text;
    for function in &patch.functions {
        let (object, name, pos) = (&function.object, &function.name, function.sympos.0);
        line(out, format!("function {object}:{name},{pos} ({})", function.reason));
    }
    for carried in &patch.carried {
        let (object, name, unit) = (&carried.object, &carried.name, &carried.unit);
        line(out, format!("carried {object}:{name} of {unit} ({})", carried.reason));
    }
    for one in &patch.sleeps {
        let calls: Vec<&str> = one.calls.iter().map(String::as_str).collect();
        let what = if one.thread { "is a thread" } else { "sleeps" };
        let when = if one.new_code_only { " in new code" } else { "" };
        line(
            out,
            format!("{}:{} {what}{when} [{}]", one.object, one.name, calls.join(" ")),
        );
    }
    for callback in &patch.callbacks {
        let (moment, name, object, handle) = (callback.moment, &callback.name, &callback.object, &callback.handle);
        line(out, format!("calls {object}:{name} at {moment} by {handle}"));
    }
    for state in &patch.states {
        line(out, format!("state {} version {}", state.id, state.version));
    }
    for value in &patch.values {
        let (name, symbol, size, from, to) = (&value.name, &value.symbol, value.size, value.from, value.to);
        line(out, format!("sets {name} by {symbol}: {from} -> {to} ({size} bytes)"));
    }
    for element in &patch.elements {
        let refers = element.refers_to.join(" ");
        let takers = match element.address_taken_by.join(" ") {
            takers if takers.is_empty() => takers,
            takers => format!(" address taken by [{takers}]"),
        };
        let (kind, name, section) = (element.kind, &element.name, &element.section);
        let what = format!("{}: {kind} {name} ({section}): {}", element.unit, element.reason);
        line(out, format!("{what} -> [{refers}]{takers}"));
        for one in &element.given_away {
            let to = one.to.as_deref().unwrap_or("-");
            line(out, format!("  given away by {}: {:?} {to}", one.by, one.how));
        }
    }
    for (name, symbol) in &patch.symbols {
        let (gate, owner, pos) = (&symbol.gate, &symbol.owner, symbol.sympos.0);
        line(out, format!("klp {name} = {owner}:{},{pos} gate {gate}", symbol.name));
    }
    for namespace in &patch.namespaces {
        line(out, format!("namespace {namespace}"));
    }
    for ignored in &patch.ignored {
        line(
            out,
            format!("ignored {}: {}: {}", ignored.unit, ignored.name, ignored.why),
        );
    }
    for object in &patch.objects {
        line(out, format!("object {}", object.unit));
        describe_object(
            out,
            &kpatch_core::elf::read(&object.bytes).expect("what was emitted reads back"),
        );
    }
    text
}

fn line(out: &mut String, text: String) {
    writeln!(out, "{text}").expect("a string takes everything");
}

fn describe_object(out: &mut String, file: &File) {
    for section in file.sections.iter().filter(|section| section.size > 0) {
        line(out, format!("  section {} ({:#x})", section.name, section.size));
    }
    for symbol in file.symbols.iter().filter(|symbol| !symbol.is_section()) {
        line(out, format!("  symbol {}", describe_symbol(file, symbol)));
    }
    for section in &file.sections {
        for row in section.relas.iter().flat_map(|rela| &rela.rows) {
            assert_field_is_good(machine(file), section, row);
            line(
                out,
                format!(
                    "  {}+{:#x} {}",
                    section.name,
                    row.r_offset,
                    describe_target(file, section, row)
                ),
            );
        }
    }
}

fn describe_symbol(file: &File, symbol: &Symbol) -> String {
    let bind = match symbol.st_info >> 4 {
        bind if bind == elf::STB_LOCAL.0 => "local",
        bind if bind == elf::STB_GLOBAL.0 => "global",
        _ => "weak",
    };
    match symbol.place {
        Place::Section(index) => format!(
            "{bind} {} = {}+{:#x}",
            symbol.name, file.sections[index].name, symbol.st_value
        ),
        Place::Reserved(index) if index == elf::SHN_ABS.0 => format!("file {}", symbol.name),
        Place::Reserved(_) if bind == "weak" => format!("weak undefined {}", symbol.name),
        Place::Reserved(_) => format!("undefined {}", symbol.name),
    }
}

fn describe_target(file: &File, section: &Section, row: &Rela) -> String {
    let target = match row.symbol.map(|symbol| &file.symbols[symbol]) {
        None => "0".to_owned(),
        Some(symbol) => match symbol.place {
            Place::Section(index) if symbol.is_section() => format!("[{}]", file.sections[index].name),
            _ => symbol.name.clone(),
        },
    };
    let kind = machine(file).facts().relocs.name(row.r_type);
    let kind = kind.trim_start_matches("R_X86_64_").trim_start_matches("R_PPC64_");
    let sign = if row.r_addend < 0 { '-' } else { '+' };
    let text = format!("{kind} {target}{sign}{:#x}", row.r_addend.unsigned_abs());
    // What a string section holds is part of the meaning.
    match row.symbol.map(|symbol| file.symbols[symbol].place) {
        Some(Place::Section(index)) if file.sections[index].name.starts_with(".rodata.str") => {
            let bias = field_distance(machine(file), section, row);
            let from = row.r_addend + bias;
            // What points in front of the first byte is shown with the string that it counts from.
            let rest = &file.sections[index].data[from.max(0) as usize..];
            let string = rest.split(|byte| *byte == 0).next().expect("a first part");
            format!("{text} {:?}", String::from_utf8_lossy(string))
        }
        _ => text,
    }
}

/// How far before its target a string reference points: to the end of the instruction in code, not at all in data.
fn field_distance(arch: &dyn Arch, section: &Section, row: &Rela) -> i64 {
    if section.sh_flags & elf::SHF_EXECINSTR.0 == 0 || row.r_type != elf::R_X86_64_PC32.0 {
        return 0;
    }
    let map = arch.code_map(&section.data, &[row.r_offset]);
    map.fields[0].expect("an instruction has the field").bias.into()
}

fn machine(file: &File) -> &'static dyn Arch {
    arch::for_machine(elf::Machine(file.e_machine)).expect("a supported machine")
}

fn assert_field_is_good(arch: &dyn Arch, section: &Section, row: &Rela) {
    let size = arch
        .facts()
        .relocs
        .kind(row.r_type)
        .expect("only known types are emitted")
        .size();
    let start = row.r_offset as usize;
    let field = section.data.get(start..start + usize::from(size));
    let field = field.unwrap_or_else(|| panic!("{}+{start:#x} lies outside its section", section.name));
    assert!(
        !arch.facts().loader.wants_zero_fields || field.iter().all(|byte| *byte == 0),
        "{}+{start:#x}: the loader refuses bytes that are not zero: {field:x?}",
        section.name
    );
}
