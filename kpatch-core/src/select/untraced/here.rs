//! Callers in the file of a changed function.

use std::collections::BTreeSet;

use super::branches::{Caller, Part, is_for_bpf, mentions, whole};
use super::ground::{Ground, Located, Untraced, carry};
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Orig, Side};
use crate::names;
use crate::read::Object;

/// The file of a function: enough for one that other files cannot name.
pub struct Here<'a, 'd> {
    pub group: &'a Group<'d>,
    pub unit: UnitId,
    pub parts: Vec<Part<Orig>>,
}

impl Ground for Here<'_, '_> {
    fn object(&self) -> &Object<'_, Orig> {
        &self.group.units[self.unit].orig
    }

    fn callers_of(&self, callee: Id<Orig, Atom>, found: &mut Untraced) -> Result<Vec<Caller<Orig>>, String> {
        let pair = &self.group.units[self.unit];
        let whole = whole(callee, &self.parts);
        only_here(&pair.orig, &whole)?;
        let callers = mentions(&pair.orig, &whole, pair.parent.is_vmlinux())?;
        carry(self.group, (self.unit, callee), found)?;
        Ok(callers)
    }

    fn locate(&self, function: Id<Orig, Atom>, _: &mut Untraced) -> Result<Option<Located>, String> {
        Ok(Some((self.unit, function)))
    }
}

/// Refuses a function that another object may name.
fn only_here<S: Side>(object: &Object<'_, S>, whole: &BTreeSet<Id<S, Atom>>) -> Result<(), String> {
    for atom in whole {
        let row = &object.atoms[*atom];
        let label = object.label(*atom);
        let inside = |value: u64| (row.start..row.end).contains(&value);
        let global = object
            .symbols
            .iter()
            .find(|(_, symbol)| symbol.section == Some(row.section) && inside(symbol.st_value) && !symbol.is_local());
        if let Some((_, symbol)) = global {
            let name = names::readable(symbol.name);
            return Err(format!("`{name}` is not static, so other files may call it"));
        }
        if is_for_bpf(object, &label) {
            return Err(format!("BPF programs may call `{label}`"));
        }
        if !row.symbol.is_some_and(|symbol| object.symbols[symbol].is_function()) {
            return Err(format!("`{label}` is not known to be a function"));
        }
    }
    Ok(())
}
