//! Kernels as distributions ship them: no build directory, no record of how anything was compiled or linked.
//!
//! Three things stand in for the records. kbuild itself compiles the touched files in a folder that looks like the
//! build's ([`prepare`]), which gives their commands and says whether they belong to the image or to which module.
//! What comes out is proven to be what the kernel has ([`shipped`]), function by function, and that also says where
//! everything in it lies. From then on the way is that of [`super::no_lto`], with addresses instead of the order of a
//! link. Of the files that may read a changed header only those that the change can affect are compiled ([`narrowing`]).

pub mod built;
pub mod compile;
pub mod folder;
pub mod includes;
pub mod make;
pub mod narrowing;
pub mod prepare;
pub mod shipped;

pub use prepare::{Opened, Prepared, Wanted};
pub use shipped::{Proven, ShippedFiles, image};
