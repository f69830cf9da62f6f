//! Data of the livepatch whose address somebody else may have when the livepatch goes.
//!
//! A variable, a string or a table of the livepatch goes with it. An address of it that was stored in the kernel's memory,
//! or that a function of the kernel keeps (a list, a timer, a registration), then leads nowhere. Whether somebody still
//! has it cannot be told, but who gives it away can: the instructions say so.
//!
//! What is only read stays quiet, or the list would be full of messages to print: constants count if they are stored, if
//! they are tables of pointers, or if they go to a function that registers something by its name. Functions that are known
//! to keep nothing do not count at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::arch::{Escape, Source, Thunk};
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::{AtomKind, Class};
use crate::select::{Link, Selection};

type Key = (UnitId, Id<Patched, Atom>);

/// What becomes of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is stored into memory that is neither the livepatch's nor on the stack.
    Stored,
    /// It is passed to a function of the kernel that may keep it.
    Passed,
    /// It is returned to whoever called.
    Returned,
}

/// A function gives the address of data of the livepatch away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GivenAway {
    /// The function that does it.
    pub by: String,
    /// What it does.
    pub how: How,
    /// The function that gets the address; none if it is called through a pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Functions that keep no address that they get, `*` at the end for any rest: locks and wake-ups, keys of branches and
/// calls (which are the livepatch's own), text and memory, random and time, what takes something out or looks something
/// up, sanitizers, and keys and names of lock classes, which lockdep forgets with the module (kernel/locking/lockdep.c,
/// `lockdep_free_key_range`).
const KEEPS_NOTHING: &str = "\
    mutex_* __mutex_* _raw_* queued_* down down_* up up_read up_write percpu_down_* percpu_up_* __percpu_down_read \
    rt_mutex_* rwsem_* __init_rwsem __init_waitqueue_head __init_swait_queue_head lockdep_* lock_acquire lock_release \
    lock_is_held_type __wake_up* wake_up_* swake_up_* complete complete_all wait_for_completion* \
    static_key_* __static_key_slow_* __static_call_update __srcu_read_* ___ratelimit \
    __dynamic_* _printk* __warn_printk _dev_* dev_printk* netdev_printk netdev_err netdev_warn netdev_info \
    seq_print* seq_put* __seq_put* seq_write seq_vprintf seq_escape* seq_hex_dump seq_pad seq_path* sysfs_emit* \
    sysfs_streq __request_module snprintf scnprintf sprintf vsnprintf vscnprintf vsprintf sscanf vsscanf kasprintf kstrdup* \
    kstrndup kstrto* kmemdup* memcpy* __memcpy* memset* __memset* memmove __memmove memcmp memchr* memscan memparse \
    strlen strnlen strcmp strncmp strcasecmp strncasecmp strcpy strncpy* strscpy* sized_strscpy strlcpy strlcat strcat \
    strncat strchr* strrchr strnchr strstr strnstr strspn strcspn strsep strreplace strim match_string __fortify_* \
    copy_to_* copy_from_* _copy_* __copy_* simple_read_from_buffer simple_write_to_buffer simple_strto* \
    bitmap_* __bitmap_* _find_* refcount_* kfree kvfree get_random_bytes ktime_get* klp_shadow_* \
    xa_load xa_erase ida_* idr_find idr_remove rb_first rb_next rb_erase __list_add_valid* __list_del_entry_valid* \
    del_timer* timer_delete* timer_shutdown* hrtimer_cancel cancel_work* cancel_delayed_work* flush_work \
    flush_delayed_work kthread_stop \
    __asan_* __ubsan_* __kasan_* __tsan_* __kcsan_* __kmsan_* __msan_* __sanitizer_*";

/// Names of functions that keep also the constants that they get.
fn registers(name: &str) -> bool {
    name.contains("register") || name.starts_with("request_") || name.starts_with("__request_")
}

/// What is put off is done when nobody waits for it any more.
fn keeps_nothing(name: &str) -> bool {
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    name.contains("unregister") || !name.contains("deferred") && KEEPS_NOTHING.split_whitespace().any(is)
}

