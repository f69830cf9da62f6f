//! Functions of a livepatch that somebody may call until later than the livepatch is there.

use std::fmt;

use kpatch_core::Element;
use serde::Serialize;

/// A new function, and who takes its address.
#[derive(Debug, Serialize)]
pub(super) struct HandedOut {
    unit: String,
    function: String,
    /// Who takes its address.
    by: Vec<String>,
}

impl HandedOut {
    pub fn of(element: &Element) -> Option<Self> {
        (!element.address_taken_by.is_empty()).then(|| HandedOut {
            unit: element.unit.clone(),
            function: element.name.clone(),
            by: element.address_taken_by.clone(),
        })
    }
}

impl HandedOut {
    /// The new function.
    pub fn function(&self) -> &str {
        &self.function
    }
}

impl fmt::Display for HandedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let take = match self.by.len() {
            1 => "takes",
            _ => "take",
        };
        write!(
            f,
            "{} {take} the address of new function {}; don't unload while that pointer may be in use",
            self.by.join(", "),
            self.function
        )
    }
}
