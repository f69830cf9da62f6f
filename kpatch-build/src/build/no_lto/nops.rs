//! Makes room behind calls for the instruction that restores the TOC pointer.
//!
//! ELFv2 (Power Architecture 64-bit ELF V2 ABI, 2.2.1): a function that is called within one module keeps r2; a call
//! that may leave the module is followed by a `nop`, which the linker, or for modules arch/powerpc/kernel/module_64.c
//! (`restore_r2`), turns into a load of the caller's r2. GCC leaves the `nop` out behind calls of functions that it sees
//! in the same file. In a livepatch such a function may be the kernel's own copy, and then the loader refuses the
//! module for want of the `nop`. So one is put behind every such call, on both sides alike, between compiler and
//! assembler.

use kpatch_core::Refusal;
use kpatch_core::resolve::NO_RESTORE;

/// The call that `-mprofile-kernel` puts at the start of a function. ftrace looks for the exact sequence.
const PROFILER: &str = "_mcount";

/// The assembly with a `nop` behind each `bl` that lacks one, and how many were put in. Inline assembly is left as it
/// is: what stands behind a call there is its author's decision.
pub fn with_nops(assembly: &str) -> (String, usize) {
    let mut out = String::with_capacity(assembly.len() + assembly.len() / 16);
    let mut inserted = 0;
    let mut inline = false;
    let mut lines = assembly.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        match line.trim() {
            "#APP" => inline = true,
            "#NO_APP" => inline = false,
            text if !inline && is_call(text) && !lines.clone().find_map(instruction).is_some_and(is_nop) => {
                out.push_str("\tnop\n");
                inserted += 1;
            }
            _ => {}
        }
    }
    (out, inserted)
}

/// The differ's refusal of a call without a `nop`, in words that fit here: where one can be put there is one, so the
/// call stands in inline assembly.
pub fn in_inline_assembly(refusal: Refusal) -> Refusal {
    if refusal.code != NO_RESTORE {
        return refusal;
    }
    let why = format!("{}; the call stands in inline assembly of the source", refusal.why);
    Refusal { why, ..refusal }.hint("leave this function as it is, and make the change in those that call it")
}

/// Whether a line calls a function by its name: not through a register, not a local label, not PC-relative code that
/// has no TOC pointer to restore.
fn is_call(text: &str) -> bool {
    let Some((mnemonic, operand)) = text.split_once(char::is_whitespace) else {
        return false;
    };
    let operand = operand
        .split(['#', ' ', '\t'])
        .find(|part| !part.is_empty())
        .unwrap_or("");
    let is_name = operand.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    mnemonic == "bl" && is_name && operand != PROFILER && !operand.ends_with("@notoc")
}

fn is_nop(instruction: &str) -> bool {
    instruction.split_whitespace().next() == Some("nop")
}

/// The instruction of a line, if it has one. Markers of inline assembly count, since nothing may be said about what
/// stands in there.
fn instruction(line: &str) -> Option<&str> {
    let text = line.trim();
    let ignored = text.is_empty()
        || (text.starts_with('#') && text != "#APP")
        || text.starts_with(".loc ")
        || text.starts_with(".cfi_")
        || text.ends_with(':');
    (!ignored).then_some(text)
}

#[cfg(test)]
mod tests {
    use kpatch_core::Subject;

    use super::*;

    fn count(text: &str) -> usize {
        with_nops(text).1
    }

    #[test]
    fn a_local_call_gets_one() {
        let (text, inserted) = with_nops("f:\n\tbl helper\n\tmr 3,4\n\tblr\n");
        assert_eq!(
            (text.as_str(), inserted),
            ("f:\n\tbl helper\n\tnop\n\tmr 3,4\n\tblr\n", 1)
        );
        assert_eq!(count("\tbl helper.isra.0\n.L3:\n\tmr 3,4\n"), 1);
        assert_eq!(
            count("\tbl helper\n\t.size f,.-f\n"),
            1,
            "a call that does not return is the last instruction"
        );
        assert_eq!(count("\tbl helper"), 1);
    }

    #[test]
    fn a_call_that_has_one_gets_no_second() {
        assert_eq!(count("\tbl printk\n\tnop\n"), 0);
        assert_eq!(count("\tbl printk\n.L2:\n\t.loc 1 2 3\n # comment\n\n\tnop\n"), 0);
        let once = with_nops("\tbl helper\n\tblr\n").0;
        assert_eq!(with_nops(&once), (once.clone(), 0));
    }

    #[test]
    fn what_is_no_call_by_name_is_left_alone() {
        for line in [
            "bl _mcount",
            "bl .L4",
            "bl 1f",
            "bl helper@notoc",
            "bcl 20,31,.L1",
            "bctrl",
            "blr",
            "b helper",
            ".long bl helper",
        ] {
            assert_eq!(count(&format!("\t{line}\n\tmr 3,4\n")), 0, "{line}");
        }
    }

    #[test]
    fn a_refused_call_is_one_of_inline_assembly() {
        let refusal = |code| in_inline_assembly(Refusal::new(code, Subject::default(), "no nop").hint("a nop"));
        let told = refusal(NO_RESTORE);
        assert!(told.why.contains("inline assembly") && told.hint.is_some_and(|hint| hint.contains("that call it")));
        assert_eq!(
            refusal(kpatch_core::codes::klp::BAD_CALL).hint.as_deref(),
            Some("a nop")
        );
    }

    #[test]
    fn inline_assembly_is_left_alone() {
        assert_eq!(
            count("#APP\n # 12 \"a.c\" 1\n\tbl helper\n # 0 \"\" 2\n#NO_APP\n\tblr\n"),
            0
        );
        assert_eq!(
            count("\tbl helper\n#APP\n\tnop\n#NO_APP\n"),
            1,
            "that nop belongs to somebody else"
        );
    }
}
