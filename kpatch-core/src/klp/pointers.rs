//! The pointers of a finished module: none may lead to a function of the kernel that an indirect call must not reach.
//!
//! Independent of the way the module was made: this reads relocations, instructions and the image only.

use std::collections::BTreeSet;

use object::elf;

use super::BAD_POINTER;
use super::symbol_name;
use crate::arch::{Arch, CodeField, RelocKind, Use};
use crate::elf::{File, Place, Rela, SHN_LIVEPATCH, Section};
use crate::error::{Refusal, Subject};
use crate::group::ObjectName;
use crate::resolve::{SymPos, Target};

/// Every pointer that must not be called. The names in `addressed` are of functions whose address the code has another
/// use for.
pub fn check(file: &File, arch: &'static dyn Arch, target: &Target<'_>, addressed: &BTreeSet<String>) -> Vec<Refusal> {
    let mut found = Vec::new();
    if arch.facts().landing.is_none() {
        return found;
    }
    for section in &file.sections {
        let code = section.sh_flags & elf::SHF_EXECINSTR.0 != 0;
        let table = arch.facts().special(&section.name).is_some();
        if section.sh_flags & elf::SHF_ALLOC.0 == 0 || table && !code {
            continue;
        }
        let mut rows: Vec<(&str, &Rela)> = Vec::new();
        for rela in &section.relas {
            rows.extend(rela.rows.iter().map(|row| (rela.name.as_str(), row)));
        }
        rows.sort_by_key(|(_, row)| row.r_offset);
        let fields = fields(arch, section, code, &rows);
        for ((list, row), field) in rows.into_iter().zip(fields) {
            let why = field.and_then(|field| fault(file, arch, target, row, field, addressed));
            let at = || Subject::default().section(list).offset(row.r_offset);
            found.extend(why.map(|why| Refusal::new(BAD_POINTER, at(), why)));
        }
    }
    found
}

/// What the code or data does with each reference.
fn fields(arch: &'static dyn Arch, section: &Section, code: bool, rows: &[(&str, &Rela)]) -> Vec<Option<CodeField>> {
    if code {
        let offsets: Vec<u64> = rows.iter().map(|(_, row)| row.r_offset).collect();
        return arch.code_map(&section.data, &offsets).fields;
    }
    let data = CodeField {
        bias: 0,
        usage: Use::Address,
    };
    vec![Some(data); rows.len()]
}

fn fault(
    file: &File,
    arch: &'static dyn Arch,
    target: &Target<'_>,
    row: &Rela,
    field: CodeField,
    addressed: &BTreeSet<String>,
) -> Option<String> {
    let bias = match arch.facts().relocs.kind(row.r_type)? {
        RelocKind::Absolute { .. } => 0,
        RelocKind::Relative { .. } => i64::from(field.bias),
        RelocKind::None | RelocKind::TocRelative { .. } => return None,
    };
    if field.usage != Use::Address || row.r_addend.wrapping_add(bias) != 0 {
        return None;
    }
    let symbol = file.symbols.get(row.symbol?)?;
    let (image, name, id) = match symbol.place {
        Place::Reserved(SHN_LIVEPATCH) => {
            let (owner, name, sympos) = symbol_name::parse(&symbol.name)?;
            let image = target.image(&ObjectName::module(owner))?;
            (image, name, image.find(name, SymPos(sympos))?)
        }
        Place::Reserved(index) if index == elf::SHN_UNDEF.0 => {
            let image = target.image(&target.exports.get(&symbol.name)?.owner)?;
            (image, symbol.name.as_str(), *image.global(&symbol.name).first()?)
        }
        _ => return None,
    };
    let flaw = target.flaw(image, id, None)?;
    let other_use = !flaw.is_sealed() && addressed.contains(name);
    (!other_use).then(|| format!("it is a pointer to `{name}`, and an indirect call of that is fatal: {flaw}"))
}
