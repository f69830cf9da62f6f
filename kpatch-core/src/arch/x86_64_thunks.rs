//! Functions that x86-64 code goes through instead of an instruction, where the processor needs it.

/// Instead of `ret` (CONFIG_MITIGATION_RETHUNK, arch/x86/include/asm/linkage.h, 6.12).
pub const RETURN_THUNK: &str = "__x86_return_thunk";

/// How the functions begin that stand for indirect calls and jumps (arch/x86/include/asm/nospec-branch.h, 6.12).
pub const INDIRECT_THUNK: &str = "__x86_indirect_thunk_";
