//! Pieces of code and data, as text-like building blocks: bytes, and perhaps a reference to something by name.

use object::elf;

/// Some bytes, with at most one reference in them; or a label.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub bytes: Vec<u8>,
    pub field: Option<Field>,
    /// Names the place of the first byte.
    pub label: Option<String>,
}

/// A reference inside a part.
#[derive(Debug, Clone)]
pub struct Field {
    /// Offset in the part.
    pub at: u64,
    pub how: How,
    /// A symbol, or `@label`.
    pub target: String,
    pub addend: i64,
}

/// How a reference is written down.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// As a relocation of this type.
    Relocation(u32),
    /// As a distance of so many bytes, as the assembler does it inside a section.
    Filled(usize),
}

impl Part {
    /// Means the byte `count` after the target instead.
    pub fn plus(mut self, count: i64) -> Part {
        let field = self.field.as_mut().expect("only references have an addend");
        field.addend += count;
        self
    }

    /// The same with another relocation type.
    pub fn typed(mut self, r_type: u32) -> Part {
        let field = self.field.as_mut().expect("only references have a type");
        field.how = How::Relocation(r_type);
        self
    }
}

pub fn field(bytes: &[u8], at: u64, how: How, target: &str, addend: i64) -> Part {
    let target = target.to_owned();
    Part {
        bytes: bytes.to_vec(),
        field: Some(Field {
            at,
            how,
            target,
            addend,
        }),
        label: None,
    }
}

fn relative(bytes: &[u8], at: u64, r_type: elf::RelocationType, target: &str) -> Part {
    let behind = bytes.len() as i64 - at as i64;
    field(bytes, at, How::Relocation(r_type.0), target, -behind)
}

/// Bytes as they are.
pub fn raw(bytes: &[u8]) -> Part {
    Part {
        bytes: bytes.to_vec(),
        ..Part::default()
    }
}

/// A name for this place, used as `@name`.
pub fn label(name: &str) -> Part {
    Part {
        label: Some(name.to_owned()),
        ..Part::default()
    }
}

/// `mov $value, %eax`: what a changed constant in the source looks like.
pub fn imm(value: u32) -> Part {
    raw(&[&[0xb8][..], &value.to_le_bytes()].concat())
}

/// `call target`.
pub fn call(target: &str) -> Part {
    relative(&[0xe8, 0, 0, 0, 0], 1, elf::R_X86_64_PLT32, target)
}

/// `jmp target`.
pub fn jmp(target: &str) -> Part {
    relative(&[0xe9, 0, 0, 0, 0], 1, elf::R_X86_64_PLT32, target)
}

/// `lea target(%rip), %rax`.
pub fn lea(target: &str) -> Part {
    relative(&[0x48, 0x8d, 0x05, 0, 0, 0, 0], 3, elf::R_X86_64_PC32, target)
}

/// `mov target(%rip), %rax`.
pub fn load(target: &str) -> Part {
    relative(&[0x48, 0x8b, 0x05, 0, 0, 0, 0], 3, elf::R_X86_64_PC32, target)
}

/// `cmpl $value, target(%rip)`: an operand follows the field.
pub fn compare(target: &str, value: u8) -> Part {
    relative(&[0x83, 0x3d, 0, 0, 0, 0, value], 2, elf::R_X86_64_PC32, target)
}

/// `mov %gs:target(%rip), %rax`.
pub fn this_cpu(target: &str) -> Part {
    relative(&[0x65, 0x48, 0x8b, 0x05, 0, 0, 0, 0], 4, elf::R_X86_64_PC32, target)
}

/// `mov $target, %rax`.
pub fn address(target: &str) -> Part {
    field(
        &[0x48, 0xc7, 0xc0, 0, 0, 0, 0],
        3,
        How::Relocation(elf::R_X86_64_32S.0),
        target,
        0,
    )
}

/// `movabs $placeholder, %rax`: a constant that the kernel writes at boot.
pub fn movabs() -> Part {
    raw(&[0x48, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01])
}

/// A call inside the section that the assembler has filled in.
pub fn near_call(target: &str) -> Part {
    field(&[0xe8, 0, 0, 0, 0], 1, How::Filled(4), target, -4)
}

/// A jump inside the section that the assembler has filled in.
pub fn near_jump(target: &str) -> Part {
    field(&[0xe9, 0, 0, 0, 0], 1, How::Filled(4), target, -4)
}

/// `lea target(%rip), %rax` inside the section that the assembler has filled in.
pub fn near_lea(target: &str) -> Part {
    field(&[0x48, 0x8d, 0x05, 0, 0, 0, 0], 3, How::Filled(4), target, -4)
}

/// A jump of two bytes inside the section.
pub fn short_jump(target: &str) -> Part {
    field(&[0xeb, 0], 1, How::Filled(1), target, -1)
}

/// An address in data.
pub fn pointer(target: &str) -> Part {
    field(&[0; 8], 0, How::Relocation(elf::R_X86_64_64.0), target, 0)
}

/// The distance to something, in four bytes.
pub fn distance(target: &str) -> Part {
    field(&[0; 4], 0, How::Relocation(elf::R_X86_64_PC32.0), target, 0)
}

/// The distance to something, in eight bytes.
pub fn long_distance(target: &str) -> Part {
    field(&[0; 8], 0, How::Relocation(elf::R_X86_64_PC64.0), target, 0)
}

/// A number of eight bytes.
pub fn long(value: u64) -> Part {
    raw(&value.to_le_bytes())
}

/// A number of four bytes.
pub fn word(value: u32) -> Part {
    raw(&value.to_le_bytes())
}

/// A number of two bytes.
pub fn short(value: u16) -> Part {
    raw(&value.to_le_bytes())
}
