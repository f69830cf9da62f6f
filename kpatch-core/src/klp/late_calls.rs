//! Calls of modules, where the kernel would write their stubs to a place that it must not or cannot write.
//!
//! On ppc64le with CONFIG_PPC_FTRACE_OUT_OF_LINE (6.13 and later) the code that the tracer jumps to lies in the module's area
//! of stubs. A call of another module needs a stub of that area, too, and for a livepatch it is made when that module is
//! loaded: behind all of the module's own. Kernels that mark only the first place of the tracer's as taken
//! (arch/powerpc/kernel/module_64.c, `setup_ftrace_ool_stubs`) take the second one for free.
//!
//! On arm64 a call that does not reach its target goes by a veneer in the module's `.plt`, which for a livepatch is written
//! when that other module is loaded: by plain stores to memory that is write-protected since the livepatch was loaded
//! (arch/arm64/kernel/module-plts.c, `module_emit_plt_entry`, 7.3). With CONFIG_RANDOMIZE_MODULE_REGION_FULL any two modules
//! may be too far apart for a branch.

use object::elf;

use super::LATE_CALL;
use crate::arch;
use crate::elf::SHF_RELA_LIVEPATCH;
use crate::error::{Refusal, Subject};

/// A refusal for each call of a finished module that a kernel with that defect would spoil.
pub fn late_calls(module: &[u8]) -> Vec<Refusal> {
    let Ok(file) = crate::elf::read(module) else {
        return Vec::new();
    };
    let Some(arch) = arch::for_machine(elf::Machine(file.e_machine)) else {
        return Vec::new();
    };
    let Some((where_to, hint)) = arch.facts().loader.late_stub else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for rela in file.sections.iter().flat_map(|section| &section.relas) {
        let gate = rela
            .name
            .strip_prefix(".klp.rela.")
            .and_then(|rest| rest.split_once('.'));
        let late = gate.filter(|(gate, _)| rela.sh_flags & SHF_RELA_LIVEPATCH != 0 && *gate != "vmlinux");
        let Some((gate, _)) = late else { continue };
        for row in rela.rows.iter().filter(|row| arch.facts().relocs.is_branch(row.r_type)) {
            let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
            let name = symbol.map_or("", |symbol| &symbol.name);
            let why = format!("the call of `{name}` gets its stub when {gate} is loaded, {where_to}");
            let at = Subject::default().section(&rela.name).offset(row.r_offset);
            found.push(Refusal::new(LATE_CALL, at, why).hint(hint));
        }
    }
    found
}
