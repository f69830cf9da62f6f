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

use std::collections::{BTreeSet, VecDeque};

mod branches;
mod elsewhere;
pub(crate) mod ground;
mod here;

use self::branches::{label, whole};
use self::elsewhere::Elsewhere;
use self::ground::{Ground, Key, Located, Untraced};
use self::here::Here;
use super::{KernelNames, NO_FTRACE_SITE, UNSEEN_OLD_CODE, patchable, verdict};
use crate::Author;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::Group;
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::Object;

/// How many functions may be carried or patched for the sake of one that changed. Each of them can hold up a transition.
const LIMIT: usize = 64;

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
