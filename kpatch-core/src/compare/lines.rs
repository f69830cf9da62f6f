//! Source line numbers that got into the object, and whether a difference is nothing else.
//!
//! One inserted line moves `__LINE__` in every function below it. Where the source is at hand the lines are held in place
//! before the compiler sees them, and every difference counts. Where only objects are at hand, a number is taken for a
//! line only if what it is for says so: a field of a table whose layout is known, or the argument of a function that is
//! documented to take a line. Any other constant counts, even in the same register before the same call.

use crate::arch::LineArgument;
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::read::{AtomKind, Object, Reloc, Target, is_descriptor};

/// Whether line numbers matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// They were held in place, so a difference is one of the patch.
    Count,
    /// They move with every edit above them.
    Noise,
}

/// Functions that take a line, and which argument it is, counted from 1.
///
/// include/linux/kernel.h (`__might_sleep`, `__might_fault`), include/linux/rcupdate.h (`lockdep_rcu_suspicious`),
/// include/asm-generic/bug.h (`warn_slowpath_fmt`), fs/btrfs/messages.h (`__btrfs_panic` and its kin), 4.18 to 6.12.
const TAKERS: &[(&str, u8)] = &[
    ("___might_sleep", 2),
    ("__might_fault", 2),
    ("__might_sleep", 2),
    ("__might_resched", 2),
    ("lockdep_rcu_suspicious", 2),
    ("warn_slowpath_fmt", 2),
    ("warn_slowpath_fmt_taint", 2),
    ("warn_slowpath_null", 2),
    ("__btrfs_abort_transaction", 3),
    ("__btrfs_handle_fs_error", 3),
    ("__btrfs_panic", 3),
];

/// Functions that print a format, with the argument that is the format. Their line is the argument after a source file's
/// name, where the format has a number.
const PRINTERS: &[(&str, u8)] = &[("__warn_printk", 1), ("_printk", 1), ("printk", 1)];

