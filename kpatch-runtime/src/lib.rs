//! Livepatches on the machine that runs them: loaded, watched, replaced, taken out, and loaded again at the next boot.
//!
//! ```text
//!  a .ko, or the name of one that is installed                               commands/, cli.rs
//!    │ module      what the file says about itself        ModuleFile, About  module.rs, about.rs
//!    ▼
//!  /sys/kernel/livepatch, /sys/module, /proc              Machine, Livepatch machine.rs, livepatch.rs
//!    │ preflight   what would become of it, from facts    Finding            preflight.rs
//!    │ load        insert, wait, take back on a stall     Loaded             load.rs
//!    │ unload      disable, wait, remove                  Unloaded           unload.rs
//!    │ transition  how far it is, and who holds it up     Blocker            transition.rs
//!    ▼
//!  /var/lib/kpatch, /usr/lib/kpatch                       Installed          installed.rs
//!    │ rescue      the old one, until the new one works   Rescue             rescue.rs
//!    │ guard       what a boot did not survive            LeftOut            guard.rs
//!    │ history     what was done, and what came of it     Entry              history.rs
//! ```
//!
//! Nothing here needs what built the module: modules of other builders are handled as well. What touches the kernel goes
//! through [`kernel::Kernel`], so that the tests can have a machine in a folder.

pub mod about;
pub mod answer;
pub mod cli;
pub mod commands;
pub mod error;
pub mod guard;
pub mod history;
pub mod installed;
pub mod kernel;
pub mod livepatch;
pub mod load;
pub mod machine;
pub mod module;
pub mod preflight;
pub mod rescue;
mod threads;
pub mod transition;
pub mod unload;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
