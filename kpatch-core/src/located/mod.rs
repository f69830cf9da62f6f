//! Proof that an object is part of a kernel that nobody has a record of: where each of its sections lies in the image or
//! module, and that what lies there is the object.
//!
//! The object is compiled as the kernel's build would have done it. A linker copies its sections as they are, fills the
//! relocated fields in, and merges equal strings. So there must be one place for each section at which all bytes outside
//! fields are equal and each field leads to what its relocation says: a symbol of that name, another section of the same
//! object where that lies, or an equal string. Places are found by the symbols (kallsyms, or a module's own), by fields
//! of sections whose place is known, and for tables that have neither by looking for rows that lead to known places.
//! Two possible places are a refusal, and so is any difference: then the source, the configuration or the compiler is
//! not that of the kernel.

mod compiled;
pub mod kallsyms;
mod memory;
mod solve;
mod verify;

use crate::error::{Refusal, Subject};

pub use crate::codes::environment::NOT_SHIPPED;
pub use crate::codes::patch::NOT_BUILT;
#[cfg(test)]
pub(crate) use memory::Region;
pub use memory::{BAD_IMAGE, Memory, Symbol};

/// What was proven of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    /// Functions of the object that the kernel has, all of them proven.
    pub functions: usize,
    /// Those with a difference that is explained, and those that the kernel does not have, since they are weak.
    pub explained: Vec<Explained>,
    /// Bytes of data and tables that are those of the kernel.
    pub data: u64,
    /// Sections without a place: the link drops them, or nothing tells where they are.
    pub unlocated: Vec<String>,
    /// Where the named parts are.
    pub parts: Vec<Part>,
}

/// Why a function differs from the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The function.
    pub function: String,
    /// Why.
    pub why: &'static str,
}

/// A function or variable of the object, in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The address: in the image as linked, in a module as [`Memory`] made it up.
    pub address: u64,
    /// `st_size` in bytes.
    pub size: u64,
}

/// The definition of another file took the place of a weak one.
const OVERRIDDEN: &str = "weak, and another file has the definition that counts";
/// objtool's run over the linked image turned a jump into a NOP.
const BRANCH: &str = "a static branch that the link made a NOP";

/// Proves that an object is what the kernel has.
///
/// # Errors
/// [`NOT_SHIPPED`] with each section that is not; [`NOT_BUILT`] if the kernel has none of its functions; damage in the
/// object as [`NOT_SHIPPED`], too, since this program has just made it.
pub fn prove(unit: &str, bytes: &[u8], memory: &Memory<'_>) -> Result<Located, Vec<Refusal>> {
    let object = compiled::Object::read(unit, bytes, memory).map_err(|why| {
        let why = format!("the compiled object cannot be compared with {}: {why}", memory.name);
        vec![not_shipped(Subject::file(unit), why)]
    })?;
    if !object.is_known() {
        let why = format!("{} has none of its functions", memory.name);
        let hint = "leave it out, if it is not part of this kernel's configuration";
        return Err(vec![Refusal::new(NOT_BUILT, Subject::file(unit), why).hint(hint)]);
    }
    let bases = solve::bases(&object).map_err(|refusal| vec![refusal])?;
    verify::all(&object, &bases)
}

fn not_shipped(at: Subject, why: String) -> Refusal {
    Refusal::new(NOT_SHIPPED, at, why)
        .hint("use source, configuration and compiler of exactly this version of the kernel's package")
}

#[cfg(test)]
mod tests;
