//! What becomes of a change, from two object files to the objects of the livepatch: one short case for each behaviour
//! that the field has learnt to need, without a compiler.
//!
//! A case is data: the two sides of each unit, and what is special about the kernel. Beside its name stands what must
//! become of it, so that no new snapshot can turn a refusal into a livepatch. The whole result is compared with the text
//! in `tests/snapshots` under the case's name.

mod common;

/// Declares tests: a name, which is also the snapshot's, the verdict, and the case.
macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident: $verdict:expr => $case:expr;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                #[allow(unused_imports)]
                use crate::common::case::Verdict::{BootOnly, Failed, NoChange, Patched, Refused};
                let text = crate::common::case::check(&$case, &$verdict);
                crate::common::case::recorded(stringify!($name), &text);
            }
        )*
    };
}

#[path = "cases/assembly.rs"]
mod assembly;
#[path = "cases/boot.rs"]
mod boot;
#[path = "cases/callbacks.rs"]
mod callbacks;
#[path = "cases/code_sections.rs"]
mod code_sections;
#[path = "cases/compilers.rs"]
mod compilers;
#[path = "cases/content.rs"]
mod content;
#[path = "cases/data.rs"]
mod data;
#[path = "cases/endings.rs"]
mod endings;
#[path = "cases/escapes.rs"]
mod escapes;
#[path = "cases/modules.rs"]
mod modules;
#[path = "cases/names.rs"]
mod names;
#[path = "cases/pointers.rs"]
mod pointers;
#[path = "cases/powerpc.rs"]
mod powerpc;
#[path = "cases/sleeps.rs"]
mod sleeps;
#[path = "cases/special.rs"]
mod special;
#[path = "cases/statics.rs"]
mod statics;
#[path = "cases/thinlto.rs"]
mod thinlto;
#[path = "cases/untraced.rs"]
mod untraced;
#[path = "cases/untraced_jumps.rs"]
mod untraced_jumps;
#[path = "cases/variables.rs"]
mod variables;
