//! Changed functions that the tracer cannot hook: their new versions are reached through their callers.
//!
//! The kernel redirects a function at its ftrace site. One without (`notrace`, and with it every `inline` function that
//! the compiler did not inline; `noinstr`; files that are compiled without the tracer) goes on as it is. But whoever
//! calls it directly can be redirected instead: the livepatch carries the new version, and every caller is patched,
//! though it does nothing else than before, so that its call leads to the one that is carried. A caller without a site
//! is carried in turn, and its callers are patched.
//!
//! That holds only if nobody else comes to the old version, so each reference of the original object must be a branch
//! of a function to the very entry. An address in data, in a register or in a table may be called by anybody, from a
//! place that nobody sees. A function that other files can name has callers that no object of this unit shows.
//! docs/decisions/functions-without-a-site.md has the rest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::elsewhere::Elsewhere;
use super::{KernelNames, NO_FTRACE_SITE, UNSEEN_OLD_CODE, patchable, verdict};
use crate::Author;
use crate::arch::Use;
use crate::compare::{self, UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Class, Object, Reloc, Target};
use crate::world::Wanted;

type Key = (UnitId, Id<Patched, Atom>);

/// A function, and a part that was split off it.
type Part<S> = (Id<S, Atom>, Id<S, Atom>);

/// Who branches to a function, and whether that is a jump; nothing if it is the function itself.
type Branch<S> = Option<(Id<S, Atom>, bool)>;

/// How many functions may be carried or patched for the sake of one that changed. Each of them can hold up a transition.
const LIMIT: usize = 64;

/// The start of the names that the kernel's BTF identifiers of functions have (include/linux/btf_ids.h, `BTF_ID`): BPF
/// programs call what they name.
const BTF_FUNCTION: &str = "__BTF_ID__func__";

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

/// Finds the callers of all changed functions that have no site. What is static is looked for in its file; if that is not
/// enough, in the whole image, if it is there.
pub fn reach(group: &Group<'_>, verdicts: &[UnitVerdicts], kernel: &dyn KernelNames, author: &Author<'_>) -> Untraced {
    let mut found = Untraced::default();
    let mut jumped_to = Vec::new();
    for (unit, atom) in patchable::changed_functions(group, verdicts) {
        let pair = &group.units[unit];
        let twin = pair.pairing.orig_of[atom].filter(|_| !pair.patched.is_part(atom));
        let Some(twin) = twin.filter(|twin| patchable::tracing_site(&pair.orig, *twin).is_none()) else {
            continue;
        };
        let walk = |ground: &dyn Ground, start| back(group, verdicts, ground, start);
        let here = Here {
            group,
            unit,
            parts: pair.orig.parts(),
        };
        let reached = match (walk(&here, twin), author.world.filter(|_| pair.parent.is_vmlinux())) {
            (Err(_), Some(world)) => {
                let image = Elsewhere { group, kernel, world };
                image.start(unit, twin).and_then(|start| walk(&image, start))
            }
            (near, _) => near,
        };
        let ((more, jumper), why) = match reached {
            Ok(reached) => (reached, None),
            Err(why) => (Reached::default(), Some(why)),
        };
        let wanted = more
            .wanted
            .first()
            .map(|wanted| format!("its caller `{}` is not looked at", wanted.name));
        found
            .refusals
            .extend(why.or(wanted).map(|why| refuse(&pair.patched, atom, &why)));
        found.callers.extend(more.callers);
        found.carried.extend(more.carried);
        found.refusals.extend(more.refusals);
        found.wanted.extend(more.wanted);
        jumped_to.extend(jumper.map(|by| ((unit, atom), by)));
    }
    if !author.edits_one_function() {
        found.refusals.extend(mixed(group, verdicts, &jumped_to));
    }
    found
}

fn refuse(object: &Object<'_, Patched>, atom: Id<Patched, Atom>, why: &str) -> Refusal {
    let why = format!("the tracer cannot redirect it, and not all calls of it can be patched instead: {why}");
    Refusal::new(NO_FTRACE_SITE, object.subject(atom), why)
        .hint("leave it as it is, and make the change in functions that call it and can be traced")
}

/// A task that has come to the old version by a jump has no patched function on its stack: it counts as switched while it
/// is still in the old code, which may call what else changes. If nothing else does, it cannot tell the difference.
fn mixed(group: &Group<'_>, verdicts: &[UnitVerdicts], jumped_to: &[(Key, String)]) -> Vec<Refusal> {
    let own = |(unit, atom): &Key| {
        let pair = &group.units[*unit];
        let twin = pair.pairing.orig_of[*atom];
        let traced = twin.is_some_and(|twin| patchable::tracing_site(&pair.orig, twin).is_some());
        traced.then(|| names::readable(&pair.patched.label(*atom)))
    };
    let Some(other) = patchable::changed_functions(group, verdicts).iter().find_map(own) else {
        return Vec::new();
    };
    let refuse = |((unit, atom), by): &(Key, String)| {
        let object = &group.units[*unit].patched;
        let why = format!(
            "`{by}` goes on to it by a jump, so a task in its old version may count as switched and meet the new `{other}`"
        );
        let name = object.name(*atom).map_or("?", names::unpromoted);
        Refusal::new(UNSEEN_OLD_CODE, object.subject(*atom), why).hint(format!(
            "make two livepatches of it; or, if the old version gets along with everything else that changes, accept it \
             with --accept {name}"
        ))
    };
    jumped_to.iter().map(refuse).collect()
}

