//! PowerPC code as GCC 12 writes it with `-mprofile-kernel -mcmodel=small`.

use object::elf::{self, RelocationType};

use super::code::{How, Part, field, raw};
use super::unit::{self, Function};

/// `st_other` of a function whose local entry lies two instructions behind the global one.
pub const TWO_ENTRIES: u8 = 3 << 5;

const NOP: u32 = 0x6000_0000;
const BL: u32 = 0x4800_0001;
const B: u32 = 0x4800_0000;

/// An instruction.
pub fn insn(word: u32) -> Part {
    raw(&word.to_le_bytes())
}

/// An instruction with a relocation.
pub fn reference(word: u32, r_type: RelocationType, target: &str) -> Part {
    field(&word.to_le_bytes(), 0, How::Relocation(r_type.0), target, 0)
}

/// `li r3,value`: what a changed constant in the source looks like.
pub fn li(value: u16) -> Part {
    insn(0x3860_0000 | u32::from(value))
}

/// `nop`.
pub fn nop() -> Part {
    insn(NOP)
}

/// `bl target`, without anything behind it.
pub fn bl(target: &str) -> Part {
    reference(BL, elf::R_PPC64_REL24, target)
}

/// `b target`.
pub fn b(target: &str) -> Part {
    reference(B, elf::R_PPC64_REL24, target)
}

/// `bl target` by the distance.
pub fn near_bl(target: &str) -> Part {
    field(&BL.to_le_bytes(), 0, How::Filled(4), target, i64::from(BL))
}

/// `bl target; nop`.
pub fn call(target: &str) -> [Part; 2] {
    [bl(target), nop()]
}

/// `ld r9,slot@toc(r2)`.
pub fn slot(slot: &str) -> Part {
    reference(0xe922_0000, elf::R_PPC64_TOC16_DS, slot)
}

/// `addis r9,r2,variable@toc@ha; ld r9,variable@toc@l(r9)`.
pub fn direct(variable: &str) -> [Part; 2] {
    [
        reference(0x3d22_0000, elf::R_PPC64_TOC16_HA, variable),
        reference(0xe929_0000, elf::R_PPC64_TOC16_LO_DS, variable),
    ]
}

/// An address in data.
pub fn pointer(target: &str) -> Part {
    field(&[0; 8], 0, How::Relocation(elf::R_PPC64_ADDR64.0), target, 0)
}

/// The distance to something, in four bytes.
pub fn distance(target: &str) -> Part {
    field(&[0; 4], 0, How::Relocation(elf::R_PPC64_REL32.0), target, 0)
}

/// The distance to something, in eight bytes.
pub fn long_distance(target: &str) -> Part {
    field(&[0; 8], 0, How::Relocation(elf::R_PPC64_REL64.0), target, 0)
}

/// The call to the tracer.
fn traced() -> [Part; 2] {
    [insn(0x7c08_02a6), bl("_mcount")]
}

fn with_return(parts: Vec<Part>, body: &[&[Part]]) -> Vec<Part> {
    let body = body.iter().flat_map(|parts| parts.iter().cloned());
    parts.into_iter().chain(body).chain([insn(0x4e80_0020)]).collect()
}

/// A function that sets up r2 at its global entry.
pub fn function(name: &str, body: &[&[Part]]) -> Function {
    let setup = [
        reference(0x3c4c_0000, elf::R_PPC64_REL16_HA, ".TOC."),
        reference(0x3842_0000, elf::R_PPC64_REL16_LO, ".TOC.").plus(4),
    ];
    let parts = setup.into_iter().chain(traced()).collect();
    unit::function(name, &with_return(parts, body)).other(TWO_ENTRIES)
}

/// A function that does not: it calls nobody, or so the compiler believed.
pub fn leaf(name: &str, body: &[&[Part]]) -> Function {
    unit::function(name, &with_return(traced().to_vec(), body))
}

/// The same as a static one.
pub fn local_leaf(name: &str, body: &[&[Part]]) -> Function {
    unit::local(name, &with_return(traced().to_vec(), body))
}

/// A static function that sets up r2.
pub fn local(name: &str, body: &[&[Part]]) -> Function {
    function(name, body).bound(elf::STB_LOCAL)
}

/// A function of the large code model: the distance to the TOC lies before its entry.
pub fn large(name: &str, body: &[&[Part]]) -> (Part, Function) {
    let prefix = long_distance(".TOC.").plus(-8);
    let setup = [insn(0xe84c_fff8), insn(0x7c42_6214)];
    let parts = setup.into_iter().chain(traced()).collect();
    (
        prefix,
        unit::function(name, &with_return(parts, body)).other(TWO_ENTRIES),
    )
}

/// `b target` by the distance.
pub fn near_b(target: &str) -> Part {
    field(&B.to_le_bytes(), 0, How::Filled(4), target, i64::from(B))
}