/// Whether all differing bytes of two atoms of equal length are line numbers.
pub fn only_lines(
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> bool {
    let (orig_bytes, patched_bytes) = (orig_object.bytes(orig), patched_object.bytes(patched));
    if orig_bytes.len() != patched_bytes.len() || orig_object.class(orig) != patched_object.class(patched) {
        return false;
    }
    let row = &patched_object.atoms[patched];
    let section = patched_object.sections[row.section].name;
    match row.kind {
        AtomKind::Entry if section == "__bug_table" => {
            differs_only(orig_bytes, patched_bytes, bug_line(orig_bytes.len()))
        }
        AtomKind::Anonymous if section == "__dyndbg" || section == "__verbose" => {
            differs_only(orig_bytes, patched_bytes, descriptor_line(patched_object))
        }
        AtomKind::Function => {
            let (orig_code, patched_code) = (Code::of(orig_object, orig), Code::of(patched_object, patched));
            only_arguments(&orig_code, &patched_code)
        }
        _ => false,
    }
}

/// Bits of an entry that hold the line: an offset, and what of each byte from there on.
type Field = Option<(usize, &'static [u8])>;

fn differs_only(orig: &[u8], patched: &[u8], field: Field) -> bool {
    let Some((start, bits)) = field else { return false };
    orig.iter().zip(patched).enumerate().all(|(at, (x, y))| {
        let free = at
            .checked_sub(start)
            .and_then(|index| bits.get(index))
            .copied()
            .unwrap_or(0);
        (x ^ y) & !free == 0
    })
}

/// `struct bug_entry`, include/asm-generic/bug.h: the 16 bits behind address and file, each 4 bytes or a pointer.
fn bug_line(entry: usize) -> Field {
    match entry {
        12 => Some((8, &[0xff, 0xff])),
        24 => Some((16, &[0xff, 0xff])),
        _ => None,
    }
}

/// `struct _ddebug`, include/linux/dynamic_debug.h: the first 18 bits behind four pointers.
fn descriptor_line<S: Side>(object: &Object<'_, S>) -> Field {
    let last: &'static [u8] = if object.arch.facts().big_endian {
        &[0xff, 0xff, 0xc0]
    } else {
        &[0xff, 0xff, 0x03]
    };
    Some((32, last))
}

/// Whether two descriptors of UBSAN differ only in the place in the source that they report. Its column moves with a word
/// in front of it, also where lines are held in place, and the kernel's own place is no worse than none.
pub fn only_place(
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> bool {
    let (orig_bytes, patched_bytes) = (orig_object.bytes(orig), patched_object.bytes(patched));
    is_descriptor(orig_object, orig)
        && is_descriptor(patched_object, patched)
        && orig_bytes.len() == patched_bytes.len()
        && differs_only(orig_bytes, patched_bytes, location())
}

/// `struct source_location`, lib/ubsan.h (6.12), at the start of each descriptor: line and column, 32 bits each, behind the
/// pointer to the file's name.
fn location() -> Field {
    Some((8, &[0xff; 8]))
}

/// Whether two texts describe the same variables on the stack for KASAN, apart from their lines. GCC writes for each
/// ` <offset> <size> <length of the name> <name>`, where the name may have `:<line>` at its end, behind their number.
pub fn only_lines_of_frame(orig: &[u8], patched: &[u8]) -> bool {
    let frames = frame(orig).zip(frame(patched));
    frames.is_some_and(|(orig, patched)| orig == patched)
}

/// Offset, size and name of each variable of a frame.
fn frame(text: &[u8]) -> Option<Vec<(u64, u64, &str)>> {
    let text = std::str::from_utf8(text).ok()?;
    let (count, mut rest) = text.split_once(' ')?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut fields = rest.splitn(4, ' ');
        let (offset, size, length) = (fields.next()?, fields.next()?, fields.next()?.parse::<usize>().ok()?);
        let behind = fields.next()?;
        let name = behind.get(..length)?;
        all.push((
            offset.parse().ok()?,
            size.parse().ok()?,
            name.rsplit_once(':')
                .filter(|(_, line)| digits(line))
                .map_or(name, |(name, _)| name),
        ));
        rest = behind.get(length..)?.trim_start_matches(' ');
    }
    (count.parse() == Ok(all.len())).then_some(all)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A function's code with what it refers to.
struct Code<'o, 'd, S> {
    object: &'o Object<'d, S>,
    bytes: &'d [u8],
    relocs: &'o [Reloc<S>],
    start: u64,
}

impl<'o, 'd, S: Side> Code<'o, 'd, S> {
    fn of(object: &'o Object<'d, S>, atom: Id<S, Atom>) -> Self {
        Code {
            object,
            bytes: object.bytes(atom),
            relocs: object.relocs(atom),
            start: object.atoms[atom].start,
        }
    }

    /// The constants that functions get in registers.
    fn arguments(&self) -> Vec<LineArgument> {
        let fields: Vec<usize> = self
            .relocs
            .iter()
            .map(|reloc| (reloc.offset - self.start) as usize)
            .collect();
        self.object.arch.constant_arguments(self.bytes, &fields)
    }

    fn target(&self, field: usize) -> Option<&Target<S>> {
        let at = self.start + field as u64;
        let index = self.relocs.binary_search_by_key(&at, |reloc| reloc.offset).ok()?;
        Some(&self.relocs[index].target)
    }

    fn callee(&self, argument: &LineArgument) -> Option<&'d str> {
        match *self.target(argument.call)? {
            Target::Extern { symbol, .. } => Some(self.object.symbols[symbol].name),
            Target::Atom { atom, delta: 0 } => self.object.name(atom),
            _ => None,
        }
    }

    /// The string that a reference leads to.
    fn string(&self, field: usize) -> Option<&'d [u8]> {
        let Target::Atom { atom, delta } = *self.target(field)? else {
            return None;
        };
        if self.object.atoms[atom].kind != AtomKind::String {
            return None;
        }
        let bytes = self.object.bytes(atom).get(usize::try_from(delta).ok()?..)?;
        Some(bytes.strip_suffix(&[0]).unwrap_or(bytes))
    }

    fn is_line(&self, argument: &LineArgument) -> bool {
        let Some(callee) = self.callee(argument) else {
            return false;
        };
        if TAKERS.contains(&(callee, argument.number)) {
            return true;
        }
        let Some((_, format)) = PRINTERS.iter().find(|(name, _)| *name == callee) else {
            return false;
        };
        let text = argument.others.iter().find(|(number, _)| number == format);
        let before = argument.others.iter().find(|(number, _)| number + 1 == argument.number);
        let (Some((_, text)), Some((_, before))) = (text, before) else {
            return false;
        };
        let wanted = argument.number.checked_sub(format + 1).map(usize::from);
        let number = self
            .string(*text)
            .zip(wanted)
            .and_then(|(text, wanted)| conversion(text, wanted));
        let file = self.string(*before);
        matches!(number, Some(b'd' | b'u' | b'i'))
            && file.is_some_and(|file| file.ends_with(b".c") || file.ends_with(b".h"))
    }
}

