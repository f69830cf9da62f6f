//! What the argument registers hold, tracked over straight-line code.

use super::LineArgument;

/// Most arguments that any ABI here passes in registers.
const MOST: usize = 8;

/// What one argument holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Held {
    /// Nothing is known about the register.
    #[default]
    Unknown,
    /// A constant: its bytes in the code.
    Constant(std::ops::Range<usize>),
    /// An address: the offset of its relocation.
    Address(usize),
}

/// What each argument register holds, argument 1 first.
#[derive(Debug, Default)]
pub struct Arguments([Held; MOST]);

impl Arguments {
    /// Notes what an argument register holds. Arguments count from 1; other numbers are ignored.
    pub fn set(&mut self, number: u8, held: Held) {
        if let Some(slot) = usize::from(number)
            .checked_sub(1)
            .and_then(|index| self.0.get_mut(index))
        {
            *slot = held;
        }
    }

    /// The constants that a call takes. `call` is the offset of its relocation.
    pub fn report(&self, call: usize) -> Vec<LineArgument> {
        let numbered = || self.0.iter().enumerate().map(|(index, held)| (index as u8 + 1, held));
        let others: Vec<(u8, usize)> = numbered()
            .filter_map(|(number, held)| match held {
                Held::Address(field) => Some((number, *field)),
                _ => None,
            })
            .collect();
        numbered()
            .filter_map(|(number, held)| match held {
                Held::Constant(constant) => Some(LineArgument {
                    constant: constant.clone(),
                    number,
                    call,
                    others: others.clone(),
                }),
                _ => None,
            })
            .collect()
    }
}
