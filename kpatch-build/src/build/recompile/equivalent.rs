//! Whether two bitcode files differ in nothing but where their source was.
//!
//! Clang notes for each inline assembly statement its offset in all source read so far. One byte more in a header moves
//! the offsets in every file that includes it, and with them the bytes and hash of the bitcode. The offsets serve error
//! messages only, so machine code is the same as long as equal ones stay equal and different ones different. With
//! debugging information each file has a sum of its content, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::build::kbuild::facts::tool_beside;
use crate::sh;

/// Whether these bitcode files mean the same.
pub fn same_meaning(compiler: &str, orig: &Path, patched: &Path) -> Result<bool> {
    let lister = tool_beside(compiler, "llvm-dis")?;
    let text = |path: &Path| sh::output(sh::command(&lister).arg(path).args(["-o", "-"]));
    let (orig, patched) = rayon::join(|| text(orig), || text(patched));
    Ok(equal_but_for_locations(&orig?, &patched?))
}

/// Whether two listings of bitcode differ in source locations only.
pub fn equal_but_for_locations(orig: &str, patched: &str) -> bool {
    let mut moved = Moved::default();
    let (mut orig_lines, mut patched_lines) = (orig.lines(), patched.lines());
    loop {
        match (orig_lines.next(), patched_lines.next()) {
            (None, None) => break,
            (Some(a), Some(b))
                if a == b || (is_identity(a) && is_identity(b)) || same_file(a, b) || moved.line(a, b) => {}
            _ => return false,
        }
    }
    moved.nodes.is_empty() || (moved.one_to_one(orig) && only_locations(orig, &moved.nodes))
}

/// The lines that name the file and give its hash.
fn is_identity(line: &str) -> bool {
    line.starts_with("; ModuleID = ") || line.starts_with("^0 = module: (path: ")
}

/// Whether both name the same source file for debuggers, with whatever sum of its content. Where code and types stand in
/// it is told elsewhere, so a file that differs in comments only differs in nothing else.
fn same_file(a: &str, b: &str) -> bool {
    let file = |line: &str| {
        let (_, node) = line.split_once(" = ")?;
        let (name, sum) = node.split_once(", checksumkind: ")?;
        (node.starts_with("!DIFile(") && sum.ends_with("\")"))
            .then(|| line[..line.len() - node.len() + name.len()].to_owned())
    };
    matches!((file(a), file(b)), (Some(a), Some(b)) if a == b)
}

/// Metadata nodes with numbers that differ.
#[derive(Default)]
struct Moved<'a> {
    nodes: BTreeSet<&'a str>,
    there: BTreeMap<&'a str, &'a str>,
    back: BTreeMap<&'a str, &'a str>,
}

impl<'a> Moved<'a> {
    /// Takes a pair of different lines; false if they are anything but two lists of numbers of the same node.
    fn line(&mut self, a: &'a str, b: &'a str) -> bool {
        let (Some((node, from)), Some((other, to))) = (numbers(a), numbers(b)) else {
            return false;
        };
        self.nodes.insert(node);
        node == other && self.pair(from, to)
    }

    fn pair(&mut self, from: &'a str, to: &'a str) -> bool {
        *self.there.entry(from).or_insert(to) == to && *self.back.entry(to).or_insert(from) == from
    }

    /// Unmoved lists take part as well: a moved one must not become equal to one of them.
    fn one_to_one(&mut self, orig: &'a str) -> bool {
        let lists = orig
            .lines()
            .filter_map(numbers)
            .filter(|(node, _)| !self.nodes.contains(node));
        let lists: Vec<_> = lists.collect();
        lists.into_iter().all(|(_, list)| self.pair(list, list))
    }
}

/// `!12 = !{i64 7, i64 8}` as node and list.
fn numbers(line: &str) -> Option<(&str, &str)> {
    let (node, rest) = line.strip_prefix('!')?.split_once(" = !{")?;
    let list = rest.strip_suffix('}')?;
    let is_number = |item: &str| {
        item.strip_prefix("i64 ")
            .is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    (node.bytes().all(|byte| byte.is_ascii_digit()) && list.split(", ").all(is_number)).then_some((node, list))
}

/// Whether the nodes are used as source locations and as nothing else.
fn only_locations(text: &str, nodes: &BTreeSet<&str>) -> bool {
    text.lines().all(|line| {
        line.match_indices('!').all(|(at, _)| {
            let rest = &line[at + 1..];
            let end = rest
                .bytes()
                .position(|byte| !byte.is_ascii_digit())
                .unwrap_or(rest.len());
            !nodes.contains(&rest[..end])
                || line[..at].ends_with("!srcloc ")
                || (at == 0 && rest[end..].starts_with(" = "))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIG: &str = "; ModuleID = 'a.o'\ndefine void @f() {\n  call void asm \"x\", \"\"(), !srcloc !1\n  \
        call void asm \"y\", \"\"(), !srcloc !2\n}\n!0 = !{i32 1, !\"a\", i32 2}\n!1 = !{i64 10, i64 20}\n!2 = !{i64 30}\n\
        ^0 = module: (path: \"a.o\", hash: (1, 2))\n";

    fn same(from: &[&str], to: &[&str]) -> bool {
        let changed = from
            .iter()
            .zip(to)
            .fold(ORIG.to_owned(), |text, (from, to)| text.replace(from, to));
        equal_but_for_locations(ORIG, &changed)
    }

    #[test]
    fn moved_locations_mean_nothing() {
        assert!(same(
            &["i64 10, i64 20", "i64 30", "'a.o'", "hash: (1"],
            &["i64 15, i64 25", "i64 35", "'b.o'", "hash: (7"]
        ));
        assert!(same(&[], &[]));
    }

    #[test]
    fn everything_else_does() {
        assert!(!same(&["asm \"x\""], &["asm \"z\""]));
        assert!(!same(&["i32 2"], &["i32 3"]));
        assert!(!same(&["i64 30"], &["i32 30"]));
        assert!(!same(&["@f() {\n"], &["@f() {\n  ret void\n"]));
    }

    #[test]
    fn sums_of_source_files_mean_nothing() {
        let file = |name: &str, sum: &str| {
            let node = format!(
                "!7 = !DIFile(filename: \"{name}\", directory: \"d\", checksumkind: CSK_MD5, checksum: \"{sum}\")\n"
            );
            ORIG.to_owned() + &node
        };
        assert!(equal_but_for_locations(&file("a.h", "01"), &file("a.h", "02")));
        assert!(!equal_but_for_locations(&file("a.h", "01"), &file("b.h", "01")));
        let line = |line: u32| ORIG.to_owned() + &format!("!7 = !DILocation(line: {line}, scope: !8)\n");
        assert!(!equal_but_for_locations(&line(1), &line(2)));
    }

    #[test]
    fn locations_must_not_become_equal() {
        assert!(!same(&["i64 10, i64 20"], &["i64 30"]));
    }

    #[test]
    fn a_node_with_another_use_counts() {
        let orig = ORIG.replace("\"a\", i32 2", "\"a\", !1");
        assert!(!equal_but_for_locations(&orig, &orig.replace("i64 10", "i64 11")));
    }
}
