//! What a patch moves in memory: members of structures, and parts of variables.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Layout, LayoutChange, Layouts, Member, Rename, Variable, shortened};

/// Limit of members when two structures are taken apart; a structure with more counts as different.
const MOST_PARTS: usize = 1 << 14;

/// Limit of nested structures; only damaged files have more.
const DEEPEST: usize = 64;

/// Structures and variables whose layout differs on the patched side.
pub(super) fn changes(orig: &Layouts, patched: &Layouts, is_renamed: &dyn Fn(Rename<'_>) -> bool) -> Vec<LayoutChange> {
    let renamed = renamed(orig, patched, is_renamed);
    if renamed.is_empty() {
        return Sides { orig, patched }.changes(&BTreeMap::new());
    }
    let orig = &with_new_names(orig, &renamed);
    let was = renamed.iter().map(|(from, to)| (*to, *from)).collect();
    Sides { orig, patched }.changes(&was)
}

/// The new name of each renamed structure, by the old name.
fn renamed<'a>(
    orig: &'a Layouts,
    patched: &'a Layouts,
    is_renamed: &dyn Fn(Rename<'_>) -> bool,
) -> BTreeMap<&'a str, &'a str> {
    let gone = orig.aggregates.iter();
    let gone = gone.filter(|(name, _)| !patched.aggregates.contains_key(*name));
    let new = patched.aggregates.iter();
    let new: Vec<_> = new.filter(|(name, _)| !orig.aggregates.contains_key(*name)).collect();
    let mut found: Vec<(usize, &str, &str)> = Vec::new();
    for (from, old) in gone {
        for (to, layout) in &new {
            let common = in_common(old, layout);
            let rename = Rename {
                from,
                to,
                from_file: old.file.as_deref(),
                to_file: layout.file.as_deref(),
            };
            if common * 2 > old.members.len() && is_renamed(rename) {
                found.push((common, from, to));
            }
        }
    }
    // Those with most in common first; each has one counterpart.
    found.sort_by_key(|(common, from, to)| (usize::MAX - common, *from, *to));
    let mut renamed = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (_, from, to) in found {
        if !renamed.contains_key(from) && taken.insert(to) {
            renamed.insert(from, to);
        }
    }
    renamed
}

/// Members of the same name.
fn in_common(orig: &Layout, patched: &Layout) -> usize {
    let names: BTreeSet<&str> = patched.members.iter().map(|one| one.name.as_str()).collect();
    let common = orig.members.iter().filter(|one| names.contains(one.name.as_str()));
    common.count()
}

/// The layouts with renamed structures called as on the other side, wherever they are used.
fn with_new_names(layouts: &Layouts, renamed: &BTreeMap<&str, &str>) -> Layouts {
    let new = |name: &String| {
        renamed
            .get(name.as_str())
            .map_or_else(|| name.clone(), |to| (*to).to_owned())
    };
    let layout = |layout: &Layout| Layout {
        members: with_new_kinds(&layout.members, renamed),
        ..layout.clone()
    };
    let aggregates = layouts.aggregates.iter().map(|(name, one)| (new(name), layout(one)));
    let variables = layouts.variables.iter();
    let variable = |one: &Variable| Variable {
        scope: one.scope.clone(),
        layout: layout(&one.layout),
    };
    let variables = variables.map(|(name, all)| (name.clone(), all.iter().map(variable).collect()));
    Layouts {
        aggregates: aggregates.collect(),
        variables: variables.collect(),
        enumerators: BTreeMap::new(),
        ..Layouts::default()
    }
}

fn with_new_kinds(members: &[Member], renamed: &BTreeMap<&str, &str>) -> Vec<Member> {
    let renamed = |member: &Member| Member {
        kind: with_new_name(&member.kind, renamed),
        ..member.clone()
    };
    members.iter().map(renamed).collect()
}

fn with_new_name(kind: &Kind, renamed: &BTreeMap<&str, &str>) -> Kind {
    match kind {
        Kind::Aggregate(name) => match renamed.get(name.as_str()) {
            Some(to) => Kind::Aggregate((*to).to_owned()),
            None => kind.clone(),
        },
        Kind::Array(counts, element) => Kind::Array(counts.clone(), Box::new(with_new_name(element, renamed))),
        Kind::Unnamed(members, size) => Kind::Unnamed(with_new_kinds(members, renamed), *size),
        Kind::Scalar(_) => kind.clone(),
    }
}

struct Sides<'a> {
    orig: &'a Layouts,
    patched: &'a Layouts,
}

