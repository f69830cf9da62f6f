//! Who branches to a function, within one object; any other reference is half a sentence of a refusal.

use std::collections::BTreeSet;

use crate::arch::Use;
use crate::compare;
use crate::ids::{Atom, Id, Side};
use crate::names;
use crate::read::{AtomKind, Class, Object, Reloc, Target};

/// A function, and a part that was split off it.
pub type Part<S> = (Id<S, Atom>, Id<S, Atom>);

/// Who branches to a function, and whether that is a jump; nothing if it is the function itself.
type Branch<S> = Option<(Id<S, Atom>, bool)>;

/// The start of the names that the kernel's BTF identifiers of functions have (include/linux/btf_ids.h, `BTF_ID`): BPF
/// programs call what they name.
const BTF_FUNCTION: &str = "__BTF_ID__func__";

/// A function with the parts that were split off it.
pub fn whole<S: Side>(function: Id<S, Atom>, parts: &[Part<S>]) -> BTreeSet<Id<S, Atom>> {
    let own = parts.iter().filter(|(parent, _)| *parent == function);
    own.map(|(_, part)| *part).chain([function]).collect()
}

/// Whether an object has an identifier of a function for BPF.
pub fn is_for_bpf<S: Side>(object: &Object<'_, S>, label: &str) -> bool {
    let id = |name: &str| {
        let rest = name
            .strip_prefix(BTF_FUNCTION)
            .and_then(|rest| rest.strip_prefix(label));
        rest.is_some_and(|rest| rest.starts_with("__"))
    };
    object.symbols.iter().any(|(_, symbol)| id(symbol.name))
}

/// A function that goes to another one.
#[derive(PartialEq, Eq)]
pub struct Caller<S> {
    /// The function, and not a part of it.
    pub by: Id<S, Atom>,
    /// Whether it does not come back: nothing of it is on the stack then.
    pub jumps: bool,
}

/// All functions of an object that branch to a function. What else has a reference to it, is half a sentence. Boot code
/// does not count where it is `gone`.
pub fn mentions<S: Side>(
    object: &Object<'_, S>,
    whole: &BTreeSet<Id<S, Atom>>,
    gone: bool,
) -> Result<Vec<Caller<S>>, String> {
    let parts = object.parts();
    let mut callers = Vec::new();
    for (atom, row) in object.atoms.iter() {
        for reloc in object.relocs(atom) {
            let Target::Atom { atom: to, delta } = reloc.target else {
                continue;
            };
            if !whole.contains(&to) {
                continue;
            }
            let found = match row.kind {
                AtomKind::Function => of_code(object, whole, atom, reloc, delta),
                AtomKind::Entry => match compare::owner(object, atom).is_some_and(|owner| whole.contains(&owner)) {
                    true => Ok(None),
                    false => Err(kept(object, atom)),
                },
                AtomKind::Piece => of_piece(object, whole, atom, reloc, delta),
                AtomKind::Object | AtomKind::Anonymous | AtomKind::String => {
                    match delta != 0 && is_own_table(object, whole, atom) {
                        true => Ok(None),
                        false => Err(kept(object, atom)),
                    }
                }
            };
            let Some((by, jumps)) = found? else { continue };
            if object.class(by) == Class::Init {
                match gone {
                    true => continue,
                    false => {
                        return Err(format!(
                            "`{}` of the module calls it when it starts or ends",
                            label(object, by)
                        ));
                    }
                }
            }
            let parent = parts.iter().find(|(_, part)| *part == by).map(|(parent, _)| *parent);
            let by = match parent {
                Some(parent) => parent,
                None if object.is_part(by) => {
                    return Err(format!("`{}` calls it, a part of nothing", label(object, by)));
                }
                None => by,
            };
            callers.extend((!whole.contains(&by)).then_some(Caller { by, jumps }));
        }
    }
    Ok(callers)
}

/// What a function's reference means: a branch to the entry is a call or a jump of it.
fn of_code<S: Side>(
    object: &Object<'_, S>,
    whole: &BTreeSet<Id<S, Atom>>,
    from: Id<S, Atom>,
    reloc: &Reloc<S>,
    delta: i64,
) -> Result<Branch<S>, String> {
    let row = &object.atoms[from];
    // A place inside of itself: where it goes on after a fault, a label, the other part.
    if whole.contains(&from) && (delta != 0 || reloc.usage == Use::Branch) {
        return Ok(None);
    }
    let behind = row.anchor + object.size(from);
    if !(row.anchor..behind).contains(&reloc.offset) {
        return Err(format!("code beside `{}` refers to it", label(object, from)));
    }
    match (reloc.usage, delta) {
        _ if !object.arch.is_branch(object.bytes(from), reloc.offset - row.start) => {
            Err(format!("`{}` takes its address", label(object, from)))
        }
        (Use::Branch, 0) => Ok(Some((
            from,
            !object.arch.is_call(object.bytes(from), reloc.offset - row.start),
        ))),
        (Use::Branch, _) => Err(format!("`{}` jumps into the middle of it", label(object, from))),
        _ => Err(format!("`{}` takes its address", label(object, from))),
    }
}

/// Replacement code counts as that of the functions that it is for.
fn of_piece<S: Side>(
    object: &Object<'_, S>,
    whole: &BTreeSet<Id<S, Atom>>,
    piece: Id<S, Atom>,
    reloc: &Reloc<S>,
    delta: i64,
) -> Result<Branch<S>, String> {
    let holders: BTreeSet<Option<Id<S, Atom>>> = users(object, piece)
        .into_iter()
        .map(|user| match object.atoms[user].kind {
            AtomKind::Function => Some(user),
            AtomKind::Entry => compare::owner(object, user),
            _ => None,
        })
        .collect();
    if holders
        .iter()
        .all(|holder| holder.is_some_and(|holder| whole.contains(&holder)))
        && !holders.is_empty()
    {
        return Ok(None);
    }
    let entry = reloc.usage == Use::Branch && delta == 0;
    match holders.first() {
        Some(Some(holder)) if entry && holders.len() == 1 && object.atoms[*holder].kind == AtomKind::Function => {
            let start = object.atoms[piece].start;
            let jumps = !object.arch.is_call(object.bytes(piece), reloc.offset - start);
            Ok(Some((*holder, jumps)))
        }
        _ => Err(kept(object, piece)),
    }
}

/// Whether a table of places inside of a function is used by that function alone.
fn is_own_table<S: Side>(object: &Object<'_, S>, whole: &BTreeSet<Id<S, Atom>>, table: Id<S, Atom>) -> bool {
    let local = object.atoms[table]
        .symbol
        .is_none_or(|symbol| object.symbols[symbol].is_local());
    let users = users(object, table);
    local && !users.is_empty() && users.iter().all(|user| whole.contains(user))
}

/// The atoms that refer to an atom.
fn users<S: Side>(object: &Object<'_, S>, to: Id<S, Atom>) -> Vec<Id<S, Atom>> {
    let refers = |reloc: &Reloc<S>| matches!(reloc.target, Target::Atom { atom, .. } if atom == to);
    let all = object.atoms.ids().filter(|atom| *atom != to);
    all.filter(|atom| object.relocs(*atom).iter().any(refers)).collect()
}

fn kept<S: Side>(object: &Object<'_, S>, by: Id<S, Atom>) -> String {
    format!("its address is in `{}`, where others may find it", label(object, by))
}

/// How a refusal names a function.
pub fn label<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> String {
    names::readable(&object.label(atom))
}
