//! What compilers and the kernel's build do to names.

/// The name without the suffix of ThinLTO promotion, `.llvm.<decimal>`, and that suffix's number.
pub fn split_promoted(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(".llvm.") {
        Some((base, hash)) if !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_digit()) => (base, Some(hash)),
        _ => (name, None),
    }
}

/// The name without the suffix of ThinLTO promotion.
pub fn unpromoted(name: &str) -> &str {
    split_promoted(name).0
}

/// The name as an author writes it: without `struct`, `union` or `enum` before it and without the suffix of a promotion;
/// of the stub of an initcall the function's.
pub fn plain(name: &str) -> &str {
    let name = unpromoted(name.rsplit(' ').next().unwrap_or(name));
    of_initcall(name).unwrap_or(name)
}

/// The function that the stub of an initcall calls, `__initstub__kmod_<module>__<counter>_<line>_<function><level>`
/// (include/linux/init.h, 6.12, `__initcall_name`).
fn of_initcall(name: &str) -> Option<&str> {
    let called = without_counters(name.strip_prefix("__initstub__")?);
    let word = ["early", "rootfs", "con"]
        .iter()
        .find_map(|level| called.strip_suffix(level));
    let numbered = called.strip_suffix('s').unwrap_or(called);
    let numbered = numbered.strip_suffix(|c: char| c.is_ascii_digit());
    word.or(numbered).filter(|name| !name.is_empty())
}

/// The name without the numbers of ThinLTO promotion, wherever they stand (`foo.llvm.123.cold`): for messages.
pub fn readable(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once(".llvm.") {
        let behind = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = behind.len() < after.len();
        text += before;
        text += if number { "" } else { ".llvm." };
        rest = behind;
    }
    text + rest
}

/// Labels that the assembler should have dropped, and marks of where code and data begin (`$x`, `$d.3`: "ELF for the Arm
/// 64-bit Architecture", section 5.5.4).
pub(crate) fn is_temporary(name: &str) -> bool {
    let marks = [".L", "$x", "$d"];
    // The GNU assembler puts such a character into names that it makes up itself (gas/symbols.c, `fb_label_name`,
    // `FAKE_LABEL_NAME`); where a linker relaxes code, it keeps them.
    let made_up = name.bytes().any(|byte| matches!(byte, 1 | 2));
    name.is_empty() || made_up || marks.iter().any(|mark| name.starts_with(mark))
}

/// Symbols before a function's entry: objtool's and kCFI's.
pub fn is_function_prefix(name: &str) -> bool {
    name.starts_with("__pfx_") || name.starts_with("__cfi_")
}

/// Constants that the compiler names itself (LLVM, and GCC from `CSWTCH.` on); their numbers change with any edit, so
/// only their content identifies them. A variable of such a name (`static char str[64]` is `str.0` inside a function) is
/// none of them.
pub(crate) fn is_made_up(name: &str) -> bool {
    let base = unpromoted(name);
    let starts = [
        ".str",
        "str",
        ".src",
        "___asan_gen_",
        "switch.table.",
        "__const.",
        ".compoundliteral",
        "CSWTCH.",
        "__func__.",
        "__FUNCTION__.",
        "__PRETTY_FUNCTION__.",
        "C.",
    ];
    match starts
        .iter()
        .find_map(|start| base.strip_prefix(start).map(|rest| (*start, rest)))
    {
        Some((".str" | "str" | ".src" | "___asan_gen_", rest)) => rest.is_empty() || numbered(rest),
        Some(("switch.table." | "__const.", _)) => true,
        Some((_, rest)) => rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
        None => is_of_nobody(base),
    }
}

/// What LLVM calls a variable or constant that has no name: `__unnamed_<n>`, and where other files may import it
/// `anon.<hash of the file's names>.<n>` (llvm/lib/Transforms/Utils/NameAnonGlobals.cpp). A writable one is a descriptor of a
/// sanitizer: C has no others.
pub(crate) fn is_of_nobody(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let base = unpromoted(name);
    let numbered = base.strip_prefix("anon.").and_then(|rest| rest.split_once('.'));
    base.strip_prefix("__unnamed_").is_some_and(digits)
        || numbered.is_some_and(|(hash, number)| {
            hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits(number)
        })
}

/// Functions that register the variables of their file with KASAN before anything else runs, or take them out: LLVM's, and
/// GCC's, which have the priority in their names.
pub(crate) fn is_sanitizers_constructor(name: &str) -> bool {
    let base = unpromoted(name);
    let numbered = [
        "_sub_I_65535_",
        "_sub_D_65535_",
        "_GLOBAL__sub_I_65535_",
        "_GLOBAL__sub_D_65535_",
    ];
    ["asan.module_ctor", "asan.module_dtor"].contains(&base) || numbered.iter().any(|start| base.starts_with(start))
}