/// What a walk found, and a function with a site that comes to one without by a jump.
type Reached = (Untraced, Option<String>);

/// Where callers are looked for. What goes wrong is half a sentence.
pub(super) trait Ground {
    /// The object that shows who refers to what.
    fn object(&self) -> &Object<'_, Orig>;

    /// Who branches to a function. It goes along, unless the patch removes it.
    fn callers_of(&self, callee: Id<Orig, Atom>, found: &mut Untraced) -> Result<Vec<Caller<Orig>>, String>;

    /// Where a function is among the pairs; nothing if it is in none of them, and wanted.
    fn locate(&self, function: Id<Orig, Atom>, found: &mut Untraced) -> Result<Option<Located>, String>;
}

/// A function among the pairs.
pub(super) type Located = (UnitId, Id<Orig, Atom>);

/// Goes back from a function to its callers, and on from those that cannot be redirected either, to functions with a site.
fn back(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    ground: &dyn Ground,
    start: Id<Orig, Atom>,
) -> Result<Reached, String> {
    let object = ground.object();
    let mut found = Untraced::default();
    let (mut seen, mut open) = (BTreeSet::from([start]), VecDeque::from([start]));
    let (mut redirected, mut jumper) = (false, None);
    while let Some(callee) = open.pop_front() {
        let callers = ground.callers_of(callee, &mut found);
        for caller in callers.map_err(|why| of(object, callee, start, &why))? {
            let traced = patchable::tracing_site(object, caller.by).is_some();
            let stays = match ground.locate(caller.by, &mut found)? {
                Some(place) => take(group, verdicts, place, &label(object, callee), &mut found)?,
                None => true,
            };
            if traced && stays {
                redirected = true;
                if caller.jumps {
                    jumper.get_or_insert_with(|| label(object, caller.by));
                }
            } else if seen.insert(caller.by) {
                open.push_back(caller.by);
            }
        }
        if seen.len() + found.callers.len() + found.wanted.len() > LIMIT {
            return Err(format!("it takes more than {LIMIT} functions"));
        }
    }
    match redirected {
        true => Ok((found, jumper)),
        false => Err("nothing that is there after boot calls it".to_owned()),
    }
}

/// Takes a caller along, if it is the same on both sides. Whether the patch leaves it in the kernel.
fn take(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    (unit, caller): Located,
    callee: &str,
    found: &mut Untraced,
) -> Result<bool, String> {
    let pair = &group.units[unit];
    // Nobody goes into a function that is gone if all of its callers are redirected.
    let Some(twin) = pair.pairing.patched_of[caller] else {
        return Ok(false);
    };
    if verdicts[unit].overlooked.contains(&twin) {
        let name = label(&pair.patched, twin);
        return Err(format!("the patch wants its caller `{name}` left as it is"));
    }
    for atom in whole(twin, &pair.patched.parts()) {
        if *verdict(verdicts, unit, atom) == Verdict::Same {
            let known = found.callers.entry((unit, atom));
            known.or_insert_with(|| callee.to_owned());
        }
    }
    Ok(true)
}

/// The file of a function: enough for one that other files cannot name.
struct Here<'a, 'd> {
    group: &'a Group<'d>,
    unit: UnitId,
    parts: Vec<Part<Orig>>,
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

/// Takes a function without a site along, unless the patch removes it. Who calls it on the patched side is known; a pointer
/// there would be new, and lead to the old version. Gives the function of the patched side.
pub(super) fn carry(
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

/// The same about another function than the one that changed.
fn of<S: Side>(object: &Object<'_, S>, about: Id<S, Atom>, changed: Id<S, Atom>, why: &str) -> String {
    match about == changed {
        true => why.to_owned(),
        false => format!(
            "of its caller `{}`, which cannot be traced either: {why}",
            label(object, about)
        ),
    }
}

/// A function with the parts that were split off it.
pub(super) fn whole<S: Side>(function: Id<S, Atom>, parts: &[Part<S>]) -> BTreeSet<Id<S, Atom>> {
    let own = parts.iter().filter(|(parent, _)| *parent == function);
    own.map(|(_, part)| *part).chain([function]).collect()
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

/// Whether an object has an identifier of a function for BPF.
pub(super) fn is_for_bpf<S: Side>(object: &Object<'_, S>, label: &str) -> bool {
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
pub(super) struct Caller<S> {
    /// The function, and not a part of it.
    pub by: Id<S, Atom>,
    /// Whether it does not come back: nothing of it is on the stack then.
    pub jumps: bool,
}

/// All functions of an object that branch to a function. What else has a reference to it, is half a sentence. Boot code
/// does not count where it is `gone`.
pub(super) fn mentions<S: Side>(
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

fn label<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> String {
    names::readable(&object.label(atom))
}