impl Sides<'_> {
    /// The changed structures and variables. `was` gives the old names of renamed structures.
    fn changes(&self, was: &BTreeMap<&str, &str>) -> Vec<LayoutChange> {
        let both = self.orig.aggregates.iter().filter_map(|(name, orig)| {
            let patched = without_aliases(orig, self.patched.aggregates.get(name)?);
            Some((name, orig, patched))
        });
        let changed: Vec<_> = both.filter(|(_, orig, patched)| !self.same(orig, patched)).collect();
        let names: BTreeSet<&str> = changed.iter().map(|(name, ..)| name.as_str()).collect();
        let own = changed.iter().map(|(name, orig, patched)| (*name, *orig, patched));
        let variables = self.variables();
        let all = own.chain(variables.iter().map(|(name, orig, patched)| (*name, *orig, *patched)));
        all.filter(|(_, orig, patched)| !follows(orig, patched, &names))
            .map(|(name, orig, patched)| LayoutChange {
                name: name.clone(),
                was: was.get(name.as_str()).map(|was| (*was).to_owned()),
                file: patched.file.clone(),
                line: patched.line,
                differences: differences(orig, patched),
            })
            .collect()
    }

    /// Variables whose layout changed. Of several with one name, unchanged ones are matched first, so that they do not
    /// count against the others.
    fn variables(&self) -> Vec<(&String, &Layout, &Layout)> {
        let mut found = Vec::new();
        for (name, orig) in &self.orig.variables {
            let Some(patched) = self.patched.variables.get(name) else {
                continue;
            };
            let mut new: Vec<&Variable> = patched.iter().collect();
            let mut gone = Vec::new();
            for one in orig {
                let same = |other: &&Variable| one.scope.may_be(&other.scope) && self.same(&one.layout, &other.layout);
                match new.iter().position(same) {
                    Some(at) => drop(new.remove(at)),
                    None => gone.push(one),
                }
            }
            for one in gone {
                let Some(at) = new.iter().position(|other| one.scope.may_be(&other.scope)) else {
                    continue;
                };
                found.push((name, &one.layout, &new.remove(at).layout));
            }
        }
        found.retain(|(_, orig, patched)| !resized(orig, patched));
        found
    }

    /// Whether two layouts have the same content at the same offsets, whatever the types are called.
    fn same(&self, orig: &Layout, patched: &Layout) -> bool {
        let taken_apart = || {
            let orig = parts(self.orig, orig)?;
            let patched = without_aliases(&orig, &parts(self.patched, patched)?);
            Some(alike(&orig.members, &patched.members))
        };
        orig.size == patched.size && (orig.members == patched.members || taken_apart().unwrap_or(false))
    }
}

/// Whether only the size of a variable differs, and everything that was there has not moved. The comparison of objects
/// sees sizes and judges them.
fn resized(orig: &Layout, patched: &Layout) -> bool {
    let only_size = match (orig.members.as_slice(), patched.members.as_slice()) {
        ([orig], [patched]) => match (&orig.kind, &patched.kind) {
            (Kind::Array(_, orig), Kind::Array(_, patched)) => orig == patched,
            (Kind::Scalar(orig), Kind::Scalar(patched)) => orig == patched,
            _ => false,
        },
        (orig, patched) => patched.starts_with(orig),
    };
    orig.size != patched.size && only_size
}

/// A layout whose members are replaced by their own members; `None` if there are too many.
fn parts(layouts: &Layouts, of: &Layout) -> Option<Layout> {
    let mut left = MOST_PARTS;
    let mut members = Vec::new();
    take_apart(layouts, &of.members, ("", 0), DEEPEST, &mut left, &mut members)?;
    Some(Layout { members, ..of.clone() })
}

fn take_apart(
    layouts: &Layouts,
    members: &[Member],
    (prefix, base): (&str, u64),
    deepest: usize,
    left: &mut usize,
    found: &mut Vec<Member>,
) -> Option<()> {
    let deepest = deepest.checked_sub(1)?;
    for member in members {
        *left = left.checked_sub(1)?;
        let name = format!("{prefix}{}", member.name);
        let at = base.saturating_add(member.at);
        let inner = member.kind.aggregate().and_then(|name| layouts.aggregates.get(name));
        let kind = match (&member.kind, inner) {
            (Kind::Aggregate(_), Some(inner)) => {
                let prefix = format!("{name}.");
                take_apart(layouts, &inner.members, (&prefix, at), deepest, left, found)?;
                continue;
            }
            (Kind::Array(counts, element), inner) => {
                let element = match (element.as_ref(), inner) {
                    (Kind::Unnamed(members, size), _) => Some((members, *size)),
                    (_, Some(inner)) => Some((&inner.members, inner.size)),
                    _ => None,
                };
                match element {
                    Some((members, size)) => {
                        let mut parts = Vec::new();
                        take_apart(layouts, members, ("", 0), deepest, left, &mut parts)?;
                        Kind::Array(counts.clone(), Box::new(Kind::Unnamed(parts, size)))
                    }
                    None => member.kind.clone(),
                }
            }
            _ => member.kind.clone(),
        };
        found.push(Member {
            name,
            at,
            bits: member.bits,
            kind,
        });
    }
    Some(())
}