/// The letter of the n-th conversion of a format, counted from 0.
fn conversion(format: &[u8], wanted: usize) -> Option<u8> {
    let mut rest = format.iter().copied().peekable();
    let mut seen = 0;
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            continue;
        }
        let letter = rest.find(|byte| byte.is_ascii_alphabetic() && !b"hlzjt".contains(byte) || *byte == b'%')?;
        if letter == b'%' {
            continue;
        }
        if seen == wanted {
            return Some(letter);
        }
        seen += 1;
    }
    None
}

/// Whether the codes differ only in constants that are lines for the same callee on both sides.
fn only_arguments(orig: &Code<'_, '_, Orig>, patched: &Code<'_, '_, Patched>) -> bool {
    let (orig_arguments, patched_arguments) = (orig.arguments(), patched.arguments());
    let mut free = vec![false; orig.bytes.len()];
    for mine in orig_arguments.iter().filter(|argument| orig.is_line(argument)) {
        let twin = patched_arguments
            .iter()
            .find(|twin| twin.constant == mine.constant && twin.number == mine.number);
        let same = twin.is_some_and(|twin| patched.is_line(twin) && patched.callee(twin) == orig.callee(mine));
        if same && let Some(field) = free.get_mut(mine.constant.clone()) {
            field.fill(true);
        }
    }
    let pairs = orig.bytes.iter().zip(patched.bytes).zip(&free);
    pairs.into_iter().all(|((x, y), free)| x == y || *free)
}

#[cfg(test)]
mod tests {
    use super::{conversion, only_lines_of_frame};

    #[test]
    fn conversions_of_a_format() {
        let format = b"at %s (%d): %5lu %%";
        assert_eq!(conversion(format, 0), Some(b's'));
        assert_eq!(conversion(format, 1), Some(b'd'));
        assert_eq!(conversion(format, 2), Some(b'u'));
        assert_eq!(conversion(format, 3), None);
    }

    #[test]
    fn frames_differ_in_lines_only() {
        assert!(only_lines_of_frame(b"1 32 32 6 buf:14", b"1 32 32 6 buf:16"));
        assert!(only_lines_of_frame(
            b"2 32 4 3 x:9 48 8 4 y:10",
            b"2 32 4 4 x:10 48 8 4 y:11"
        ));
        assert!(!only_lines_of_frame(b"1 32 32 6 buf:14", b"1 32 64 6 buf:14"));
        assert!(!only_lines_of_frame(b"1 32 32 6 buf:14", b"1 32 32 6 new:14"));
        assert!(!only_lines_of_frame(b"2 32 32 6 buf:14", b"2 32 32 6 buf:15"));
        assert!(!only_lines_of_frame(b"hello", b"hello 1"));
    }
}
