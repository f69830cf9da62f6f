//! Everything that is connected with a piece of boot code, and whether it is an island: no way leads from it to what runs
//! later, in either direction.
//!
//! Neighbours are what it refers to and what refers to it: an unchanged function at boot may store what a changed one
//! returns, or hand it the address to write to. So the walk goes both ways, over functions and data. What belongs to the
//! boot code, or is used by nobody else, goes along. The island may use functions of the kernel that leave nothing behind
//! ([`LEAVES_NOTHING`]). Anything else is an obstacle.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::{self, Group, Meaning, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Class, Object, Target};

/// Functions of the kernel that have no effect but on what their arguments point to, their result, and the log.
const LEAVES_NOTHING: &[&str] = &[
    "_printk",
    "printk",
    "__warn_printk",
    "panic",
    "dump_stack",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "__memcpy",
    "__memmove",
    "__memset",
    "strcasecmp",
    "strchr",
    "strcmp",
    "strlen",
    "strncasecmp",
    "strncmp",
    "strnlen",
    "strrchr",
    "strscpy",
    "sized_strscpy",
    "strsep",
    "strstr",
    "scnprintf",
    "snprintf",
    "sprintf",
    "get_option",
    "get_options",
    "kstrtobool",
    "kstrtoint",
    "kstrtoll",
    "kstrtouint",
    "kstrtoul",
    "kstrtoull",
    "match_string",
    "memparse",
    "parse_option_str",
    "simple_strtol",
    "simple_strtoul",
    "simple_strtoull",
    "__stack_chk_fail",
    "__fortify_panic",
    "__x86_return_thunk",
];

/// A piece of one side.
#[derive(Clone, Copy)]
pub enum Place {
    /// Of the kernel.
    Orig(Id<Orig, Atom>),
    /// Of the patched objects.
    Patched(Id<Patched, Atom>),
}

/// Both sides of all units.
pub struct Sides<'a, 'd> {
    orig: SideView<'a, 'd, Orig>,
    patched: SideView<'a, 'd, Patched>,
}

impl<'a, 'd> Sides<'a, 'd> {
    /// Those of a group.
    pub fn of(group: &'a Group<'d>) -> Self {
        let orig = group.units.iter().map(|unit| &unit.orig).collect();
        let patched = group.units.iter().map(|unit| &unit.patched).collect();
        Sides {
            orig: SideView::new(orig, Box::new(|unit, target| group.orig_meaning(unit, target))),
            patched: SideView::new(patched, Box::new(|unit, target| group.patched_meaning(unit, target))),
        }
    }

    /// The first way that leads from one of these places to what runs later, in words.
    pub fn obstacle(&self, places: &[Place], unit: UnitId) -> Option<String> {
        places.iter().find_map(|place| match place {
            Place::Orig(atom) => self.orig.obstacle((unit, *atom), &self.patched.lasting),
            Place::Patched(atom) => self.patched.obstacle((unit, *atom), &self.orig.lasting),
        })
    }
}

type Key<S> = (UnitId, Id<S, Atom>);
type Meanings<'a, 'd, S> = Box<dyn Fn(UnitId, &Target<S>) -> Meaning<'d, S> + 'a>;

/// What is used by code or data that stays, by unit and name, with one of the users.
type Lasting = BTreeMap<(UnitId, String), String>;

struct SideView<'a, 'd, S: Side> {
    objects: Vec<&'a Object<'d, S>>,
    meaning: Meanings<'a, 'd, S>,
    /// Who refers to each piece.
    users: BTreeMap<Key<S>, BTreeSet<Key<S>>>,
    lasting: Lasting,
}

impl<'a, 'd, S: Side> SideView<'a, 'd, S> {
    fn new(objects: Vec<&'a Object<'d, S>>, meaning: Meanings<'a, 'd, S>) -> Self {
        let mut view = SideView {
            objects,
            meaning,
            users: BTreeMap::new(),
            lasting: Lasting::new(),
        };
        for (unit, object) in view.objects.iter().enumerate() {
            for from in object.atoms.ids() {
                for reloc in object.relocs(from) {
                    if let Meaning::Here(group::Place { unit: to, atom, .. }) = (view.meaning)(unit, &reloc.target) {
                        view.users.entry((to, atom)).or_default().insert((unit, from));
                    }
                }
            }
        }
        for (to, users) in &view.users {
            if let Some(user) = users.iter().find(|user| *user != to && view.stays(**user)) {
                view.lasting.insert((to.0, view.name(*to)), view.name(*user));
            }
        }
        view
    }

    fn name(&self, (unit, atom): Key<S>) -> String {
        names::plain(&self.objects[unit].label(atom)).to_owned()
    }

