//! The differ: compares original and patched objects and makes the objects of a livepatch.
//!
//! ```text
//!  Input: bytes of a TU, original and patched           Input                           group.rs
//!    │ read       sections cut into atoms               Object<Orig>, Object<Patched>   read/
//!    │ correlate  which atom is whose twin              Pairing                         correlate/
//!    │ compare    same, changed (how), new              Verdict for each atom           compare/
//!    │ select     what comes along, why; what cannot    Selection                       select/
//!    │ resolve    each reference as the kernel has it   Routes (needs a Target)         resolve/
//!    ▼ emit       ordinary relocatable objects          Patch, Emitted                  emit/
//!  link with kbuild, objtool                            (not in this crate)
//!    │ klp::convert   relocations into .klp.rela.*      Converted                       klp/convert.rs
//!    ▼ klp::check, klp::complete   the kernel's rules   Vec<Refusal>                    klp/
//! ```
//!
//! A phase may use only those before it. What differs between processors is behind [`arch::Arch`].
//!
//! Ways in:
//!
//! - [`build_patch`]: all pairs of a livepatch and the kernel ([`resolve::Target`]) to a [`Patch`]; then the kernel's
//!   own kbuild, [`klp::convert`], [`klp::check`] and [`klp::complete`].
//! - [`intermediate::create`]: one object at a time in kpatch's form, then [`klp::from_records`].
//! - [`changes()`]: the first four phases, without a kernel.
//! - [`layout::Layouts`]: structures and variables from DWARF. [`elf`]: relocatable files as rows.
//!
//! No process, no network, no clock: bytes in, bytes out, the same bytes for the same input and any number of threads.
//! Input is hostile until it has been read: damage is an [`Error`], never a panic, and memory is bounded by the size of
//! the input. A patch that cannot become a livepatch is a list of [`Refusal`]s, each with a stable [`Code`].
//!
//! docs/DESIGN.md has the invariants, docs/decisions the reasons, docs/GLOSSARY.md the words.
//!
//! # Example
//!
//! A function that returned 1 returns 2. Two objects are made here; a compiler makes them elsewhere.
//!
//! ```
//! use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
//! use kpatch_core::{Input, ObjectName, Stop, changes};
//!
//! /// `call __fentry__; mov $value,%eax; ret` under the name `answer`.
//! fn object(value: u8) -> Vec<u8> {
//!     let code = vec![0xe8, 0, 0, 0, 0, 0xb8, value, 0, 0, 0, 0xc3];
//!     let (size, global, function, undefined) = (code.len() as u64, 1, 2, 0);
//!     let to_fentry = Rela { r_offset: 1, symbol: Some(1), r_type: 4, r_addend: -4 }; // R_X86_64_PLT32
//!     let text = Section {
//!         name: ".text.answer".into(),
//!         sh_type: 1,    // SHT_PROGBITS
//!         sh_flags: 0x6, // SHF_ALLOC | SHF_EXECINSTR
//!         sh_addralign: 16,
//!         data: code,
//!         size,
//!         relas: vec![RelaSection { name: ".rela.text.answer".into(), sh_flags: 0, rows: vec![to_fentry] }],
//!         ..Section::default()
//!     };
//!     let mut answer = Symbol::new("answer", Place::Section(0), global, function);
//!     answer.st_size = size;
//!     let fentry = Symbol::new("__fentry__", Place::Reserved(undefined), global, 0);
//!     let machine = 62; // EM_X86_64
//!     File { e_machine: machine, sections: vec![text], symbols: vec![answer, fentry], ..File::default() }.write()
//! }
//!
//! let (orig, patched) = (object(1), object(2));
//! let unit = |patched| Input {
//!     name: "answer.o".into(),
//!     parent: ObjectName::vmlinux(),
//!     orig: Some(&orig),
//!     patched,
//!     shipped: None,
//! };
//! let found = changes(&[unit(&patched)], &mut |_| {})?;
//! assert_eq!(found.functions, [("answer.o".into(), "answer".into())]);
//! assert!(matches!(changes(&[unit(&orig)], &mut |_| {}), Err(Stop::NoChange(_))));
//! # Ok::<(), Stop>(())
//! ```

#![deny(missing_docs)]

pub mod arch;
mod changes;
pub mod codes;
mod compare;
mod correlate;
pub mod elf;
mod emit;
mod error;
mod group;
mod ids;
mod ignored;
pub mod intermediate;
pub mod klp;
pub mod layout;
pub mod located;
mod macros;
pub mod names;
mod read;
mod report;
pub mod resolve;
mod select;
mod set_values;
mod shipped;
mod threads;
mod world;

use std::collections::{BTreeMap, BTreeSet};

pub use changes::{Changes, Phase, changes};
pub use codes::{Blame, Code};
pub use compare::Difference;
pub use emit::Emitted;
pub use error::{Error, Refusal, Stop, Subject};
pub use group::{Input, ObjectName};
pub use ignored::Ignored;
pub use macros::{BAD_MACRO, CALLBACK_TWICE, Callback, Moment, State};
pub use report::{Carried, Element, GivenAway, How, Sleeps, explained};
pub use select::Reason;
pub use set_values::{SetValue, is_setter};
pub use world::{Wanted, World};

