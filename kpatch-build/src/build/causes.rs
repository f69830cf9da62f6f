//! Which patch of a series is behind a patched function, a refusal, or a file that does not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Blame, Refusal};
use rayon::prelude::*;

use crate::build::inlining::Trail;
use crate::build::patchset;
use crate::build::patchset::origins::{About, Numbers, Origins};
use crate::build::recompile::DoesNotCompile;
use crate::build::recompile::failures::{self, Failure};
use crate::outcome::Ending;

/// The patches that files which do not compile are put down to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|one| one.patches.join(" or ")).collect::<Vec<_>>().join(", "))]
pub struct CausedBy(pub Vec<Caused>);

/// A file that does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caused {
    /// Names of patches; where it cannot be told which one it is, all that may be it.
    pub patches: Vec<String>,
    /// What the compiler says.
    pub text: String,
}

/// What leads back to patches.
#[derive(Debug, Clone, Default)]
pub struct Causes {
    names: Vec<String>,
    origins: Origins,
    /// The changed files that each object is made from.
    made_from: BTreeMap<String, Vec<String>>,
}

impl Causes {
    /// That of patches that were applied.
    pub fn new(patches: &[PathBuf], origins: Origins, made_from: BTreeMap<String, Vec<String>>) -> Self {
        Causes {
            names: patchset::names(patches),
            origins,
            made_from,
        }
    }

    /// Whether there are several patches, so that it matters which one it was.
    pub fn is_series(&self) -> bool {
        self.names.len() > 1
    }

    /// The error with the patches that cause it. With a trail, code is followed to where it was inlined from.
    pub fn told(&self, error: anyhow::Error, trail: Option<&Trail>) -> anyhow::Error {
        if error.is::<DoesNotCompile>() && self.is_series() && !error.is::<CausedBy>() {
            let caused = |failure: Failure| Caused {
                patches: self.named(
                    &self
                        .origins
                        .of_messages(&failure.text, self.made_from(Some(&failure.object))),
                ),
                text: failure.text,
            };
            let all = failures::of(&error).into_iter().map(caused).collect();
            return error.context(CausedBy(all));
        }
        match error.downcast::<Ending>() {
            Ok(Ending::Refused(refusals)) => Ending::Refused(self.refusals(refusals, trail)).into(),
            Ok(other) => other.into(),
            Err(error) => error,
        }
    }

    fn refusals(&self, refusals: Vec<Refusal>, trail: Option<&Trail>) -> Vec<Refusal> {
        if !self.is_series() {
            return refusals.into_iter().map(|refusal| refusal.caused_by([""; 0])).collect();
        }
        let edited = self.origins.edited();
        let of = |refusal: Refusal| {
            // A defect of ours, or of the machine, is nobody's patch.
            let is_open = refusal.patches.is_empty()
                && refusal.code.blame() == Blame::Patch
                && refusal.code != patchset::NOTHING_TO_ACCEPT;
            if !is_open {
                return refusal;
            }
            let unit = refusal.at.file.as_deref();
            let callees = |symbol: &str| match trail {
                Some(trail) => trail.edited_in(unit, symbol, &edited),
                None => BTreeSet::new(),
            };
            let about = About::of(&refusal, &callees, self.made_from(unit));
            let patches = self.named(&self.origins.of(&about));
            refusal.caused_by(patches)
        };
        refusals.into_par_iter().map(of).collect()
    }

    /// For each function the patches whose change is in it; nothing if there is only one patch.
    pub fn of_functions(&self, functions: &[PatchedFunction], trail: &Trail) -> Vec<Vec<String>> {
        if !self.is_series() {
            return Vec::new();
        }
        let edited = self.origins.edited();
        let of = |function: &PatchedFunction| {
            let callees = |symbol: &str| trail.edited_in(Some(&function.unit), symbol, &edited);
            let about = About {
                file: Some(&function.unit),
                symbol: Some(&function.name),
                missing: None,
                inlined: &callees,
                made_from: self.made_from(Some(&function.unit)),
            };
            self.named(&self.origins.of(&about))
        };
        functions.par_iter().map(of).collect()
    }

    fn made_from(&self, unit: Option<&str>) -> &[String] {
        unit.and_then(|unit| self.made_from.get(unit))
            .map_or(&[], Vec::as_slice)
    }

    fn named(&self, numbers: &Numbers) -> Vec<String> {
        numbers
            .iter()
            .filter_map(|number| self.names.get(*number).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use kpatch_core::{Subject, codes};

    use super::*;

    fn refusal() -> Refusal {
        Refusal::new(codes::select::INIT_CODE, Subject::file("a.o"), "why").caused_by(["a.patch"])
    }

    #[test]
    fn a_single_patch_is_not_named_as_its_own_cause() {
        let of = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            let causes = Causes::new(&paths, Origins::default(), BTreeMap::new());
            let told = causes.told(Ending::refused(refusal()), None);
            crate::outcome::refusals(&told)[0].patches.len()
        };
        assert_eq!((of(&["a.patch"]), of(&["a.patch", "b.patch"])), (0, 1));
    }

    #[test]
    fn a_defect_is_put_down_to_no_patch() {
        let paths = ["a.patch", "b.patch"].map(PathBuf::from);
        let change = patchset::parse::parse("a.patch", b"--- /dev/null\n+++ b/a.c\n@@ -0,0 +1 @@\n+x\n");
        let mut origins = Origins::default();
        origins.add(&change.unwrap()[0], None, 0);
        let causes = Causes::new(&paths, origins, BTreeMap::new());
        let of = |code| {
            let told = causes.told(Ending::refused(Refusal::new(code, Subject::file("a.o"), "why")), None);
            crate::outcome::refusals(&told)[0].patches.clone()
        };
        assert_eq!(of(codes::klp::OBJTOOL_INCOMPLETE), [""; 0]);
        assert_eq!(of(codes::select::INIT_CODE), ["a.patch"]);
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let paths = ["a.patch", "b.patch"].map(PathBuf::from);
        let causes = Causes::new(&paths, Origins::default(), BTreeMap::new());
        let told = causes.told(Ending::infrastructure("no room"), None);
        assert!(matches!(told.downcast_ref(), Some(Ending::Infrastructure(_))));
        let failed = DoesNotCompile::because(anyhow::anyhow!("x.c:1: error: y"), "x.o");
        assert!(causes.told(failed, None).is::<CausedBy>());
    }
}
