//! What a few of many files show before all of them are compiled: that a structure which the whole kernel knows lies
//! otherwise in memory. That is refused whatever the other files say, so nobody needs to wait for them.

use anyhow::Result;

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
    let compiled = way.compile(applied, &sample)?;
    let declared = layouts::changed(site, &applied.files, &compiled.changed, &*compiled.again)?;
    let on_stack = on_stack::look(site, applied, &*compiled.again, &declared.layouts)?;
    let (_, against) = acceptance::split(declared_otherwise(&declared, &on_stack, accept), accept);
    if against.is_empty() {
        return Ok(());
    }
    let all = count(affected.to_compile(), "file", "files");
    site.progress.note(&format!(
        "{} of {all} were compiled; there may be more to refuse, which --compile-all-readers shows",
        sample.to_compile()
    ));
    Err(Ending::Refused(against).into())
}
