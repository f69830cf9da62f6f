//! Shows of one preprocessed file that it knows a structure only as variables on the stack, and pointers to these that go
//! down to functions of the same file.
//!
//! It is a list of what may be. Each place at which the structure, one of its objects or a function that takes one is
//! named must be of a form in the list; any other ends the proof, also where it would be harmless. So a pointer to the
//! structure can only come from the address of a variable: not from memory that was allocated, not out of a list or a
//! work item, not by a cast or by the silent conversion of `void *`.

use std::collections::{BTreeMap, BTreeSet};

use super::body::Body;
use super::forms::{Scene, Takes, passed, shortened};
use super::handed_back;
use super::items::{Item, Tag, items, mentions, named};
use super::tokens::{NAMING, is_word, opening, tokens};

/// Members by which others than the owner of the structure get at it, or which only make sense if there are others.
const SHARED: [&str; 33] = [
    "atomic_t",
    "atomic64_t",
    "atomic_long_t",
    "call_single_data_t",
    "call_single_data",
    "completion",
    "delayed_work",
    "hlist_head",
    "hlist_node",
    "hrtimer",
    "irq_work",
    "kref",
    "kthread_work",
    "list_head",
    "llist_head",
    "llist_node",
    "mutex",
    "percpu_ref",
    "plist_node",
    "rb_node",
    "rb_root",
    "rcu_head",
    "callback_head",
    "refcount_t",
    "rw_semaphore",
    "seqcount_t",
    "spinlock_t",
    "raw_spinlock_t",
    "swait_queue_head",
    "timer_list",
    "wait_queue_entry",
    "wait_queue_head",
    "work_struct",
];

/// What was shown of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Functions that have an object on their stack.
    pub holders: BTreeSet<String>,
    /// Functions that get an object from their caller.
    pub takers: BTreeSet<String>,
}

/// Looks at a preprocessed file.
///
/// # Errors
/// What speaks against it, as the end of a sentence.
pub fn look(text: &str, tag: Tag<'_>) -> Result<Shown, String> {
    let tokens = tokens(text);
    if mentions(&tokens, &tag).next().is_none() {
        return Ok(Shown::default());
    }
    let items = items(&tokens).ok_or("its source is not understood")?;
    let mut takers: BTreeMap<&str, Takes> = BTreeMap::new();
    let mut members = Vec::new();
    for item in &items {
        if let Some(definition) = definition(item, &tag) {
            members = self::members(definition, &tag)?;
        } else if let Some((name, takes)) = head(item, &tag)? {
            let known = takers.entry(name).or_insert_with(|| takes.clone());
            if *known != takes {
                return Err(format!("`{name}()` takes it in two ways"));
            }
        }
    }
    let scene = Scene {
        tag,
        takers: &takers,
        members: &members,
    };
    if let Some(name) = takers.keys().find(|name| is_in_assembly(&tokens, name)) {
        return Err(format!("assembly names `{name}()`"));
    }
    let mut recovering = BTreeSet::new();
    let mut shown = Shown {
        takers: takers.keys().map(|name| (*name).to_owned()).collect(),
        holders: BTreeSet::new(),
    };
    for item in &items {
        let Some(body) = item.body else {
            let from = item
                .head
                .iter()
                .position(|token| *token == "=" || NAMING.contains(token));
            let mut values = item.head[from.unwrap_or(item.head.len())..].iter();
            match values.find(|token| takers.contains_key(*token)) {
                Some(name) => return Err(format!("the address of `{name}()` is kept")),
                None => continue,
            }
        };
        let (name, parameters) = match named(item.head) {
            Some((name, parameters)) => (name, parameters),
            None => ("a function", Vec::new()),
        };
        let found = Body::new(&scene, body, &parameters)
            .check()
            .map_err(|why| format!("`{name}()` {why}"))?;
        if found.holds {
            shown.holders.insert(name.to_owned());
        }
        if found.recovers {
            recovering.insert(name);
        }
    }
    if let Some(name) = recovering
        .iter()
        .find(|name| !handed_back::is_called_back_only(&tokens, name))
    {
        return Err(format!("`{name}()` is not only called for the object that names it"));
    }
    shown.takers.extend(recovering.into_iter().map(str::to_owned));
    Ok(shown)
}

/// Whether inline assembly names a function.
fn is_in_assembly(tokens: &[&str], name: &str) -> bool {
    let names = |token: &str| {
        let words = token.split(|one: char| !(one.is_ascii_alphanumeric() || one == '_'));
        token.starts_with('"') && words.into_iter().any(|word| word == name)
    };
    let mut places = tokens.iter().enumerate().filter(|(_, token)| names(token));
    places.any(|(at, _)| {
        let open = opening(tokens, at).and_then(|open| open.checked_sub(1));
        open.is_some_and(|before| ["asm", "__asm", "__asm__", "goto"].contains(&tokens[before]))
    })
}

/// What the structure consists of, if this defines it and nothing else.
fn definition<'t>(item: &Item<'t>, tag: &Tag<'_>) -> Option<&'t [&'t str]> {
    match item.head {
        [word, name, "{", inner @ .., "}"] if item.body.is_none() && (*word, *name) == (tag.word, tag.tag) => {
            Some(inner)
        }
        _ => None,
    }
}

/// The members that are structures, or why others may get at the structure.
fn members<'t>(definition: &'t [&'t str], tag: &Tag<'_>) -> Result<Vec<(&'t str, &'t str)>, String> {
    if mentions(definition, tag).next().is_some() {
        return Err("its objects point to each other".to_owned());
    }
    if let Some(member) = definition.iter().find(|token| SHARED.contains(token)) {
        return Err(format!("with its `{member}`, others can get at it"));
    }
    let members = definition.windows(4).filter_map(|part| match part {
        ["struct", kind, name, ";"] if is_word(kind) && is_word(name) => Some((*kind, *name)),
        _ => None,
    });
    Ok(members.collect())
}

/// The function that an item declares or defines, if that takes the structure; nothing if it is of no interest.
fn head<'t>(item: &Item<'t>, tag: &Tag<'_>) -> Result<Option<(&'t str, Takes)>, String> {
    let places: Vec<usize> = mentions(item.head, tag).collect();
    let says_nothing = *item.head == [tag.word, tag.tag] || item.head.first() == Some(&"_Static_assert");
    if places.is_empty() || (item.body.is_none() && says_nothing) {
        return Ok(None);
    }
    let outside = || format!("`{}` names it outside of functions", shortened(item.head));
    let (name, parameters) = named(item.head).ok_or_else(outside)?;
    let mut takes = Takes::new();
    for (position, parameter) in parameters.iter().enumerate() {
        match passed(parameter, tag) {
            Some((how, _)) => drop(takes.insert(position, how)),
            None if mentions(parameter, tag).next().is_some() => return Err(outside()),
            None => {}
        }
    }
    if takes.len() != places.len() {
        return Err(outside());
    }
    if !item.head.contains(&"static") {
        return Err(format!("other files can call `{name}()`, which takes it"));
    }
    Ok(Some((name, takes)))
}
