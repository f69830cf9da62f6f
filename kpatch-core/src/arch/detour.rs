//! Code that makes a call of a jump to another function.
//!
//! A function that ends by jumping to another one (a sibling call) is not on the stack while that one runs. Where the
//! stack must show it, the jump goes to a few instructions behind the function's own code instead: they call and return.

/// Instructions that call a function and return to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetourCode {
    /// The code, with zeros where relocations are.
    pub bytes: Vec<u8>,
    /// The relocation of the call.
    pub call: DetourField,
    /// The relocation of the way back, if that leads through a function of the kernel, and the function's name.
    pub back: Option<(DetourField, &'static str)>,
}

/// A relocation of such code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetourField {
    /// Offset in the code.
    pub offset: u64,
    /// Type of the relocation.
    pub r_type: u32,
    /// Addend of the relocation.
    pub addend: i64,
}

/// A function's code, or that of a part of it, and where its branches with relocations lead.
#[derive(Debug, Clone)]
pub struct CodePiece<'c> {
    /// The code from the entry on.
    pub code: &'c [u8],
    /// The offset of each relocation, in ascending order.
    pub branches: Vec<(u64, Leads<'c>)>,
}

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads<'c> {
    /// To an offset of one of the pieces.
    Inside(usize, u64),
    /// To something of this name, or somewhere without a name.
    Out(&'c str),
}
