//! What of a livepatch somebody may have the address of until later than the livepatch is there.

use std::fmt;

use kpatch_core::{Element, GivenAway, How};
use serde::Serialize;

/// A new function, or data, and who gives its address away.
#[derive(Debug, Serialize)]
pub(super) struct HandedOut {
    unit: String,
    /// The new function.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// The variable, constant or string.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// Who takes the address of the function, or gives away that of the data.
    by: Vec<String>,
    /// What becomes of the address of data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    given_away: Vec<GivenAway>,
    /// `variable`, `string` and so on.
    #[serde(skip)]
    kind: &'static str,
}

impl HandedOut {
    pub fn of(element: &Element) -> Option<Self> {
        let name = || Some(element.name.clone());
        let mut one = HandedOut {
            unit: element.unit.clone(),
            function: None,
            data: None,
            by: element.address_taken_by.clone(),
            given_away: element.given_away.clone(),
            kind: element.kind,
        };
        if !one.by.is_empty() {
            one.function = name();
        } else if !one.given_away.is_empty() {
            one.data = name();
            one.by = element.given_away.iter().map(|one| one.by.clone()).collect();
            one.by.dedup();
        } else {
            return None;
        }
        Some(one)
    }

    /// The function or the data.
    pub fn name(&self) -> &str {
        self.function.as_ref().or(self.data.as_ref()).map_or("", String::as_str)
    }
}

impl fmt::Display for HandedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.function.is_some() {
            let take = match self.by.len() {
                1 => "takes",
                _ => "take",
            };
            let by = self.by.join(", ");
            write!(f, "{by} {take} the address of new function {}", self.name())?;
        } else {
            let name = self.name();
            let what = format!("the address of {} {name}", self.kind);
            let told: Vec<String> = self.given_away.iter().map(|one| told(one, &what)).collect();
            f.write_str(&told.join("; "))?;
        }
        f.write_str("; don't unload while that pointer may be in use")
    }
}

fn told(one: &GivenAway, what: &str) -> String {
    let (by, to) = (
        &one.by,
        one.to
            .as_deref()
            .unwrap_or("a function that it calls through a pointer"),
    );
    match one.how {
        How::Stored => format!("{by} stores {what}"),
        How::Passed => format!("{by} passes {what} to {to}"),
        How::Returned => format!("{by} may return {what}"),
    }
}
