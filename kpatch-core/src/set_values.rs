//! Variables that a livepatch sets when it is loaded, and puts back when it goes.

use serde::Serialize;

use crate::error::{Refusal, Stop, Subject};
use crate::group::{Group, ObjectName};
use crate::macros::{Callback, Moment};
use crate::names;
use crate::resolve::Routes;
use crate::select::{DATA_CHANGED, Selection};

/// The functions that the builder writes for that, with the moments at which livepatch calls them.
pub const SETTERS: [(&str, Moment); 2] = [
    ("klp_set_values", Moment::PrePatch),
    ("klp_put_values_back", Moment::PostUnpatch),
];

/// A variable that has another number while the livepatch is there, unless somebody has changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetValue {
    /// Its name.
    pub name: String,
    /// The unit that has it.
    pub unit: String,
    /// What it is called until the module is linked.
    #[serde(skip)]
    pub symbol: String,
    /// Bytes of the number.
    pub size: u8,
    /// The number that it begins with in the running kernel.
    pub from: u64,
    /// The number that it begins with in the patched one.
    pub to: u64,
}

/// The variables of a selection.
pub(crate) fn of(group: &Group<'_>, selection: &Selection<'_>, routes: &Routes) -> Vec<SetValue> {
    let named = selection.values.iter().zip(&routes.values);
    let set = named.map(|(value, symbol)| {
        let unit = &group.units[value.unit];
        SetValue {
            name: names::readable(&unit.patched.label(value.patched)),
            unit: unit.name.clone(),
            symbol: symbol.clone(),
            size: value.size,
            from: value.from,
            to: value.to,
        }
    });
    set.collect()
}

/// The callbacks that set these variables, beside those of the author.
///
/// # Errors
/// [`DATA_CHANGED`] if the author has one for the same moment: livepatch calls only one.
pub(crate) fn callbacks(values: &[SetValue], own: &[Callback]) -> Result<Vec<Callback>, Stop> {
    let Some(value) = values.first() else {
        return Ok(Vec::new());
    };
    let of_author = |moment: Moment| own.iter().find(|own| own.object.is_vmlinux() && own.moment == moment);
    let made = SETTERS.iter().map(|(name, moment)| match of_author(*moment) {
        Some(taken) => {
            let at = Subject::file(&value.unit).symbol(&value.name);
            let why = format!(
                "it cannot be set for you: the patch has a {moment} callback of its own, `{}`",
                taken.name
            );
            Err(Stop::from(
                Refusal::new(DATA_CHANGED, at, why).hint("set the value in that callback"),
            ))
        }
        None => Ok(Callback {
            object: ObjectName::vmlinux(),
            moment: *moment,
            name: (*name).to_owned(),
            unit: value.unit.clone(),
            handle: (*name).to_owned(),
        }),
    });
    made.collect()
}