use group::Group;
use macros::Callbacks;
use resolve::{KlpSymbol, PatchedFunction, Target};
use select::Finish;

/// A livepatch that has not been linked yet.
#[derive(Debug)]
pub struct Patch {
    /// One object for each unit that has something to say.
    pub objects: Vec<Emitted>,
    /// The functions to redirect.
    pub functions: Vec<PatchedFunction>,
    /// Functions that changed, or call one that did, and that the kernel cannot redirect: the functions above call them.
    pub carried: Vec<Carried>,
    /// Redirected functions in which tasks sleep, so that they hold up the transition.
    pub sleeps: Vec<Sleeps>,
    /// The functions that the kernel calls when objects are patched and unpatched.
    pub callbacks: Vec<Callback>,
    /// What it changes in the system and a livepatch that replaces it must take over.
    pub states: Vec<State>,
    /// Variables that it sets, by the callbacks of [`SETTERS`].
    pub values: Vec<SetValue>,
    /// Undefined symbols that stand for symbols of the kernel.
    pub symbols: BTreeMap<String, KlpSymbol>,
    /// Functions whose address is taken, as the original code does, though no call through a pointer can reach them.
    pub addressed: BTreeSet<String>,
    /// Symbol namespaces that the module must import (`MODULE_IMPORT_NS`).
    pub namespaces: BTreeSet<String>,
    /// Everything that is in, with the reason.
    pub elements: Vec<Element>,
    /// Differences that were left out, with the reason.
    pub ignored: Vec<Ignored>,
    /// What would have been refused, but for its name being among the accepted ones.
    pub accepted: Vec<Refusal>,
}

impl Patch {
    /// Whether a task that the kernel no longer counts may run its code, so that the module must never be removed.
    pub fn is_permanent(&self) -> bool {
        self.accepted.iter().any(|refusal| refusal.code == select::OUTLIVES)
    }
}

/// What is known of a patch and of its author's wishes, beside the objects.
#[derive(Clone, Copy, Default)]
pub struct Author<'a> {
    /// What may be though it would be refused, by name: the author answers for it.
    pub accepted: &'a [String],
    /// The functions in whose bodies all changed lines are, by file and name, so that whatever else changes has one of them
    /// inlined. `None` if lines changed elsewhere, too.
    pub edits: Option<&'a BTreeSet<(String, String)>>,
    /// The kernel image as one object, to find callers in files that the patch does not touch.
    pub world: Option<&'a World<'a>>,
}

impl Author<'_> {
    /// Whether the patch changes the text of one function only.
    pub(crate) fn edits_one_function(&self) -> bool {
        self.edits.is_some_and(|edits| edits.len() == 1)
    }
}

/// The functions of the image that must be among the pairs, too, since they call changed ones that cannot be traced.
///
/// # Errors
/// What reading the pairs reports.
pub fn wanted(inputs: &[Input<'_>], target: &Target<'_>, world: &World<'_>) -> Result<BTreeSet<Wanted>, Error> {
    let group = Group::read(inputs)?;
    let verdicts = compare::group(&group, compare::Lines::Count);
    let author = Author {
        world: Some(world),
        ..Author::default()
    };
    Ok(select::untraced::reach(&group, &verdicts, target, &author).wanted)
}

/// Compares the units and produces the objects of a livepatch for a kernel.
///
/// # Errors
/// [`Stop::NoChange`] if nothing that runs changed, [`Stop::BootOnly`] if boot code did; [`Stop::Refused`] with every
/// reason against it; [`Stop::Failed`] for damaged input.
pub fn build_patch(inputs: &[Input<'_>], target: &Target<'_>, author: &Author<'_>) -> Result<Patch, Stop> {
    let group = Group::read(inputs)?;
    let mut verdicts = compare::group(&group, compare::Lines::Count);
    let marks = group.units.iter().map(macros::read).collect::<Result<Vec<_>, _>>()?;
    let told = group.units.iter().zip(&mut verdicts).zip(&marks);
    let overlooked: Vec<Ignored> = told
        .flat_map(|((unit, verdicts), marks)| marks.apply(unit, verdicts))
        .collect();
    let callbacks = Callbacks::of(&group, &verdicts, &marks)?;
    let states = macros::states(&group, &marks)?;
    let selection = select::elements(&group, &verdicts, target, &callbacks.roots(), author, Finish::Objtool)
        .map_err(|stop| stop.ignoring(&overlooked))?;
    let routes = resolve::references(&group, &selection, target)?;
    let objects = emit::objects(&group, &verdicts, &selection, &routes, &callbacks.handles());
    let elements = report::elements(&group, &selection, &routes);
    let carried = report::carried(&group, &selection);
    let sleeps = report::sleeps(&group, &routes.functions);
    let values = set_values::of(&group, &selection, &routes);
    let mut called = callbacks.table(&group);
    called.extend(set_values::callbacks(&values, &called)?);
    let mut ignored = selection.ignored;
    ignored.extend(routes.ignored);
    ignored.extend(overlooked);
    Ok(Patch {
        objects,
        functions: routes.functions.into_values().collect(),
        carried,
        sleeps,
        callbacks: called,
        states,
        values,
        symbols: routes.symbols,
        addressed: routes.addressed,
        namespaces: routes.namespaces,
        elements,
        ignored,
        accepted: selection.accepted,
    })
}
