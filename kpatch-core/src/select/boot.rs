//! Boot code that the patch changes: it has run, and a livepatch cannot make it run again. Leaving it out is right if
//! nothing of the livepatch counts on what it does differently.
//!
//! If the livepatch would be empty, nothing can count on anything. Otherwise there are two proofs. A function that the
//! patch does not edit has other code only because it has changed code inlined: at boot it ran the old version of that,
//! as every other caller did. For all else, everything that is connected with the change among the boot code is looked at
//! on both sides ([`island`]): if it touches nothing that outlives the boot, what it does differently is gone with it.
//!
//! The boot code of a module runs whenever the module is loaded, so none of this holds there.

mod island;

use std::collections::BTreeSet;

use super::{Finish, INIT_CODE};
use crate::Author;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::{Refusal, Subject};
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Class, Object};

use island::{Place, Sides};

/// What speaks against leaving the changes out.
#[derive(Default)]
pub struct Boot {
    /// Whether the next boot would differ.
    pub differs: bool,
    /// Changes that cannot be left out.
    pub refusals: Vec<Refusal>,
}

/// Looks at every change of boot code. `patches`: whether the livepatch has anything in it.
pub fn judge(group: &Group<'_>, verdicts: &[UnitVerdicts], author: &Author<'_>, finish: Finish, patches: bool) -> Boot {
    let mut boot = Boot::default();
    let changes = changes(group, verdicts);
    if changes.is_empty() {
        return boot;
    }
    let sides = Sides::of(group);
    let inlined = Inlined::of(group, author);
    for change in changes {
        let unit = &group.units[change.unit];
        if finish == Finish::Copied {
            // Other objects are not in view.
            let alone = || refuse(&change, "it ran at boot and is gone");
            boot.refusals.extend(change.difference.is_some().then(alone));
            continue;
        }
        boot.differs |= unit.parent.is_vmlinux() && !change.about.is_exit;
        let against = match &change {
            _ if !change.was_boot_code(unit) => Some("code that runs later had it before".to_owned()),
            _ if !unit.parent.is_vmlinux() && change.is_code() => Some(of_module(change.about.is_exit).to_owned()),
            _ if !patches || change.about.is_exit || inlined.explains(&change) => None,
            _ => sides.obstacle(&change.places(), change.unit).map(|found| {
                format!(
                    "it has run, and it cannot be shown that nothing in the livepatch needs what it does now: {found}"
                )
            }),
        };
        boot.refusals.extend(against.map(|why| refuse(&change, &why)));
    }
    boot
}

fn of_module(exit: bool) -> &'static str {
    if exit {
        "the module runs it when it is removed, and a livepatch cannot change it there"
    } else {
        "the module runs it whenever it is loaded, and a livepatch cannot change it there"
    }
}

fn refuse(change: &Change, why: &str) -> Refusal {
    let why = match &change.difference {
        Some(difference) => format!("{why} ({difference})"),
        None => why.to_owned(),
    };
    let name = &change.about.name;
    Refusal::new(INIT_CODE, change.about.at.clone(), why).hint(format!(
        "leave it out of the livepatch, or repair what it set up in a function that still runs; or, if what runs later gets \
         along with what the old version did, accept it with --accept {name}"
    ))
}

/// Boot code or data that differs.
struct Change {
    unit: UnitId,
    about: About,
    orig: Option<Id<Orig, Atom>>,
    patched: Option<Id<Patched, Atom>>,
    /// How it differs, if both sides have it.
    difference: Option<String>,
    /// Whether a list of what boot calls names it, and its content may be the same.
    listed: bool,
}

/// What is known of it by the side that has it, the patched one first.
struct About {
    at: Subject,
    name: String,
    is_function: bool,
    is_exit: bool,
}

impl About {
    fn of<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> Self {
        About {
            at: object.subject(atom),
            name: names::plain(&object.label(atom)).to_owned(),
            is_function: object.atoms[atom].kind == AtomKind::Function,
            is_exit: object.is_exit(atom),
        }
    }
}

impl Change {
    fn of_patched(index: UnitId, unit: &Unit<'_>, atom: Id<Patched, Atom>) -> Self {
        Change {
            unit: index,
            about: About::of(&unit.patched, atom),
            orig: unit.pairing.orig_of[atom],
            patched: Some(atom),
            difference: None,
            listed: false,
        }
    }

    fn of_orig(index: UnitId, unit: &Unit<'_>, atom: Id<Orig, Atom>) -> Self {
        Change {
            unit: index,
            about: About::of(&unit.orig, atom),
            orig: Some(atom),
            patched: unit.pairing.patched_of[atom],
            difference: None,
            listed: false,
        }
    }

