//! What a search for callers finds, and where it may look.

use std::collections::{BTreeMap, BTreeSet};

use super::branches::{Caller, mentions, whole};
use crate::error::Refusal;
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::read::Object;
use crate::world::Wanted;

pub type Key = (UnitId, Id<Patched, Atom>);

/// What reaches the new versions of changed functions without a site.
#[derive(Default)]
pub struct Untraced {
    /// Functions that do the same as before and are patched or carried, with the name of the one that they call. Parts
    /// that were split off them come with them.
    pub callers: BTreeMap<Key, String>,
    /// Functions without a site that are in the livepatch, with their parts: no table of the kernel names them.
    pub carried: BTreeSet<Key>,
    /// What speaks against it.
    pub refusals: Vec<Refusal>,
    /// Callers in other files, which must be among the units.
    pub wanted: BTreeSet<Wanted>,
}

/// Where callers are looked for. What goes wrong is half a sentence.
pub trait Ground {
    /// The object that shows who refers to what.
    fn object(&self) -> &Object<'_, Orig>;

    /// Who branches to a function. It goes along, unless the patch removes it.
    fn callers_of(&self, callee: Id<Orig, Atom>, found: &mut Untraced) -> Result<Vec<Caller<Orig>>, String>;

    /// Where a function is among the pairs; nothing if it is in none of them, and wanted.
    fn locate(&self, function: Id<Orig, Atom>, found: &mut Untraced) -> Result<Option<Located>, String>;
}

/// A function among the pairs.
pub type Located = (UnitId, Id<Orig, Atom>);

/// Takes a function without a site along, unless the patch removes it. Who calls it on the patched side is known; a pointer
/// there would be new, and lead to the old version. Gives the function of the patched side.
pub fn carry(
    group: &Group<'_>,
    (unit, function): Located,
    found: &mut Untraced,
) -> Result<Option<Id<Patched, Atom>>, String> {
    let pair = &group.units[unit];
    let Some(twin) = pair.pairing.patched_of[function] else {
        return Ok(None);
    };
    let own = whole(twin, &pair.patched.parts());
    mentions(&pair.patched, &own, true).map_err(|why| format!("with the patch, {why}"))?;
    found.carried.extend(own.into_iter().map(|atom| (unit, atom)));
    Ok(Some(twin))
}
