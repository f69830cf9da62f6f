//! What a patch changes, without a kernel to resolve it against: the first four phases and nothing else.

use crate::Author;
use crate::compare::{self, Lines};
use crate::error::Stop;
use crate::group::{Group, Input};
use crate::ignored::Ignored;
use crate::select::{self, Finish};

/// A phase that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Both sides were read and their pieces paired.
    Correlate,
    /// The pairs were compared.
    Compare,
    /// What a livepatch needs was selected.
    Select,
}

/// What a livepatch of some units would consist of.
#[derive(Debug)]
pub struct Changes {
    /// Changed functions, by unit and by their name in the patched object.
    pub functions: Vec<(String, String)>,
    /// How many pieces would be in the livepatch: functions, variables, strings, entries of tables.
    pub pieces: usize,
    /// Differences that were left out, with the reason.
    pub ignored: Vec<Ignored>,
}

/// Reads, pairs and compares units. `ended` hears of each phase when it is over, for those who measure.
///
/// # Errors
/// [`Stop::NoChange`] if nothing that runs changed, [`Stop::BootOnly`] if boot code did; [`Stop::Refused`] with every reason against it; [`Stop::Failed`]
/// for damaged input.
pub fn changes(inputs: &[Input<'_>], ended: &mut dyn FnMut(Phase)) -> Result<Changes, Stop> {
    let group = Group::read(inputs)?;
    ended(Phase::Correlate);
    let verdicts = compare::group(&group, Lines::Count);
    ended(Phase::Compare);
    let selection = select::elements(
        &group,
        &verdicts,
        &select::NoKernel,
        &[],
        &Author::default(),
        Finish::Objtool,
    );
    ended(Phase::Select);
    let selection = selection?;
    let name = |unit: usize, atom| {
        let unit = &group.units[unit];
        (unit.name.clone(), unit.patched.label(atom))
    };
    Ok(Changes {
        functions: selection
            .functions
            .iter()
            .map(|(unit, atom)| name(*unit, *atom))
            .collect(),
        pieces: selection.atoms.len(),
        ignored: selection.ignored,
    })
}
