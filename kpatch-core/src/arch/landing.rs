//! What an indirect call asks of the function that it leads to.
//!
//! A processor may want a certain instruction at the entry, and the compiler a hash of the function's type in front of
//! it. Compilers leave both out for static functions whose address nobody takes, and the kernel removes them at boot
//! where the link shows that nobody does.

/// The rules of one processor.
#[derive(Debug)]
pub struct Landing {
    /// The instructions that an indirect call may land on, as bytes.
    pub pads: &'static [&'static [u8]],
    /// The section of a kernel or module with the places of landing pads that are removed when it starts: a distance of
    /// four bytes from each entry of the section. A kernel that has it is built for the check.
    pub seals: Option<&'static str>,
    /// Start of the name of the symbol in front of a function at the instruction that has the hash.
    pub prefix: Option<&'static str>,
    /// Start of the name of the absolute symbol whose value is the hash that a declaration asks for.
    pub wanted: &'static str,
}

/// x86-64. The instruction is `endbr64`: Intel SDM, volume 1, section 18.3 ("Indirect branch tracking").
///
/// tools/objtool/check.c (6.1 to 6.12), `create_ibt_endbr_seal_sections`, lists the places;
/// arch/x86/kernel/alternative.c, `apply_seal_endbr`, overwrites them, and the hash in front of them as well
/// (`poison_cfi`). The hash is the operand of a `mov $hash,%eax` under the symbol `__cfi_NAME`, and
/// `__kcfi_typeid_NAME` is what clang makes of a declaration whose address is taken (arch/x86/include/asm/cfi.h, 6.12).
pub const X86_64: Landing = Landing {
    pads: &[&[0xf3, 0x0f, 0x1e, 0xfa]],
    seals: Some(".ibt_endbr_seal"),
    prefix: Some("__cfi_"),
    wanted: "__kcfi_typeid_",
};

/// AArch64: `bti c`, `bti jc` and `paciasp`, which is one as well (Arm ARM, "BTI"). Nothing is removed at boot, and the
/// hash has no symbol.
pub const AARCH64: Landing = Landing {
    pads: &[
        &[0x5f, 0x24, 0x03, 0xd5],
        &[0xdf, 0x24, 0x03, 0xd5],
        &[0x3f, 0x23, 0x03, 0xd5],
    ],
    seals: None,
    prefix: None,
    wanted: "__kcfi_typeid_",
};

impl Landing {
    /// Bytes of the landing pad at a function's entry; 0 if there is none.
    pub fn pad(&self, entry: &[u8]) -> usize {
        let pad = self.pads.iter().find(|pad| entry.starts_with(pad));
        pad.map_or(0, |pad| pad.len())
    }

    /// The hash in the code at a prefix symbol.
    pub fn hash(&self, prefix: &[u8]) -> Option<u32> {
        // mov $imm32,%eax
        let [0xb8, value @ ..] = prefix else { return None };
        let value = value.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_and_hashes_are_read() {
        assert_eq!(X86_64.pad(&[0xf3, 0x0f, 0x1e, 0xfa, 0xe8]), 4);
        assert_eq!(X86_64.pad(&[0xf3, 0x0f, 0x1e]), 0);
        assert_eq!(AARCH64.pad(&[0x3f, 0x23, 0x03, 0xd5]), 4);
        assert_eq!(X86_64.hash(&[0xb8, 1, 2, 3, 4, 0x90]), Some(0x0403_0201));
        assert_eq!(X86_64.hash(&[0x90; 16]), None);
        assert_eq!(X86_64.hash(&[0xb8, 1]), None);
    }
}
