//! The lists of functions that boot calls. They are left out of an object otherwise, since a livepatch has none; but who
//! is called at boot decides what later code finds.

use super::elf::RawRelocs;
use super::{Class, Object};
use crate::ids::{Atom, Id, Side};

/// include/linux/init.h (6.12), `__define_initcall`, and include/linux/init.h, `console_initcall`.
const LISTS: &[&str] = &[".initcall", ".con_initcall"];

/// What the lists name, in the order of the object.
pub fn listed<'d, S: Side>(object: &Object<'d, S>, raw: &RawRelocs<'_, S>) -> Vec<(&'d str, Id<S, Atom>)> {
    let is_list = |name: &str| LISTS.iter().any(|list| name.starts_with(list));
    let lists = object.sections.iter().filter(|(_, section)| is_list(section.name));
    let mut found = Vec::new();
    for (id, list) in lists {
        for row in raw.of(id) {
            let Some(symbol) = object.symbols.get(row.symbol) else {
                continue;
            };
            let offset = symbol.st_value.checked_add_signed(row.addend);
            let place = symbol.section.zip(offset);
            let place = place.filter(|(section, _)| object.sections[*section].class != Class::Ignored);
            found
                .extend(place.and_then(|(section, offset)| Some((level(list.name), object.atom_at(section, offset)?))));
        }
    }
    found
}

/// The list without the name of the entry: with link time optimisation each entry has a section of its own,
/// `.initcall6.init..<name>` (include/linux/init.h, 6.12, `__initcall_section`), and the name has a counter.
fn level(list: &str) -> &str {
    list.split_once("..").map_or(list, |(level, _)| level)
}