    fn places(&self) -> Vec<Place> {
        let orig = self.orig.map(Place::Orig);
        orig.into_iter().chain(self.patched.map(Place::Patched)).collect()
    }

    fn is_code(&self) -> bool {
        self.difference.is_some() || self.listed || self.about.is_function
    }

    /// Whether the kernel's version of it was boot code, too.
    fn was_boot_code(&self, unit: &Unit<'_>) -> bool {
        self.listed || self.orig.is_none_or(|atom| unit.orig.class(atom) == Class::Init)
    }
}

/// All changes of boot code and boot data.
fn changes(group: &Group<'_>, verdicts: &[UnitVerdicts]) -> Vec<Change> {
    let mut all = Vec::new();
    for (index, (unit, verdicts)) in group.units.iter().zip(verdicts).enumerate() {
        let patched = verdicts.of.iter().filter(|(atom, verdict)| {
            let differs = matches!(verdict, Verdict::Changed(_) | Verdict::New);
            differs && unit.patched.class(*atom) == Class::Init
        });
        all.extend(patched.map(|(atom, verdict)| Change {
            difference: match verdict {
                Verdict::Changed(difference) => Some(difference.to_string()),
                _ => None,
            },
            ..Change::of_patched(index, unit, atom)
        }));
        let gone = unit.orig.atoms.iter().filter(|(atom, row)| {
            let named = matches!(row.kind, AtomKind::Function | AtomKind::Object);
            named && unit.pairing.patched_of[*atom].is_none() && unit.orig.class(*atom) == Class::Init
        });
        all.extend(gone.map(|(atom, _)| Change::of_orig(index, unit, atom)));
        all.extend(listed(index, unit));
    }
    all
}

/// What the lists of initcalls name on one side only, or at another level.
fn listed(index: UnitId, unit: &Unit<'_>) -> Vec<Change> {
    let orig: BTreeSet<_> = unit.orig.at_boot.iter().copied().collect();
    let patched: BTreeSet<_> = unit.patched.at_boot.iter().copied().collect();
    let twin = |(list, atom): &(_, Id<Orig, Atom>)| Some((*list, unit.pairing.patched_of[*atom]?));
    let kept: BTreeSet<_> = orig.iter().filter_map(twin).collect();
    let gone = orig
        .iter()
        .filter(|row| twin(row).is_none_or(|row| !patched.contains(&row)));
    let gone = gone.map(|(_, atom)| Change::of_orig(index, unit, *atom));
    let new = patched.difference(&kept);
    let new = new.map(|(_, atom)| Change::of_patched(index, unit, *atom));
    gone.chain(new)
        .map(|change| Change { listed: true, ..change })
        .collect()
}

/// Functions whose bodies hold all that the patch changes, if they are known to be none of boot's.
struct Inlined<'a>(Option<&'a BTreeSet<(String, String)>>);

impl<'a> Inlined<'a> {
    fn of(group: &Group<'_>, author: &Author<'a>) -> Self {
        let known = |(file, name): &(String, String)| {
            let object = file.strip_suffix(".c").map(|stem| format!("{stem}.o"));
            let unit = group.units.iter().find(|unit| Some(&unit.name) == object.as_ref());
            unit.is_some_and(|unit| {
                let times = times(&unit.orig, name).chain(times(&unit.patched, name));
                let times: BTreeSet<bool> = times.collect();
                times == BTreeSet::from([false])
            })
        };
        Inlined(author.edits.filter(|edits| edits.iter().all(known)))
    }

    /// Whether the patch does not touch it, so that all it has is other code inlined.
    fn explains(&self, change: &Change) -> bool {
        let base = change.about.name.split('.').next().unwrap_or_default();
        let untouched = self.0.is_some_and(|edits| edits.iter().all(|(_, name)| name != base));
        change.about.is_function && !change.listed && untouched
    }
}

/// Of each function of a name, whether it is boot code. A copy of it for certain callers counts if it is.
fn times<'o, S: Side>(object: &'o Object<'_, S>, wanted: &'o str) -> impl Iterator<Item = bool> + 'o {
    let functions = object.atoms.iter().filter(|(_, row)| row.kind == AtomKind::Function);
    functions.filter_map(move |(id, row)| {
        let at_boot = object.class(id) == Class::Init;
        let is_wanted = |name: &str| name == wanted || at_boot && name.split('.').next() == Some(wanted);
        let mut symbols = row.symbol.iter().chain(&row.aliases);
        let found = symbols.any(|symbol| is_wanted(names::plain(object.symbols[*symbol].name)));
        found.then_some(at_boot)
    })
}
