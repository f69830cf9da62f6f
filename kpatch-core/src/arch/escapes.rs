//! Where the addresses go that code takes: what an architecture's decoder tells about one function.

/// Where code has an address from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The relocation of this number stands for it.
    Reloc(usize),
    /// The caller passed it as this argument, counted from 1.
    Argument(u8),
}

/// What code does with an address, so that somebody else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Escape {
    /// It stores it into memory that is not on its stack.
    Stored {
        /// The relocation that stands for that memory, if the address is in the instruction.
        into: Option<usize>,
    },
    /// It passes it to a function that it calls or goes on to.
    Passed {
        /// The relocation that names the function; `None` if it is called through a pointer.
        to: Option<usize>,
        /// Which argument it is, counted from 1.
        argument: u8,
    },
    /// It gives it to its caller; with a relocation if it returns by a jump to what that names.
    Returned {
        /// The relocation of the jump.
        by: Option<usize>,
    },
}

/// What a jump to a function of the kernel stands for, where the processor needs that in the place of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thunk {
    /// A return.
    Return,
    /// A jump or call through a pointer.
    Indirect,
}
