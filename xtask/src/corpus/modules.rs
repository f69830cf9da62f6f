//! Which modules a guest loads around a livepatch, and in which order.

use serde::Deserialize;

use super::is_unique;

/// Modules the guest loads, dependencies first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Modules {
    /// Loaded before the livepatch.
    pub before: Vec<String>,
    /// Loaded after it.
    pub after: Vec<String>,
    /// Of these another build is tried first, which must not come in; all of them are in `after`.
    pub rebuilt: Vec<String>,
    /// Removed and loaded again while the livepatch is there; all of them are in `before`.
    pub reload: Vec<String>,
}

impl Modules {
    /// What must be true of them, and how it is said if it is not.
    pub(super) fn rules(&self) -> [(bool, &'static str); 3] {
        let loaded: Vec<&String> = self.before.iter().chain(&self.after).collect();
        let among = |names: &[String], all: &[String]| names.iter().all(|name| all.contains(name));
        [
            (is_unique(&loaded), "`modules` names one twice"),
            (
                among(&self.reload, &self.before),
                "`reload` names a module that is not in `before`",
            ),
            (
                among(&self.rebuilt, &self.after),
                "`rebuilt` names a module that is not in `after`",
            ),
        ]
    }
}
