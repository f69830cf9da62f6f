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
pub(super) const LIMIT: usize = 64;

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
        let mut spread = Spread::new(group, verdicts, unit);
        let near = spread.from(twin);
        let (more, jumper, why) = match (near, author.world.filter(|_| pair.parent.is_vmlinux())) {
            (Ok(()), _) => (spread.found, spread.jumper, None),
            (Err(why), None) => (Untraced::default(), None, Some(why)),
            (Err(_), Some(world)) => {
                let mut far = Elsewhere {
                    group,
                    verdicts,
                    kernel,
                    world,
                    found: Untraced::default(),
                    jumper: None,
                };
                match far.from(unit, twin) {
                    Ok(()) => (far.found, far.jumper, None),
                    Err(why) => (Untraced::default(), None, Some(why)),
                }
            }
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
    if !author.edits_one_function {
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

/// The way from one changed function to functions with a site.
struct Spread<'a, 'd> {
    group: &'a Group<'d>,
    verdicts: &'a [UnitVerdicts],
    unit: UnitId,
    parts: Vec<(Id<Orig, Atom>, Id<Orig, Atom>)>,
    found: Untraced,
    /// A function with a site that comes to one without by a jump.
    jumper: Option<String>,
}

impl<'a, 'd> Spread<'a, 'd> {
    fn new(group: &'a Group<'d>, verdicts: &'a [UnitVerdicts], unit: UnitId) -> Self {
        Spread {
            group,
            verdicts,
            unit,
            parts: group.units[unit].orig.parts(),
            found: Untraced::default(),
            jumper: None,
        }
    }

    /// Goes back from a function to its callers, and on from those that cannot be redirected either. What goes wrong is
    /// half a sentence.
    fn from(&mut self, start: Id<Orig, Atom>) -> Result<(), String> {
        let orig = &self.group.units[self.unit].orig;
        let (mut seen, mut open) = (BTreeSet::from([start]), VecDeque::from([start]));
        let mut redirected = false;
        while let Some(callee) = open.pop_front() {
            let callers = self.callers_of(callee).map_err(|why| of(orig, callee, start, &why))?;
            for caller in callers {
                let traced = patchable::tracing_site(orig, caller.by).is_some();
                let stays = self.take(caller.by, callee)?;
                if traced && stays {
                    redirected = true;
                    if caller.jumps {
                        self.jumper
                            .get_or_insert_with(|| names::readable(&orig.label(caller.by)));
                    }
                } else if seen.insert(caller.by) {
                    open.push_back(caller.by);
                }
            }
            if seen.len() + self.found.callers.len() > LIMIT {
                return Err(format!("it takes more than {LIMIT} functions"));
            }
        }
        match redirected {
            true => Ok(()),
            false => Err("nothing that is there after boot calls it".to_owned()),
        }
    }

    /// The callers of a function, which goes along unless the patch removes it.
    fn callers_of(&mut self, callee: Id<Orig, Atom>) -> Result<Vec<Caller<Orig>>, String> {
        let pair = &self.group.units[self.unit];
        let whole = whole(callee, &self.parts);
        only_here(&pair.orig, &whole)?;
        let callers = mentions(&pair.orig, &whole, pair.parent.is_vmlinux())?;
        if let Some(twin) = pair.pairing.patched_of[callee] {
            let own = self::whole(twin, &pair.patched.parts());
            // Who calls it on the patched side is known; a pointer there would be new, and lead to the old version.
            mentions(&pair.patched, &own, true).map_err(|why| format!("with the patch, {why}"))?;
            self.found.carried.extend(own.into_iter().map(|atom| (self.unit, atom)));
        }
        Ok(callers)
    }

    /// Takes a caller along, if it is the same on both sides. Whether the patch leaves it in the kernel.
    fn take(&mut self, caller: Id<Orig, Atom>, callee: Id<Orig, Atom>) -> Result<bool, String> {
        let pair = &self.group.units[self.unit];
        // Nobody goes into a function that is gone if all of its callers are redirected.
        let Some(twin) = pair.pairing.patched_of[caller] else {
            return Ok(false);
        };
        if self.verdicts[self.unit].overlooked.contains(&twin) {
            let name = names::readable(&pair.patched.label(twin));
            return Err(format!("the patch wants its caller `{name}` left as it is"));
        }
        let name = names::readable(&pair.orig.label(callee));
        for atom in whole(twin, &pair.patched.parts()) {
            if *verdict(self.verdicts, self.unit, atom) == Verdict::Same {
                self.found
                    .callers
                    .entry((self.unit, atom))
                    .or_insert_with(|| name.clone());
            }
        }
        Ok(true)
    }
}

/// The same about another function than the one that changed.
pub(super) fn of<S: Side>(object: &Object<'_, S>, about: Id<S, Atom>, changed: Id<S, Atom>, why: &str) -> String {
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