fn alike(orig: &[Member], patched: &[Member]) -> bool {
    orig.len() == patched.len()
        && orig
            .iter()
            .zip(patched)
            .all(|(orig, patched)| alike_member(orig, patched))
}

fn alike_member(orig: &Member, patched: &Member) -> bool {
    let kind = match (&orig.kind, &patched.kind) {
        (Kind::Array(orig_counts, orig), Kind::Array(patched_counts, patched)) => {
            orig_counts == patched_counts
                && match (orig.as_ref(), patched.as_ref()) {
                    (Kind::Unnamed(orig, orig_size), Kind::Unnamed(patched, patched_size)) => {
                        orig_size == patched_size && alike(orig, patched)
                    }
                    _ => orig == patched,
                }
        }
        _ => orig.kind == patched.kind,
    };
    kind && (orig.at, orig.bits) == (patched.at, patched.bits) && same_name(&orig.name, &patched.name)
}

/// Whether the names are equal or one is the only member of the other: a number that becomes an `atomic_t` has not
/// moved.
fn same_name(orig: &str, patched: &str) -> bool {
    let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    orig == patched || inside(orig, patched) || inside(patched, orig)
}

/// Whether the members moved only because one of them has a type that changed.
fn follows(orig: &Layout, patched: &Layout, changed: &BTreeSet<&str>) -> bool {
    let same = |(orig, patched): (&Member, &Member)| orig.name == patched.name && orig.kind == patched.kind;
    let has_changed = |member: &Member| member.kind.aggregate().is_some_and(|name| changed.contains(name));
    orig.members.len() == patched.members.len()
        && orig.members.iter().zip(&patched.members).all(same)
        && orig.members.iter().any(has_changed)
}

/// The patched layout without members that only give a second name to a member that still exists: a union over a member
/// changes nothing.
fn without_aliases(orig: &Layout, patched: &Layout) -> Layout {
    let named = |layout: &Layout, name: &str| layout.members.iter().any(|one| one.name == name);
    let is_alias = |member: &Member| {
        let same = |orig_member: &&Member| {
            (orig_member.at, orig_member.bits, &orig_member.kind) == (member.at, member.bits, &member.kind)
        };
        let mut named_twice = orig.members.iter().filter(same);
        !named(orig, &member.name) && named_twice.any(|orig_member| named(patched, &orig_member.name))
    };
    let mut layout = patched.clone();
    layout.members.retain(|member| !is_alias(member));
    layout
}

fn differences(orig: &Layout, patched: &Layout) -> Vec<String> {
    let mut found = Vec::new();
    if orig.size != patched.size {
        found.push(format!("its size goes from {} to {}", orig.size, patched.size));
    }
    let orig_members: BTreeMap<&str, &Member> = orig
        .members
        .iter()
        .map(|orig_member| (orig_member.name.as_str(), orig_member))
        .collect();
    let patched_names: BTreeSet<&str> = patched.members.iter().map(|member| member.name.as_str()).collect();
    let gone = orig
        .members
        .iter()
        .filter(|orig_member| !patched_names.contains(orig_member.name.as_str()));
    found.extend(gone.map(|orig_member| format!("`{}` is gone", orig_member.name)));
    for member in &patched.members {
        found.extend(match orig_members.get(member.name.as_str()) {
            None => Some(format!("`{}` is new at {}", member.name, bytes(member.at))),
            Some(orig_member) if (orig_member.bits, &orig_member.kind) != (member.bits, &member.kind) => Some(format!(
                "`{}` was {} and is {}",
                member.name,
                shown(orig_member),
                shown(member)
            )),
            Some(orig_member) if orig_member.at != member.at => Some(format!(
                "`{}` moves from {} to {}",
                member.name,
                bytes(orig_member.at),
                bytes(member.at)
            )),
            Some(_) => None,
        });
    }
    if found.is_empty() {
        found.push("its members stand in another order".to_owned());
    }
    shortened(found)
}

fn shown(member: &Member) -> String {
    format!("{} ({})", member.kind, bytes(member.bits))
}

/// Bits as bytes, with the remaining bits behind a point.
fn bytes(bits: u64) -> String {
    match bits % 8 {
        0 => (bits / 8).to_string(),
        rest => format!("{}.{rest}", bits / 8),
    }
}
