//! Finds the lines of the kernel log that mean that the kernel complained.
//!
//! A livepatch that behaves as promised but triggers a WARN has not passed. The log comes from `/dev/kmsg` with its
//! levels, so that a line's importance need not be guessed from its text, and each splat is reported with the lines
//! that explain it. Not every line of level "error" is a complaint: healthy kernels print some under emulation, so at
//! that level only those of the livepatch core count.

/// Limit of lines of one splat in a report.
const SPLAT_LINES: usize = 40;
/// Levels 0 to 2 (emergency, alert, critical) are complaints whatever they say.
const CRITICAL: u8 = 2;
const ERROR: u8 = 3;

/// Texts that open a splat, anywhere in a line.
const OPENERS: &[&str] = &[
    "[ cut here ]",
    "WARNING: ",
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "Oops - ",
    "Kernel panic - not syncing",
    "general protection fault",
    "invalid opcode: ",
    "int3: ",
    "stack segment: ",
    "divide error: ",
    "double fault: ",
    "traps: PANIC",
    "Unable to handle kernel",
    "blocked for more than",
    "rcu: INFO: ",
    "self-detected stall",
    "INFO: trying to register non-static key",
    "INFO: lockdep is turned off",
    "refcount_t: ",
    "UBSAN: ",
    "KASAN: ",
    "KFENCE: ",
    "KCSAN: ",
    "ODEBUG: ",
    "list_add corruption",
    "list_del corruption",
    "Bad page state",
    "workqueue lockup",
    "unchecked MSR access",
    "Missing ENDBR",
    "CFI failure",
    "stack-protector: ",
    "usercopy: Kernel memory",
    "x86/modules: Invalid relocation target",
    "Existing value is nonzero",
];

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// The message, without time stamp and level.
    pub text: String,
}

/// Reads records as `/dev/kmsg` gives them: `<prio>,<seq>,<time>,<flags>;<text>`. Lines that begin with a blank belong
/// to the dictionary of the record before and carry no message.
pub fn parse(raw: &str) -> Vec<Line> {
    raw.lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| {
            let (head, text) = line.split_once(';')?;
            let priority: u32 = head.split(',').next()?.parse().ok()?;
            Some(Line {
                level: (priority & 7) as u8,
                text: text.to_owned(),
            })
        })
        .collect()
}

/// Whether this text begins a splat.
pub fn opens_splat(text: &str) -> bool {
    OPENERS.iter().any(|opener| text.contains(opener))
}

/// The complaints among these lines, each with the rest of its splat. Empty for a healthy log.
pub fn complaints(lines: &[Line]) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = 0;
    for line in lines {
        if is_complaint(line) {
            inside = SPLAT_LINES;
        }
        if inside > 0 {
            found.push(line.text.clone());
            inside -= 1;
        }
        if line.text.contains("---[ end trace") || line.text.contains("---[ end Kernel panic") {
            inside = 0;
        }
    }
    found
}

fn is_complaint(line: &Line) -> bool {
    line.level <= CRITICAL
        || opens_splat(&line.text)
        || (line.level == ERROR && (line.text.starts_with("livepatch:") || line.text.starts_with("module:")))
}

/// The taint bits that loading a livepatch may set: out of tree, unsigned, livepatch.
const LIVEPATCH_TAINT: u64 = 1 << 12 | 1 << 13 | 1 << 15;
/// The taint bits that reports of what a case repairs may set: what KASAN finds (a bad page), and the kernel's own tests.
const REPORT_TAINT: u64 = 1 << 5 | 1 << 18;
/// The letters of the taint bits from bit 0 on, as the kernel prints them.
const TAINT_LETTERS: &[u8] = b"PFSRMBUDAWCIOELKXTNJ";

