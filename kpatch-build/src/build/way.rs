//! The ways in which kernels are compiled, behind one interface: how a file becomes machine code, and which machine code
//! a changed file reaches.
//!
//! A way does its own parallel work and tells the watcher of the [`Site`] each step of it. What it finds out is returned;
//! it changes nothing but the work folder and the cache.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::build::applied::Applied;
use crate::build::kbuild::{Home, Tu};
use crate::build::no_lto::NoLto;
use crate::build::recompile::affected::Affected;
use crate::build::recompile::proof::Variant;
use crate::build::recompile::{ChangedTu, Rerun};
use crate::build::site::Site;
use crate::build::thinlto::ThinLto;
use crate::build::timings::Timings;

/// One way.
pub trait Way: Sync {
    /// Compiles the files that the patch touches and can affect, original and patched, and those that it adds.
    ///
    /// # Errors
    /// [`crate::outcome::Ending::Refused`] if an original does not come out as the kernel has it, or if machine code
    /// changes that no livepatch reaches.
    fn compile<'c>(&'c self, applied: &'c Applied, affected: &Affected) -> Result<Compiled<'c>>;

    /// The native objects of a home that differ, since these files of it have changed.
    fn units(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Units>;

    /// The native objects of files of the image that call what changed in these files of it, whether they differ or not.
    /// Nothing where no file can be generated that is not touched.
    fn callers(&self, _changed: &[&ChangedTu], _units: &BTreeSet<String>) -> Result<Vec<Unit>> {
        Ok(Vec::new())
    }

    /// The link order of a home that no changed object is generated for, although files may have changed elsewhere.
    fn order(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Order>;
}

/// Compiles files of both sides once more, in another way than for the kernel.
pub trait Again: Sync {
    /// The original.
    fn orig(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf>;

    /// The patched file.
    fn patched(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf>;
}

/// What compiling both sides brought.
pub struct Compiled<'a> {
    /// The files that changed.
    pub changed: Vec<ChangedTu>,
    /// What was compiled without effect, and what was left out.
    pub notes: Vec<String>,
    /// Warnings of the compiler that the patch causes.
    pub warnings: Vec<String>,
    /// How the patched files were compiled, if the compiler can be asked what it inlined.
    pub reruns: Vec<Rerun>,
    /// The same once more, with other options.
    pub again: Box<dyn Again + 'a>,
}

/// Units of the link and the base names of their sources; see [`crate::build::pairs::LinkOrder`].
pub type Order = Vec<(String, String)>;

/// The native objects of one home.
#[derive(Debug, Default)]
pub struct Units {
    /// Those that differ, in link order.
    pub units: Vec<Unit>,
    /// The link order of the whole.
    pub order: Order,
    /// What came out equal.
    pub notes: Vec<String>,
    /// How long each step took.
    pub timings: Timings,
}

/// A unit and its native objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Object relative to the build directory.
    pub unit: String,
    /// Original native object; nothing if the original link did not have the unit.
    pub orig: Option<PathBuf>,
    /// Patched native object.
    pub patched: PathBuf,
    /// The object that was linked, where `orig` was compiled with other options.
    pub shipped: Option<PathBuf>,
    /// Changed units it imports from, on either side. Empty if facts about symbols are all that changed.
    pub imports_changed: Vec<String>,
    /// How the patched object was made from what the compiler wrote, if another program than the compiler did it.
    pub rerun: Option<Rerun>,
}

/// The way in which this kernel was compiled.
pub fn of<'a>(site: &'a Site<'a>) -> Box<dyn Way + 'a> {
    if site.kbuild.is_thin_lto() {
        Box::new(ThinLto { site })
    } else {
        Box::new(NoLto { site })
    }
}
