//! The console as evidence: the last words of a machine that could not report.

/// The one line that every panic prints.
pub const PANIC: &str = "Kernel panic - not syncing";

/// Whether the kernel itself has printed something: its banner (init/version-timestamp.c, `linux_banner`), not the text
/// of its boot wrapper (arch/powerpc/kernel/prom_init.c).
pub fn kernel_began(console: &str) -> bool {
    lines(console).any(|line| line.contains("Linux version ") && !line.contains("Preparing to boot"))
}

/// The last non-empty lines.
pub fn tail(console: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = lines(console).collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|&line| line.to_owned())
        .collect()
}

/// A panic with what led to it: from the first splat on, or from the panic line if there was none. Empty if the kernel
/// did not panic.
pub fn panic_lines(console: &str) -> Vec<String> {
    /// Limit in lines: more than a register dump with its call trace.
    const LONGEST: usize = 120;
    let lines: Vec<&str> = lines(console).collect();
    let Some(panic) = lines.iter().position(|line| line.contains(PANIC)) else {
        return Vec::new();
    };
    let begin = lines[..panic]
        .iter()
        .position(|line| super::klog::opens_splat(line))
        .unwrap_or(panic);
    lines[begin..]
        .iter()
        .take(LONGEST)
        .map(|&line| line.to_owned())
        .collect()
}

fn lines(console: &str) -> impl Iterator<Item = &str> {
    console.lines().map(str::trim_end).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "[    1.0] Run /init as init process\r\n[    2.0] sysrq: Trigger a crash\r\n\
        [    2.1] Kernel panic - not syncing: sysrq triggered crash\r\n[    2.2] CPU: 1 UID: 0 PID: 60\r\n\r\n";

    #[test]
    fn the_tail_is_the_end_without_empty_lines() {
        assert_eq!(tail(PANIC, 1), ["[    2.2] CPU: 1 UID: 0 PID: 60"]);
        assert_eq!(tail("", 5), Vec::<String>::new());
    }

    #[test]
    fn the_kernels_own_banner_counts() {
        assert!(kernel_began("SLOF\n[    0.000000] Linux version 6.12.107 (k@k)\n"));
        assert!(!kernel_began(
            "Preparing to boot Linux version 6.12.107 (k@k)\nBooting Linux via __start()\n"
        ));
        assert!(!kernel_began(""));
    }

    #[test]
    fn a_panic_is_told_from_its_line_on() {
        assert_eq!(panic_lines(PANIC).len(), 2);
        assert!(panic_lines("[    1.0] all is well\n").is_empty());
    }

    #[test]
    fn a_panic_after_an_oops_is_told_from_the_oops_on() {
        let text =
            "a\nBUG: kernel NULL pointer dereference, address: 0\nRIP: f+0x1\nKernel panic - not syncing: Fatal\n";
        assert_eq!(panic_lines(text)[0], "BUG: kernel NULL pointer dereference, address: 0");
    }
}