/// Letters of the taint bits that appeared and do not belong to a livepatch, nor to reports where some are `expected`.
pub fn new_taint(before: u64, after: u64, expected: bool) -> String {
    let known = LIVEPATCH_TAINT | if expected { REPORT_TAINT } else { 0 };
    let new = after & !before & !known;
    (0..64)
        .filter(|bit| new >> bit & 1 == 1)
        .map(|bit| {
            TAINT_LETTERS
                .get(bit)
                .map_or_else(|| format!("bit {bit}"), |&letter| char::from(letter).to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "\
4,310,2046911,-;klp_demo: loading out-of-tree module taints kernel.
5,311,2047020,-;klp_demo: tainting kernel with TAINT_LIVEPATCH
4,312,2047201,-;klp_demo: module verification failed: signature and/or required key missing - tainting kernel
6,313,2050011,-;livepatch: enabling patch 'klp_demo'
6,314,2051830,-;livepatch: 'klp_demo': starting patching transition
6,315,3084101,-;livepatch: 'klp_demo': patching complete
 SUBSYSTEM=module
6,316,4084101,-;livepatch: 'klp_demo': unpatching complete
3,317,4084102,-;tsc: Fast TSC calibration failed
";
    const WARN: &str = "\
6,1,1,-;livepatch: enabling patch 'klp_demo'
4,2,2,-;------------[ cut here ]------------
4,3,3,-;WARNING: CPU: 1 PID: 71 at fs/proc/cmdline.c:9 cmdline_proc_show+0x20/0x40 [klp_demo]
4,4,4,-;Modules linked in: klp_demo(OEK)
4,5,5,-;---[ end trace 0000000000000000 ]---
6,6,6,-;livepatch: 'klp_demo': patching complete
";
    const OOPS: &str = "\
1,1,1,-;BUG: kernel NULL pointer dereference, address: 0000000000000000
1,2,2,-;#PF: supervisor read access in kernel mode
4,3,3,-;Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
4,4,4,-;RIP: 0010:cmdline_proc_show+0x9/0x30 [klp_demo]
4,5,5,-;---[ end trace 0000000000000000 ]---
";
    const BUG: &str = "\
2,1,1,-;kernel BUG at mm/slub.c:4521!
4,2,2,-;Oops: invalid opcode: 0000 [#1] SMP NOPTI
";
    const LOCKDEP: &str = "\
4,1,1,-;======================================================
4,2,2,-;WARNING: possible circular locking dependency detected
4,3,3,-;------------------------------------------------------
4,4,4,-;sh/77 is trying to acquire lock:
";
    const HUNG: &str = "\
3,1,1,-;INFO: task cat:80 blocked for more than 120 seconds.
3,2,2,-;      Tainted: G           OEK    6.12.107 #1
";
    const RCU: &str = "3,1,1,-;rcu: INFO: rcu_sched detected stalls on CPUs/tasks:\n";
    const REFUSED: &str = "3,1,1,-;livepatch: symbol 'nr_gone' not found in symbol table\n";

    #[test]
    fn a_livepatch_that_comes_and_goes_is_no_complaint() {
        assert_eq!(complaints(&parse(CLEAN)), Vec::<String>::new());
    }

    #[test]
    fn a_warning_is_told_with_its_trace_and_no_further() {
        let found = complaints(&parse(WARN));
        assert_eq!(found.len(), 4);
        assert!(found[1].starts_with("WARNING: CPU: 1") && found[3].contains("end trace"));
    }

    #[test]
    fn each_kind_of_splat_is_seen() {
        for (name, text, first) in [
            ("oops", OOPS, "BUG: kernel NULL"),
            ("bug", BUG, "kernel BUG at"),
            ("lockdep", LOCKDEP, "WARNING: possible circular"),
            ("hung task", HUNG, "INFO: task cat:80"),
            ("rcu stall", RCU, "rcu: INFO"),
            ("livepatch refusal", REFUSED, "livepatch: symbol"),
        ] {
            let found = complaints(&parse(text));
            assert!(
                found.first().is_some_and(|line| line.starts_with(first)),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn the_level_alone_makes_a_complaint() {
        assert_eq!(
            complaints(&parse("2,1,1,-;mce: nobody has a pattern for this\n")).len(),
            1
        );
        assert_eq!(complaints(&parse("3,1,1,-;i8042: no controller found\n")).len(), 0);
    }

    #[test]
    fn dictionary_lines_and_noise_are_not_messages() {
        assert_eq!(parse(" DEVICE=+pci\nno semicolon\nx,1;text\n"), []);
        assert_eq!(
            parse("30,1,1,-;a;b\n"),
            [Line {
                level: 6,
                text: "a;b".into()
            }]
        );
    }

    #[test]
    fn taint_of_a_livepatch_is_expected_and_nothing_else() {
        assert_eq!(new_taint(0, 1 << 12 | 1 << 13 | 1 << 15, false), "");
        assert_eq!(new_taint(1 << 9, 1 << 9 | 1 << 15, false), "", "it was there before");
        assert_eq!(new_taint(0, 1 << 9 | 1 << 7, false), "DW");
        assert_eq!(new_taint(0, 1 << 5 | 1 << 9 | 1 << 18, true), "W", "of a report");
    }
}
