//! Which FILE group of an image a FILE block of an object became.
//!
//! Without the record of the link only the names tell: a group of that file name with the same static functions and
//! variables, both ways. Of several such groups (files without statics, above all) the one at the same distance from
//! its neighbours' matches is meant, and as many blocks as groups are matched in order; if that does not decide either, the block stays without a group, and only who
//! needs one of its statics hears about it.

use std::collections::BTreeMap;

use super::image::{Image, Statics};
use crate::ids::Orig;
use crate::read::Object;

impl Image<'_> {
    /// Finds the groups of all blocks of a unit.
    pub fn match_blocks(&mut self, unit: &str, object: &Object<'_, Orig>) {
        let groups = self.groups();
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, (name, _)) in groups.iter().enumerate() {
            by_name.entry(name).or_default().push(index);
        }
        let blocks = blocks(object);
        let candidates: Vec<Vec<usize>> = blocks
            .iter()
            .map(|(name, statics)| {
                let named = by_name.get(name).into_iter().flatten().copied();
                named.filter(|group| agree(statics, &groups[*group].1)).collect()
            })
            .collect();
        let mut found: Vec<Option<usize>> = candidates.iter().map(|all| single(all)).collect();
        by_order(&mut found, &candidates);
        for index in 0..found.len() {
            if found[index].is_none() {
                found[index] = by_neighbours(index, &found, &candidates[index]);
            }
        }
        self.set_blocks(unit, found);
    }
}

fn single(all: &[usize]) -> Option<usize> {
    match all {
        [one] => Some(*one),
        _ => None,
    }
}

/// As many blocks as groups that may be theirs: linkers keep the order, so the n-th is the n-th.
fn by_order(found: &mut [Option<usize>], candidates: &[Vec<usize>]) {
    let mut alike: BTreeMap<&[usize], Vec<usize>> = BTreeMap::new();
    for (block, groups) in candidates.iter().enumerate().filter(|(_, groups)| groups.len() > 1) {
        alike.entry(groups).or_default().push(block);
    }
    for (groups, blocks) in alike.iter().filter(|(groups, blocks)| groups.len() == blocks.len()) {
        for (block, group) in blocks.iter().zip(*groups) {
            found[*block] = Some(*group);
        }
    }
}

/// The candidate between the groups of the blocks before and after, if there is only one.
fn by_neighbours(index: usize, found: &[Option<usize>], candidates: &[usize]) -> Option<usize> {
    let before = found[..index].iter().rev().find_map(|group| *group);
    let after = found[index + 1..].iter().find_map(|group| *group);
    let between = |group: &usize| before.is_none_or(|low| low < *group) && after.is_none_or(|high| *group < high);
    let fitting: Vec<usize> = candidates.iter().copied().filter(between).collect();
    match (&fitting[..], before) {
        ([one], _) => Some(*one),
        // Directly behind the neighbour, as in the object.
        (_, Some(low)) if index > 0 && found[index - 1] == Some(low) && fitting.contains(&(low + 1)) => Some(low + 1),
        _ => None,
    }
}

/// Both have the same, but for what linker scripts discard.
fn agree(block: &Statics<'_>, group: &Statics<'_>) -> bool {
    let kept = |statics: &Statics<'_>, others: &Statics<'_>| {
        statics
            .iter()
            .all(|entry| others.contains(entry) || is_discardable(entry.0))
    };
    kept(block, group) && kept(group, block)
}

/// Statics that need not arrive in the image: include/asm-generic/vmlinux.lds.h (DISCARDS), and what assemblers keep only
/// where someone asks for it.
fn is_discardable(name: &str) -> bool {
    let starts = [
        "__exitcall_",
        "__brk_reservation_fn_",
        "__func_stack_frame_non_standard_",
        "__trace_check",
    ];
    let starts = starts.iter().chain(&["__UNIQUE_ID_", ".L"]);
    let parts = ["__addressable_", "__UNIQUE_ID_", ".Lubsan", "__initcall__"];
    starts.into_iter().any(|start| name.starts_with(start)) || parts.iter().any(|part| name.contains(part))
}

fn blocks<'d>(object: &Object<'d, Orig>) -> Vec<(&'d str, Statics<'d>)> {
    let mut all: Vec<(&str, Statics<'_>)> = object.blocks.iter().map(|block| (block.name, Statics::new())).collect();
    for (id, symbol) in object.symbols.iter() {
        let kind = symbol.st_type;
        let counts = kind == object::elf::STT_FUNC.0 || kind == object::elf::STT_OBJECT.0;
        if counts && let Some(block) = object.block_of(id) {
            all[block].1.insert((symbol.name, kind));
        }
    }
    all
}