fn numbered(rest: &str) -> bool {
    rest.strip_prefix('.')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The part of a name that survives an unrelated edit of its file: no promotion suffix, no counter at the end
/// (`var.12`, `__UNIQUE_ID_ddebug345`).
pub(crate) fn stable(name: &str) -> &str {
    let base = unpromoted(name);
    if let Some(rest) = base
        .strip_prefix("__initstub__")
        .or_else(|| base.strip_prefix("__initcall__"))
    {
        return without_counters(rest);
    }
    if base.contains("__UNIQUE_ID_") {
        return base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    match base.rsplit_once('.') {
        Some((stem, digits)) if !stem.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => stem,
        _ => base,
    }
}

/// The number of a name that the preprocessor made unique (`__UNIQUE_ID_quirk41`): it counts up through the file
/// (`__COUNTER__`).
pub(crate) fn unique_number(name: &str) -> Option<u64> {
    let (_, counted) = unpromoted(name).split_once("__UNIQUE_ID_")?;
    // GCC adds a number of its own (`__UNIQUE_ID_x345.12`).
    let counted = match counted.rsplit_once('.') {
        Some((before, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => counted,
    };
    let stem = counted.trim_end_matches(|c: char| c.is_ascii_digit());
    counted[stem.len()..].parse().ok()
}

/// The name without any number behind a dot: `f.isra.3.part.4` is `f.isra.part`.
pub(crate) fn unnumbered(name: &str) -> String {
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = name.split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts
        .filter(|part| !digits(part))
        .fold(first, |name, part| name + "." + part)
}

/// Whether it is a name as an author gives it outside of functions: no suffix and no counter. GCC numbers the static
/// variables of functions (`x.0`), clang puts the function's name before theirs (`f.x`).
pub(crate) fn is_of_the_file(name: &str) -> bool {
    !name.contains('.') && stable(name) == name
}

/// `kmod_<module>__<counter>_<line>_<function>`: only the function stays.
fn without_counters(name: &str) -> &str {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut rest = name;
    while let Some((_, after)) = rest.split_once("__") {
        let mut parts = after.splitn(3, '_');
        if let (Some(counter), Some(line), Some(function)) = (parts.next(), parts.next(), parts.next())
            && digits(counter)
            && digits(line)
        {
            return function;
        }
        rest = after;
    }
    name
}

/// A variable of a file with a counter, and no function before its name as a static local has it with LLVM: a piece of a
/// structure, if LLVM made it.
pub(crate) fn is_piece(name: &str) -> bool {
    let base = unpromoted(name);
    let stem = stable(base);
    stem.len() < base.len() && !stem.contains('.') && !base.contains("__UNIQUE_ID_")
}

/// The flag of a message that is said once (`WARN_ONCE`, `pr_info_once`; include/linux/once_lite.h). That of `DO_ONCE`,
/// `___done`, is none: what is done once may do harm if it is done again.
pub(crate) fn is_said_once(name: &str) -> bool {
    let base = stable(name);
    let last = base.rsplit('.').next().unwrap_or(base);
    ["__already_done", "__warned", "__print_once"].contains(&last)
}

/// A dynamic debug descriptor, `function.__UNIQUE_ID_ddebug<n>`.
pub(crate) fn is_dynamic_debug(name: &str) -> bool {
    name.contains("__UNIQUE_ID_ddebug")
}

/// For a part split off a function, the function: `foo.cold` and `foo.cold.3` belong to `foo`. So does `foo.__part.1`, as
/// LLVM calls a cluster of basic blocks behind the first (CodeGen/MachineBasicBlock.cpp, `getSymbol`).
pub(crate) fn cold_parent(name: &str) -> Option<&str> {
    let at = [".cold", ".__part."].iter().filter_map(|mark| name.find(mark)).min()?;
    Some(&name[..at])
}

/// The type (STT_*) that a symbol has in code. LLVM gives the parts that it splits off by a profile a size and no type
/// (CodeGen/AsmPrinter, `emitBasicBlockStart`), GCC makes functions of them.
pub(crate) fn type_in_code(name: &str, st_type: u8, st_size: u64) -> u8 {
    let part = st_type == object::elf::STT_NOTYPE.0 && st_size > 0 && cold_parent(name).is_some();
    if part { object::elf::STT_FUNC.0 } else { st_type }
}

/// The type that such a symbol is written with. objtool takes a jump into another function for a mistake. It knows `.cold`
/// parts by their names, and parts of other names only where they have no type (tools/objtool/check.c, 6.12 to 7.3).
pub(crate) fn type_as_written(name: &str, st_type: u8) -> u8 {
    let part = st_type == object::elf::STT_FUNC.0 && name.contains(".__part.");
    if part { object::elf::STT_NOTYPE.0 } else { st_type }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_written_without_a_type() {
        let (func, none) = (object::elf::STT_FUNC.0, object::elf::STT_NOTYPE.0);
        assert_eq!(type_as_written("f.__part.1", func), none);
        assert_eq!(type_as_written("f.cold", func), func);
        assert_eq!(type_as_written("f", func), func);
        assert_eq!(type_in_code("f.__part.1", none, 8), func);
    }

    #[test]
    fn promotion_suffix_is_decimal() {
        assert_eq!(split_promoted("foo.llvm.123"), ("foo", Some("123")));
        assert_eq!(split_promoted("foo.llvm."), ("foo.llvm.", None));
        assert_eq!(split_promoted("foo.llvm.12a"), ("foo.llvm.12a", None));
    }

    #[test]
    fn readable_names_have_no_hash() {
        assert_eq!(readable("foo.llvm.123.cold.1"), "foo.cold.1");
        assert_eq!(readable("foo.llvm.x"), "foo.llvm.x");
        assert_eq!(readable("foo"), "foo");
    }

    #[test]
    fn labels_of_the_assembler() {
        for name in [".LC3", "$x", "$d.1", "L0\u{1}", "L7\u{2}12"] {
            assert!(is_temporary(name), "{name}");
        }
        assert!(!is_temporary("L0"));
    }

    #[test]
    fn the_stub_of_an_initcall_is_called_like_its_function() {
        let stub = |rest: &str| format!("__initstub__kmod_proc__178_51_{rest}");
        assert_eq!(plain(&stub("proc_uptime_init5")), "proc_uptime_init");
        assert_eq!(plain(&stub("set_up8s")), "set_up");
        assert_eq!(plain(&stub("pages5")), "pages");
        assert_eq!(plain(&stub("startearly")), "start");
        assert_eq!(plain("pages5"), "pages5");
    }

    #[test]
    fn stable_names_lose_counters() {
        assert_eq!(stable("show.buf.12"), "show.buf");
        assert_eq!(stable("show.buf"), "show.buf");
        assert_eq!(stable("f.__UNIQUE_ID_ddebug345.llvm.9"), "f.__UNIQUE_ID_ddebug");
        assert_eq!(stable("__UNIQUE_ID_ddebug345.12"), "__UNIQUE_ID_ddebug");
        assert_eq!(unique_number("f.__UNIQUE_ID_ddebug345.12"), Some(345));
        assert_eq!(unique_number("__UNIQUE_ID_quirk41.llvm.7"), Some(41));
        assert_eq!(unique_number("var.12"), None);
        assert_eq!(stable("foo.cold.3"), "foo.cold");
        assert_eq!(
            stable("__initstub__kmod_proc__346_181_proc_meminfo_init5"),
            "proc_meminfo_init5"
        );
    }

    #[test]
    fn names_without_numbers() {
        assert_eq!(unnumbered("f.isra.3.part.4"), "f.isra.part");
        assert_eq!(unnumbered(".str.3"), ".str");
        assert_eq!(unnumbered("f.v2"), "f.v2");
    }

    #[test]
    fn names_of_the_file_have_no_counter() {
        assert!(is_of_the_file("x"));
        for name in ["x.0", "f.x", "x.llvm.12", "__UNIQUE_ID_state3"] {
            assert!(!is_of_the_file(name), "{name}");
        }
    }

    #[test]
    fn what_is_done_once_is_not_said_once() {
        for name in ["f.__already_done.12", "__already_done.3", "__warned", "f.__print_once"] {
            assert!(is_said_once(name), "{name}");
        }
        for name in ["f.___done.2", "___done.7", "done"] {
            assert!(!is_said_once(name), "{name}");
        }
    }

    #[test]
    fn made_up_names() {
        for name in [
            ".str",
            ".str.12.llvm.99",
            "switch.table.foo",
            "__unnamed_3",
            "__const.f.x",
            "anon.b6b687433458652100ea286fe00ddd18.12.llvm.99",
            ".src.llvm.99",
            "___asan_gen_.4",
            ".compoundliteral.4",
            "CSWTCH.25",
            "__func__.7",
            "C.12.3456",
        ] {
            assert!(is_made_up(name), "{name}");
        }
        for name in [
            "C.x",
            "__func__",
            "str_table",
            "strict",
            "struct_size",
            ".strange",
            "__unnamed_thing",
            "anon.x",
            "anon.3",
        ] {
            assert!(!is_made_up(name), "{name}");
        }
    }

    #[test]
    fn sized_parts_are_functions() {
        let (none, function) = (object::elf::STT_NOTYPE.0, object::elf::STT_FUNC.0);
        assert_eq!(type_in_code("foo.cold", none, 8), function);
        for (name, st_type, size) in [
            ("foo.cold", none, 0),
            ("label", none, 8),
            ("foo.cold", object::elf::STT_OBJECT.0, 8),
        ] {
            assert_eq!(type_in_code(name, st_type, size), st_type, "{name}");
        }
    }

    #[test]
    fn cold_parts_know_their_function() {
        assert_eq!(cold_parent("foo.cold.3"), Some("foo"));
        assert_eq!(cold_parent("foo.__part.2"), Some("foo"));
        assert_eq!(cold_parent("foo.part.2"), None);
        assert_eq!(cold_parent("foo"), None);
    }
}
