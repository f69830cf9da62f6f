//! What the tests share: units and a kernel made in memory, without a compiler, and one function that runs them.

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod case;
pub mod code;
pub mod damage;
pub mod kernel;
pub mod powerpc;
pub mod unit;
