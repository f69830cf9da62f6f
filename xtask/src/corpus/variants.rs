//! What a case expects somewhere else: compilers inline different functions, and another kernel series has other lines
//! around the same defect. A variant replaces parts of the description at the places it names and nothing else, so that
//! a case stays one thing with one reason, and is checked like a whole case.

use std::path::Path;

use serde::Deserialize;

use super::{Case, Description, Expectation, KnownBad, Modules, case, expectation, is_series};
use crate::e2e::STOCK;
use kpatch_build::kernel::Arch;
use kpatch_build::supply::place::Place;

/// At which places a variant holds. An empty list means everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct When {
    kernels: Vec<String>,
    arches: Vec<Arch>,
    toolchains: Vec<String>,
    configs: Vec<String>,
}

/// A variant as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Variant {
    why: String,
    when: When,
    patches: Option<Vec<String>>,
    accept: Option<Vec<String>>,
    compiles: Option<usize>,
    expect: Option<Expectation>,
    check: Option<String>,
    reports: Option<Vec<String>>,
    modules: Option<Modules>,
    known_bad: Option<KnownBad>,
}

impl When {
    fn fits(&self, place: &Place) -> bool {
        let named = |list: &[String], have: &str| list.is_empty() || list.iter().any(|one| one == have);
        named(&self.kernels, &place.series)
            && (self.arches.is_empty() || self.arches.contains(&place.arch))
            && named(&self.toolchains, &place.toolchain)
            && named(&self.configs, &place.config)
    }
}

impl Case {
    /// Whether this kernel and architecture have it.
    pub fn is_for(&self, place: &Place) -> bool {
        // A module is resolved against the symbols of a build.
        let is_stock = place.toolchain == STOCK;
        self.kernels.contains(&place.series)
            && self.arches.contains(&place.arch)
            && !(is_stock && self.module_dir.is_some())
    }

    /// The case as it is at this place: every variant that fits, the later over the earlier.
    pub fn at(&self, place: &Place) -> Self {
        self.with(self.written.variants.iter().filter(|variant| variant.when.fits(place)))
    }

    /// The case as the first variant makes it that brings this patch.
    pub(super) fn with_patch(self, patch: &Path) -> Option<Self> {
        if self.patches.iter().any(|own| own == patch) {
            return Some(self);
        }
        let brings = |variant: &&Variant| {
            let mut names = variant.patches.iter().flatten();
            names.any(|name| self.dir.join(name) == patch)
        };
        let variant = self.written.variants.iter().find(brings)?;
        Some(self.with([variant]))
    }

    fn with<'v>(&self, variants: impl IntoIterator<Item = &'v Variant>) -> Self {
        let whole = variants
            .into_iter()
            .fold(self.written.clone(), |whole, one| one.over(&whole));
        let expect = expectation(&whole.expect).expect("each variant was checked when it was read");
        case(&self.dir, whole, expect)
    }
}

impl Variant {
    /// The description of the whole case at the places of this variant.
    pub(super) fn over(&self, base: &Description) -> Description {
        let mut whole = base.clone();
        whole.variants.clear();
        whole.patches.clone_from(self.patches.as_ref().unwrap_or(&base.patches));
        whole.accept.clone_from(self.accept.as_ref().unwrap_or(&base.accept));
        whole.compiles = self.compiles.or(whole.compiles);
        whole.check = self.check.clone().or(whole.check);
        whole.reports.clone_from(self.reports.as_ref().unwrap_or(&base.reports));
        whole.modules = self.modules.clone().unwrap_or(whole.modules);
        whole.known_bad = self.known_bad.clone().or(whole.known_bad);
        if let Some(expect) = &self.expect {
            whole.expect = expect.clone();
            // Nothing is loaded where nothing is built.
            if expect.patched.is_none() {
                (whole.check, whole.program, whole.then, whole.stalls) = (None, None, None, None);
                (whole.during, whole.compiles) = (None, None);
                whole.reports.clear();
                whole.modules = Modules::default();
                whole.accept.clear();
            }
        }
        whole
    }

    /// What is missing or without effect.
    pub(super) fn problems(&self, base: &Description) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, why: &str| {
            if !holds {
                problems.push(format!("variants: {why}"));
            }
        };
        must(!self.why.trim().is_empty(), "`why` is empty");
        must(
            self.when != When::default(),
            "`when` names no kernels, arches, toolchains or configs",
        );
        must(
            self.when.kernels.iter().all(|series| is_series(series)),
            "`kernels` holds series such as \"6.12\"",
        );
        must(
            self.when.kernels.iter().all(|series| base.kernels.contains(series))
                && self.when.arches.iter().all(|arch| base.arches.contains(arch)),
            "`when` names a kernel or architecture that the case does not run on",
        );
        must(
            self.patches.is_some()
                || self.accept.is_some()
                || self.compiles.is_some()
                || self.expect.is_some()
                || self.check.is_some()
                || self.reports.is_some()
                || self.modules.is_some()
                || self.known_bad.is_some(),
            "one that changes nothing",
        );
        problems
    }
}
