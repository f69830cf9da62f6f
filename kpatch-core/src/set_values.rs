//! Variables that a livepatch sets when it is loaded, and puts back when it goes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Refusal, Stop, Subject};
use crate::group::{Group, ObjectName};
use crate::macros::{Callback, Moment};
use crate::names;
use crate::resolve::Routes;
use crate::select::{DATA_CHANGED, Selection};

/// The functions that the builder writes for that, with the moments at which livepatch calls them. For a module a number
/// follows.
const SETTERS: [(&str, Moment); 2] = [
    ("klp_set_values", Moment::PrePatch),
    ("klp_put_values_back", Moment::PostUnpatch),
];

/// Whether the builder writes this callback; the others are the author's.
pub fn is_setter(handle: &str) -> bool {
    SETTERS.iter().any(|(name, _)| {
        let rest = handle.strip_prefix(name);
        let number = |rest: &str| {
            rest.strip_prefix('_')
                .is_some_and(|number| number.parse::<usize>().is_ok())
        };
        rest.is_some_and(|rest| rest.is_empty() || number(rest))
    })
}

/// A variable that has another number while the livepatch is there, unless somebody has changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetValue {
    /// Its name.
    pub name: String,
    /// The image or the module that it belongs to.
    pub object: ObjectName,
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
            object: unit.parent.clone(),
            unit: unit.name.clone(),
            symbol: symbol.clone(),
            size: value.size,
            from: value.from,
            to: value.to,
        }
    });
    set.collect()
}

/// The callbacks that set these variables, beside those of the author. A module begins with the old value whenever it is
/// loaded, and livepatch calls them each time.
///
/// # Errors
/// [`DATA_CHANGED`] if the author has one for the same object and moment: livepatch calls only one.
pub(crate) fn callbacks(values: &[SetValue], own: &[Callback]) -> Result<Vec<Callback>, Stop> {
    // The image is the first in this order, if it has any.
    let firsts: BTreeMap<(bool, &ObjectName), &SetValue> = values
        .iter()
        .rev()
        .map(|value| ((!value.object.is_vmlinux(), &value.object), value))
        .collect();
    let mut made = Vec::new();
    for (index, (_, value)) in (1..).zip(firsts) {
        for (name, moment) in SETTERS {
            let taken = own
                .iter()
                .find(|own| own.object == value.object && own.moment == moment);
            if let Some(taken) = taken {
                let at = Subject::file(&value.unit).symbol(&value.name);
                let why = format!(
                    "it cannot be set for you: the patch has a {moment} callback of its own, `{}`",
                    taken.name
                );
                let refusal = Refusal::new(DATA_CHANGED, at, why).hint("set the value in that callback");
                return Err(Stop::from(refusal));
            }
            let name = match value.object.is_vmlinux() {
                true => name.to_owned(),
                false => format!("{name}_{index}"),
            };
            made.push(Callback {
                object: value.object.clone(),
                moment,
                unit: value.unit.clone(),
                handle: name.clone(),
                name,
            });
        }
    }
    Ok(made)
}
