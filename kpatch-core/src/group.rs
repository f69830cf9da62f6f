//! All object pairs of one livepatch, and who defines what among them.
//!
//! ThinLTO spreads one source change over several translation units, and they refer to each other by names that
//! differ between the sides (`helper.llvm.<hash>`). Only with all pairs in view can such a reference be recognised.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::correlate::{self, Pairing};
use crate::error::{Error, Subject};
use crate::ids::{Atom, Id, Orig, Patched, Side, Sym};
use crate::read::{self, Object, Target};
use crate::shipped::Shipped;
use crate::threads;

pub use crate::codes::object::MIXED_MACHINES;
/// What is patched: the kernel image or a module, by the name the kernel knows it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name of the kernel image.
    pub fn vmlinux() -> Self {
        ObjectName("vmlinux".into())
    }

    /// A module; the kernel writes `-` as `_`.
    pub fn module(name: &str) -> Self {
        ObjectName(name.replace('-', "_"))
    }

    /// Whether it is the kernel image and no module.
    pub fn is_vmlinux(&self) -> bool {
        self.0 == "vmlinux"
    }

    /// As the kernel spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kernel image comes before its modules, as in the kernel's own samples (samples/livepatch).
impl Ord for ObjectName {
    fn cmp(&self, other: &Self) -> Ordering {
        (!self.is_vmlinux(), &self.0).cmp(&(!other.is_vmlinux(), &other.0))
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One translation unit, as the caller hands it over.
#[derive(Debug, Clone)]
pub struct Input<'d> {
    /// Path of the object relative to the build directory.
    pub name: String,
    /// What it is linked into.
    pub parent: ObjectName,
    /// The object before; `None` for a new source file.
    pub orig: Option<&'d [u8]>,
    /// Bytes of the object with the patch.
    pub patched: &'d [u8],
    /// The object that the kernel was linked from, if `orig` was compiled with other options. It answers for the sizes of
    /// the kernel's functions then, and everything that the livepatch names must be in it.
    pub shipped: Option<&'d [u8]>,
}

impl Input<'_> {
    /// Size of both sides in bytes.
    fn bytes(&self) -> usize {
        self.orig.map_or(0, <[u8]>::len) + self.patched.len()
    }
}

/// Number of a unit in its group.
pub type UnitId = usize;

/// One translation unit with both sides read and paired.
pub struct Unit<'d> {
    /// Path of the object relative to the build directory.
    pub name: String,
    /// What it is linked into.
    pub parent: ObjectName,
    /// Before; without sections for a new source file.
    pub orig: Object<'d, Orig>,
    /// The object with the patch.
    pub patched: Object<'d, Patched>,
    /// Which atoms of the two sides are twins.
    pub pairing: Pairing,
    /// What the kernel was linked from, if that is not `orig`.
    pub shipped: Option<Shipped>,
}

/// All units, with the definitions that other units can name.
pub struct Group<'d> {
    /// The units in the caller's order.
    pub units: Vec<Unit<'d>>,
    /// Size of all objects in bytes.
    pub bytes: usize,
    orig_names: Names<'d, Orig>,
    patched_names: Names<'d, Patched>,
}

type Names<'d, S> = BTreeMap<(ObjectName, &'d str), Place<S>>;

/// A byte of some unit.
pub struct Place<S> {
    /// The unit that the atom is in.
    pub unit: UnitId,
    /// The atom in it.
    pub atom: Id<S, Atom>,
    /// Bytes from the atom's anchor.
    pub delta: i64,
}

impl<S> Clone for Place<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Place<S> {}

/// What a relocation means once all units are in view.
pub enum Meaning<'d, S> {
    /// A byte that some unit of the group defines.
    Here(Place<S>),
    /// A byte of something the group does not define.
    Elsewhere {
        /// Name of the symbol that is defined elsewhere.
        name: &'d str,
        /// Distance in bytes from that symbol.
        delta: i64,
    },
    /// A number that is no address.
    Absolute(i64),
}

