//! What happens around the livepatch of a case, as `case.yaml` has it: a look during the transition, and a second livepatch.

use std::collections::BTreeMap;
use std::path::Path;

use kpatch_build::prove::proof::During;
use kpatch_build::prove::vm::Behaviour;
use serde::Deserialize;

use super::{Then, sets};

/// `then:` as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThenDescription {
    pub(super) patches: Vec<String>,
    pub(super) patched: BTreeMap<String, Vec<String>>,
    replace: bool,
    pub(super) check: String,
}

impl ThenDescription {
    pub(super) fn of(&self, dir: &Path) -> Then {
        Then {
            patches: self.patches.iter().map(|name| dir.join(name)).collect(),
            patched: sets(&self.patched),
            replace: self.replace,
            check: dir.join(&self.check),
        }
    }
}

/// `during:` as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DuringDescription {
    pub(super) hold: String,
    expect: Behaviour,
}

impl DuringDescription {
    pub(super) fn of(&self, dir: &Path) -> During {
        During {
            hold: dir.join(&self.hold),
            expect: self.expect,
        }
    }
}
