//! Every reference of the livepatch, resolved the way the running kernel resolves it.
//!
//! Three ways lead out of a livepatch: an exported symbol is left to the module loader; anything else is named by
//! object, name and position, and livepatch looks it up; what the livepatch defines itself needs neither.
//!
//! Until the module has been linked and objtool has run, the second kind are ordinary undefined symbols. objtool knows
//! functions that do not return, static call trampolines and others by name, so a symbol keeps its real name there
//! unless that name already means something else in the module; then it gets a link name of its own.

mod blocks;
mod image;
mod landings;
mod links;
mod listing;
mod located;
mod lookup;
mod pointers;
mod reach;
mod sites;
mod symvers;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Stop;
use crate::group::{Group, ObjectName, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::ignored::Ignored;
use crate::select::{KernelNames, Selection};
use crate::world::World;

pub use image::{BAD_IMAGE, Image, ImageId, ImageSymbol, LINK_ORDER, LinkOrder, SymPos};
pub use listing::BAD_LISTING;
pub use lookup::Lookup;
pub use sites::Hook;
pub use symvers::{BAD_SYMVERS, Export, Exports};

pub use crate::codes::resolve::{
    AMBIGUOUS_SYMBOL, BASELINE_MISMATCH, INDIRECT_TARGET, MODULE_STATIC_KEY, MODULE_SYMBOL, NO_FTRACE_RECORD,
    NO_MODULE_POINTER, NO_RESTORE, OVERRIDDEN, SHARED_FTRACE_RECORD, SIBLING_CALL, TOO_FAR, UNKNOWN_MODULE,
    UNKNOWN_SYMBOL, UNSETTLED_POSITION,
};
/// The kernel that the livepatch is for.
pub struct Target<'d> {
    /// The image that boots.
    pub vmlinux: Image<'d>,
    /// The modules that are patched, by name.
    pub modules: BTreeMap<ObjectName, Image<'d>>,
    /// What the image and the modules export.
    pub exports: Exports,
    /// Whether other objects of the same livepatch are compared by other runs: a name that the kernel does not have is
    /// then left to the link instead of refused.
    pub partial: bool,
}

impl KernelNames for Target<'_> {
    fn defines(&self, owner: &ObjectName, name: &str) -> bool {
        let stays = |image: &Image<'_>| image.global(name).iter().any(|id| !image.symbol(*id).init);
        self.image(owner).is_some_and(stays)
    }

    fn offers(&self, user: &ObjectName, name: &str) -> bool {
        self.exports.get(name).is_some() || !self.vmlinux.global(name).is_empty() || self.defines(user, name)
    }

    fn exports(&self, name: &str) -> bool {
        self.exports.get(name).is_some_and(|export| export.owner.is_vmlinux())
    }

    fn needs_copy(&self, unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
        Target::needs_copy(self, unit, orig, patched)
    }
}

impl<'d> Target<'d> {
    /// A kernel of which only one image is known, for a livepatch whose objects are compared one by one.
    pub fn partial(name: ObjectName, image: Image<'d>, exports: Exports) -> Self {
        let (vmlinux, modules) = if name.is_vmlinux() {
            (image, BTreeMap::new())
        } else {
            (Image::empty(ObjectName::vmlinux()), BTreeMap::from([(name, image)]))
        };
        Target {
            vmlinux,
            modules,
            exports,
            partial: true,
        }
    }

    /// Whether the image was placed from this object: each global function of it is there, in the same size.
    pub fn is_placed_from(&self, world: &World<'_>) -> bool {
        let mut functions = world.global_functions().peekable();
        let same = |(name, size)| {
            let found = self.vmlinux.global(name);
            found.iter().any(|id| self.vmlinux.symbol(*id).size == size)
        };
        functions.peek().is_some() && functions.all(same)
    }

    /// The image of a name, to tell it where the units are in it.
    pub fn image_mut(&mut self, name: &ObjectName) -> Option<&mut Image<'d>> {
        if name.is_vmlinux() {
            Some(&mut self.vmlinux)
        } else {
            self.modules.get_mut(name)
        }
    }

    /// The image of a name.
    pub fn image(&self, name: &ObjectName) -> Option<&Image<'d>> {
        if name.is_vmlinux() {
            Some(&self.vmlinux)
        } else {
            self.modules.get(name)
        }
    }
}

/// A symbol that livepatch looks up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct KlpSymbol {
    /// The object whose loading makes the relocations happen: vmlinux means at once.
    pub gate: ObjectName,
    /// The object it belongs to.
    pub owner: ObjectName,
    /// Its full name in the kernel.
    pub name: String,
    /// Its position among the symbols of that name in the object.
    pub sympos: SymPos,
}

/// A function that the kernel redirects to the livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PatchedFunction {
    /// The object it belongs to.
    pub object: ObjectName,
    /// Its full name in the kernel.
    pub name: String,
    /// Its position among the symbols of that name in the object.
    pub sympos: SymPos,
    /// The unit it comes from.
    pub unit: String,
    /// Why it is in the livepatch.
    pub reason: crate::select::Reason,
    /// Symbol in the emitted object that stands at the new code.
    pub handle: String,
}

/// Where a reference leads in the emitted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To something that the livepatch has.
    InPatch {
        /// The unit that the atom is in.
        unit: UnitId,
        /// The atom that the reference leads to.
        atom: Id<Patched, Atom>,
        /// Bytes from its anchor.
        delta: i64,
    },
    /// To an undefined symbol.
    Symbol {
        /// The link name of the undefined symbol.
        name: String,
        /// Distance in bytes from the symbol.
        delta: i64,
    },
    /// A number that is no address.
    Absolute(i64),
}

/// All references of the livepatch.
pub(crate) struct Routes {
    /// By unit and atom, in the order of the relocations.
    pub of: BTreeMap<(UnitId, Id<Patched, Atom>), Vec<Route>>,
    /// The same for rewritten instructions.
    pub rewrites: BTreeMap<(UnitId, Id<Patched, Atom>), Vec<Route>>,
    /// The same for the detours of a function, one after the other.
    pub detours: BTreeMap<(UnitId, Id<Patched, Atom>), Vec<Route>>,
    /// Entries that must be left out.
    pub dropped: BTreeSet<(UnitId, Id<Patched, Atom>)>,
    /// Link names that stand for kernel symbols.
    pub symbols: BTreeMap<String, KlpSymbol>,
    /// Keys of static calls in use, as link names, by unit: objtool looks for them.
    pub static_call_keys: BTreeMap<UnitId, BTreeSet<String>>,
    /// The redirected functions, by unit and atom.
    pub functions: BTreeMap<(UnitId, Id<Patched, Atom>), PatchedFunction>,
    /// Weak names that nothing in the kernel has: they are 0, as in the kernel's own link.
    pub nowhere: BTreeSet<String>,
    /// The link name of each variable that is set, in their order.
    pub values: Vec<String>,
    /// Functions whose address the original code takes though no indirect call can lead to them.
    pub addressed: BTreeSet<String>,
    /// Namespaces that the livepatch must import.
    pub namespaces: BTreeSet<String>,
    /// What was left out on the way.
    pub ignored: Vec<Ignored>,
}

/// Resolves all references.
///
/// # Errors
/// [`Stop::Refused`] with every reference that cannot be resolved.
pub(crate) fn references(group: &Group<'_>, selection: &Selection<'_>, target: &Target<'_>) -> Result<Routes, Stop> {
    links::resolve(group, selection, target)
}