impl<'d> Group<'d> {
    /// Reads and pairs all units.
    ///
    /// # Errors
    /// What [`read::object`] reports; [`MIXED_MACHINES`].
    pub fn read(inputs: &[Input<'d>]) -> Result<Self, Error> {
        let bytes = inputs.iter().map(Input::bytes).sum();
        let units = threads::map(inputs, bytes, unit).into_iter();
        let units: Vec<Unit<'d>> = units.collect::<Result<_, _>>()?;
        let machine = units.first().map(|unit| unit.patched.arch.facts().machine);
        if let Some(odd) = units
            .iter()
            .find(|unit| Some(unit.patched.arch.facts().machine) != machine)
        {
            return Err(Error::new(
                MIXED_MACHINES,
                Subject::file(&odd.name),
                "the units are for different machines",
            ));
        }
        let orig_names = names(units.iter().map(|unit| (&unit.parent, &unit.orig)));
        let patched_names = names(units.iter().map(|unit| (&unit.parent, &unit.patched)));
        Ok(Group {
            units,
            bytes,
            orig_names,
            patched_names,
        })
    }

    /// What a relocation of the original side means.
    pub fn orig_meaning(&self, unit: UnitId, target: &Target<Orig>) -> Meaning<'d, Orig> {
        let owner = &self.units[unit];
        meaning(unit, &owner.parent, &owner.orig, target, &self.orig_names)
    }

    /// What a relocation of the patched side means.
    pub fn patched_meaning(&self, unit: UnitId, target: &Target<Patched>) -> Meaning<'d, Patched> {
        let owner = &self.units[unit];
        meaning(unit, &owner.parent, &owner.patched, target, &self.patched_names)
    }

    /// Where a global name is defined on the patched side, whatever it is linked into.
    pub fn patched_definition(&self, name: &str) -> Option<Place<Patched>> {
        self.patched_names
            .iter()
            .find(|((_, defined), _)| *defined == name)
            .map(|(_, place)| *place)
    }
}

fn unit<'d>(input: &Input<'d>) -> Result<Unit<'d>, Error> {
    let (orig, patched) = threads::both(
        input.bytes(),
        || {
            input
                .orig
                .map(|bytes| read::object::<Orig>(&input.name, bytes))
                .transpose()
        },
        || read::object::<Patched>(&input.name, input.patched),
    );
    let (orig, patched) = (orig?, patched?);
    let orig = orig.unwrap_or_else(|| Object::empty(&input.name, patched.arch));
    if orig.arch.facts().machine != patched.arch.facts().machine {
        return Err(Error::new(
            MIXED_MACHINES,
            Subject::file(&input.name),
            "the two sides are for different machines",
        ));
    }
    let pairing = correlate::objects(&orig, &patched);
    let shipped = input
        .shipped
        .map(|bytes| Shipped::read(&input.name, bytes))
        .transpose()?;
    Ok(Unit {
        name: input.name.clone(),
        parent: input.parent.clone(),
        orig,
        patched,
        pairing,
        shipped,
    })
}

fn names<'a, 'd: 'a, S: Side>(units: impl Iterator<Item = (&'a ObjectName, &'a Object<'d, S>)>) -> Names<'d, S> {
    let mut names = Names::new();
    for (unit, (parent, object)) in units.enumerate() {
        for (_, symbol) in object.symbols.iter().filter(|(_, symbol)| !symbol.is_local()) {
            let Some(section) = symbol.section else { continue };
            let Some(atom) = object.atom_at(section, symbol.st_value) else {
                continue;
            };
            let delta = symbol.st_value as i64 - object.atoms[atom].anchor as i64;
            // A weak definition does not displace the one that the linker takes.
            let weak = symbol.st_bind == object::elf::STB_WEAK.0;
            let key = (parent.clone(), symbol.name);
            if !(weak && names.contains_key(&key)) {
                names.insert(key, Place { unit, atom, delta });
            }
        }
    }
    names
}

fn meaning<'d, S: Side>(
    unit: UnitId,
    parent: &ObjectName,
    object: &Object<'d, S>,
    target: &Target<S>,
    names: &Names<'d, S>,
) -> Meaning<'d, S> {
    match *target {
        Target::Absolute(value) => Meaning::Absolute(value),
        Target::Atom { atom, delta } => Meaning::Here(Place { unit, atom, delta }),
        Target::Extern { symbol, delta } => elsewhere(parent, object, symbol, delta, names),
    }
}

fn elsewhere<'d, S: Side>(
    parent: &ObjectName,
    object: &Object<'d, S>,
    symbol: Id<S, Sym>,
    delta: i64,
    names: &Names<'d, S>,
) -> Meaning<'d, S> {
    let name = object.symbols[symbol].name;
    match names.get(&(parent.clone(), name)) {
        Some(place) => Meaning::Here(Place {
            delta: place.delta.wrapping_add(delta),
            ..*place
        }),
        None => Meaning::Elsewhere { name, delta },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_comes_before_its_modules() {
        let (early, late) = (ObjectName::module("btrfs"), ObjectName::module("xfs"));
        assert!(ObjectName::vmlinux() < early && early < late);
    }
}