/// Who gives away the address of which data of the livepatch.
pub fn escapes(group: &Group<'_>, selection: &Selection<'_>) -> BTreeMap<Key, BTreeSet<GivenAway>> {
    let mut search = Search {
        group,
        selection,
        functions: BTreeMap::new(),
    };
    let mut found: BTreeMap<Key, BTreeSet<GivenAway>> = BTreeMap::new();
    for key in selection.atoms.keys() {
        let object = &group.units[key.0].patched;
        if object.atoms[key.1].kind != AtomKind::Function {
            continue;
        }
        let by = names::readable(&object.label(key.1));
        for (source, escape) in search.of(*key).clone() {
            let Some(data) = search.data(*key, source) else {
                continue;
            };
            let worth = search.worth(data);
            for (how, to) in search.ends(*key, escape, &mut BTreeSet::new()) {
                if worth.counts(how, to.as_deref()) {
                    let by = by.clone();
                    found.entry(data).or_default().insert(GivenAway { by, how, to });
                }
            }
        }
    }
    found
}

/// What kind of data it is, as far as it decides what counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Somebody may write it.
    Variable,
    /// A constant with pointers in it.
    Table,
    Constant,
}

impl Worth {
    fn counts(self, how: How, to: Option<&str>) -> bool {
        match (self, how) {
            (_, How::Stored) | (Worth::Variable | Worth::Table, How::Passed) | (Worth::Variable, How::Returned) => true,
            (Worth::Constant, How::Passed) => to.is_some_and(registers),
            (Worth::Table | Worth::Constant, How::Returned) => false,
        }
    }
}

type Escapes = BTreeSet<(Source, Escape)>;

struct Search<'a, 'd> {
    group: &'a Group<'d>,
    selection: &'a Selection<'d>,
    functions: BTreeMap<Key, Escapes>,
}

impl Search<'_, '_> {
    /// What a function does with addresses of data of the livepatch, and with its arguments.
    fn of(&mut self, key: Key) -> &Escapes {
        if !self.functions.contains_key(&key) {
            let object = &self.group.units[key.0].patched;
            let row = &object.atoms[key.1];
            let relocs = object.relocs(key.1);
            let offsets: Vec<u64> = relocs
                .iter()
                .map(|reloc| reloc.offset.saturating_sub(row.start))
                .collect();
            let wanted = (0..relocs.len())
                .filter(|reloc| self.data(key, Source::Reloc(*reloc)).is_some())
                .collect();
            let entry = row.anchor - row.start;
            let tracer = |name: String| object.arch.facts().tracing.is_callee(&name);
            let plain = (0..relocs.len()).filter(|reloc| self.callee(key, *reloc).is_some_and(tracer));
            let escapes = object
                .arch
                .escapes(object.bytes(key.1), entry, &offsets, &wanted, &plain.collect());
            self.functions.insert(key, escapes.unwrap_or_default());
        }
        &self.functions[&key]
    }