    /// Whether it is there after boot. Rows of tables about code go with that code.
    fn stays(&self, (unit, atom): Key<S>) -> bool {
        let object = self.objects[unit];
        let row = object.atoms[atom].kind;
        !matches!(object.class(atom), Class::Init) && !matches!(row, AtomKind::Entry | AtomKind::Piece)
    }

    /// Goes over the island of a piece, up to the first way that leads off it.
    fn obstacle(&self, from: Key<S>, other: &Lasting) -> Option<String> {
        let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(key) = open.pop() {
            if let Some(why) = self.foreign(key, other).or_else(|| self.unclear_code(key)) {
                return Some(why);
            }
            let neighbours = self.refers_to(key).map(|found| [found, self.used_by(key)].concat());
            match neighbours {
                Ok(neighbours) => open.extend(neighbours.into_iter().filter(|next| seen.insert(*next))),
                Err(why) => return Some(why),
            }
        }
        None
    }

    /// Whether a piece is no part of an island: it stays, and somebody who stays uses it, or could.
    fn foreign(&self, key: Key<S>, other: &Lasting) -> Option<String> {
        let object = self.objects[key.0];
        if self.is_content(key) {
            return None;
        }
        let name = self.name(key);
        let at = (key.0, name.clone());
        let what = self.what(key);
        if let Some(user) = self.lasting.get(&at).or_else(|| other.get(&at)) {
            return Some(format!("{what} `{name}` is used by `{user}`, which stays"));
        }
        let row = &object.atoms[key.1];
        let symbols = row.symbol.iter().chain(&row.aliases).map(|id| &object.symbols[*id]);
        let global = symbols
            .into_iter()
            .any(|symbol| !symbol.is_local() && !symbol.name.starts_with("__initstub__"));
        global.then(|| format!("{what} `{name}` can be used by other files"))
    }

    fn what(&self, (unit, atom): Key<S>) -> &'static str {
        match self.objects[unit].atoms[atom].kind {
            AtomKind::Function => "the function",
            _ => "the variable",
        }
    }

    /// Constants, of which nobody can tell who reads them: what counts is where they lead.
    fn is_content(&self, (unit, atom): Key<S>) -> bool {
        self.objects[unit].class(atom).is_constant()
    }

    /// Code whose calls cannot all be seen.
    fn unclear_code(&self, (unit, atom): Key<S>) -> Option<String> {
        let object = self.objects[unit];
        let row = &object.atoms[atom];
        if row.kind != AtomKind::Function {
            return None;
        }
        let code = object.bytes(atom).get((row.anchor - row.start) as usize..)?;
        let clear = object.arch.stays_by_name(code);
        (!clear).then(|| {
            let name = self.name((unit, atom));
            format!("`{name}` calls through a pointer or changes the state of the processor, as far as can be seen")
        })
    }

    /// What a piece refers to, as far as it goes along.
    fn refers_to(&self, key: Key<S>) -> Result<Vec<Key<S>>, String> {
        let (unit, atom) = key;
        let object = self.objects[unit];
        let mut found = Vec::new();
        for reloc in object.relocs(atom) {
            match (self.meaning)(unit, &reloc.target) {
                Meaning::Absolute(_) => {}
                Meaning::Here(place) => match self.objects[place.unit].atoms[place.atom].kind {
                    AtomKind::String | AtomKind::Entry => {}
                    _ => found.push((place.unit, place.atom)),
                },
                Meaning::Elsewhere { name, .. } if self.leaves_nothing(object, name) => {}
                Meaning::Elsewhere { name, .. } => {
                    let from = self.name(key);
                    return Err(format!("`{from}` uses `{name}` of another file"));
                }
            }
        }
        Ok(found)
    }

    fn leaves_nothing(&self, object: &Object<'d, S>, name: &str) -> bool {
        LEAVES_NOTHING.contains(&name)
            || object.arch.facts().tracing.is_callee(name)
            || name.starts_with("__ubsan_handle_")
            || name.starts_with("__sanitizer_cov_")
    }

    /// Who refers to a piece of boot code, or to what only boot code uses. Who reads a constant is no matter.
    fn used_by(&self, key: Key<S>) -> Vec<Key<S>> {
        let users = self.users.get(&key).into_iter().flatten();
        // Of the rows about some code only those count that bring other code.
        let counts = |user: &&Key<S>| {
            let object = self.objects[user.0];
            let row = &object.atoms[user.1];
            let special = object.sections[row.section].special;
            match row.kind {
                AtomKind::Entry => special.is_some_and(|special| special.names_replacements),
                AtomKind::Piece => false,
                _ => true,
            }
        };
        match self.is_content(key) {
            true => Vec::new(),
            false => users.filter(counts).copied().collect(),
        }
    }
}
