//! What a few of many files show before all of them are compiled: that a structure which the whole kernel knows lies
//! otherwise in memory. That is refused whatever the other files say, so nobody needs to wait for them.

use anyhow::Result;
use kpatch_core::Refusal;

use crate::build::acceptance;
use crate::build::applied::Applied;
use crate::build::compare::declared_otherwise;
use crate::build::layouts;
use crate::build::on_stack;
use crate::build::patchset::declarations;
use crate::build::recompile::affected::Affected;
use crate::build::site::Site;
use crate::build::way::Way;
use crate::outcome::Ending;
use crate::ui::count;

/// Fewer files are compiled at once: there is not much to wait for.
const FEW: usize = 24;

/// Compiles a few files for each changed header and compares what they declare. What is found here is found again when all
/// are compared, and nothing takes it away; what is not found proves nothing. The compilations are kept.
///
/// # Errors
/// [`Ending::Refused`] with structures, and operations of modules, that are declared otherwise and not accepted.
pub fn look(site: &Site<'_>, way: &dyn Way, applied: &Applied, affected: &Affected, accept: &[String]) -> Result<()> {
    if affected.to_compile() <= FEW || !declarations::edited(&applied.files) {
        return Ok(());
    }
    let sample = affected.sample(site.kbuild, &applied.scope);
    if sample.to_compile() == 0 || sample.to_compile() >= affected.to_compile() {
        return Ok(());
    }
    let refusals = against(site, way, applied, &sample, accept)?;
    if refusals.is_empty() {
        return Ok(());
    }
    let all = count(affected.to_compile(), "file", "files");
    site.progress.note(&format!(
        "{} of {all} were compiled; there may be more to refuse, which --compile-all-readers shows",
        sample.to_compile()
    ));
    Err(Ending::Refused(refusals).into())
}

/// What to refuse a patch with of which only these few files are compiled, since there are too many: what they declare
/// otherwise, which the author can do something about, or else that there are too many.
pub fn instead(
    site: &Site<'_>,
    way: &dyn Way,
    applied: &Applied,
    few: &Affected,
    accept: &[String],
    too_many: &Refusal,
) -> Result<Ending> {
    let mut refusals = Vec::new();
    if declarations::edited(&applied.files) {
        refusals = against(site, way, applied, few, accept)?;
    }
    if refusals.is_empty() {
        refusals.push(too_many.clone());
    }
    Ok(Ending::Refused(refusals))
}

/// What these files declare otherwise, and nobody accepts.
fn against(
    site: &Site<'_>,
    way: &dyn Way,
    applied: &Applied,
    sample: &Affected,
    accept: &[String],
) -> Result<Vec<Refusal>> {
    let compiled = way.compile(applied, sample)?;
    let declared = layouts::changed(site, &applied.files, &compiled.changed, &*compiled.again)?;
    let on_stack = on_stack::look(site, applied, &*compiled.again, &declared.layouts)?;
    Ok(acceptance::split(declared_otherwise(&declared, &on_stack, accept), accept).1)
}