    fn link(&self, key: Key, reloc: usize) -> Option<Link<'_>> {
        self.selection.atoms.get(&key)?.links.get(reloc).copied()
    }

    /// The data of the livepatch that a relocation leads to. What has no bytes, as keys of lock classes without lockdep,
    /// is nothing that anybody can read.
    fn data(&self, key: Key, source: Source) -> Option<Key> {
        let Source::Reloc(reloc) = source else { return None };
        let Some(Link::InPatch(place)) = self.link(key, reloc) else {
            return None;
        };
        let object = &self.group.units[place.unit].patched;
        let row = &object.atoms[place.atom];
        let is_data = matches!(row.kind, AtomKind::Object | AtomKind::String | AtomKind::Anonymous)
            && !matches!(object.sections[row.section].class, Class::Text | Class::Special(_));
        (is_data && row.end > row.start).then_some((place.unit, place.atom))
    }

    fn worth(&self, data: Key) -> Worth {
        let object = &self.group.units[data.0].patched;
        let constant = object.sections[object.atoms[data.1].section].class.is_constant();
        match (constant, object.relocs(data.1).is_empty()) {
            (false, _) => Worth::Variable,
            (true, false) => Worth::Table,
            (true, true) => Worth::Constant,
        }
    }

    /// What an escape comes to, through the functions of the livepatch that pass an argument on. `seen` are those that
    /// are being looked at.
    fn ends(&mut self, key: Key, escape: Escape, seen: &mut BTreeSet<(Key, u8)>) -> Vec<(How, Option<String>)> {
        match escape {
            Escape::Stored { into } => {
                let inside = into.is_some_and(|into| self.data(key, Source::Reloc(into)).is_some());
                if inside { Vec::new() } else { vec![(How::Stored, None)] }
            }
            Escape::Returned { by: None } => vec![(How::Returned, None)],
            Escape::Returned { by: Some(by) } => match self.thunk(key, by) {
                Some(Thunk::Return) => vec![(How::Returned, None)],
                _ => Vec::new(),
            },
            Escape::Passed { to: None, .. } => vec![(How::Passed, None)],
            Escape::Passed { to: Some(to), argument } => self.passed(key, to, argument, seen),
        }
    }

    fn passed(
        &mut self,
        key: Key,
        to: usize,
        argument: u8,
        seen: &mut BTreeSet<(Key, u8)>,
    ) -> Vec<(How, Option<String>)> {
        if let Some(Link::InPatch(place)) = self.link(key, to) {
            let callee = (place.unit, place.atom);
            let object = &self.group.units[callee.0].patched;
            if object.atoms[callee.1].kind != AtomKind::Function || !seen.insert((callee, argument)) {
                return Vec::new();
            }
            let own = Source::Argument(argument);
            let inner: Vec<Escape> = self
                .of(callee)
                .iter()
                .filter(|(from, _)| *from == own)
                .map(|(_, how)| *how)
                .collect();
            let ends = inner.into_iter().flat_map(|escape| self.ends(callee, escape, seen));
            // What it returns is followed no further.
            return ends.filter(|(how, _)| *how != How::Returned).collect();
        }
        match (self.thunk(key, to), self.callee(key, to)) {
            (Some(Thunk::Return), _) => Vec::new(),
            (Some(Thunk::Indirect), _) => vec![(How::Passed, None)],
            (None, Some(name)) if keeps_nothing(&name) => Vec::new(),
            (None, name) => vec![(How::Passed, name)],
        }
    }

    fn thunk(&self, key: Key, reloc: usize) -> Option<Thunk> {
        let name = self.callee(key, reloc)?;
        self.group.units[key.0].patched.arch.thunk(&name)
    }

    /// The name of a function of the kernel that a relocation leads to.
    fn callee(&self, key: Key, reloc: usize) -> Option<String> {
        match self.link(key, reloc)? {
            Link::Twin { unit, atom, .. } => Some(names::readable(&self.group.units[unit].orig.label(atom))),
            Link::Name { name, .. } => Some(names::readable(name)),
            Link::InPatch(_) | Link::Absolute(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_locks_or_prints_keeps_nothing_and_who_registers_keeps_even_constants() {
        assert!(["mutex_lock", "_printk", "seq_puts", "unregister_netdev"].map(keeps_nothing) == [true; 4]);
        assert!(
            [
                "queue_work_on",
                "mod_timer",
                "update_it",
                "seq_open",
                "__static_key_slow_dec_deferred"
            ]
            .map(keeps_nothing)
                == [false; 5]
        );
        assert!(Worth::Constant.counts(How::Passed, Some("__request_region")));
        assert!(!Worth::Constant.counts(How::Passed, Some("kobject_add")));
        assert!(!Worth::Constant.counts(How::Passed, None));
        assert!(Worth::Table.counts(How::Passed, None));
        assert!(Worth::Constant.counts(How::Stored, None));
    }
}
