//! Compares original and patched objects and produces the objects of a livepatch.

pub mod error;

pub use error::{Code, Error, Refusal, Stop, Subject};
