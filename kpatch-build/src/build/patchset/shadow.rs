//! A file that a patch adds can be found before one that is there: the compiler takes the first of a name.

/// Whether a new file may be what some `#include` means from now on, which meant `existing` so far. Of `<asm/a.h>` the new
/// file has both parts; a plain `"a.h"` is looked for beside the file that says it and in the folders of the command:
/// `is_searched` knows these.
pub fn may_shadow(new: &str, existing: &str, is_searched: impl FnOnce(&str) -> bool) -> bool {
    let same = new.rsplit('/').zip(existing.rsplit('/'));
    match same.take_while(|(a, b)| a == b).count() {
        0 => false,
        1 => is_searched(folder_of(new)),
        _ => new != existing,
    }
}

/// The folder of a path; nothing for a plain name.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_an_include_names_decides() {
        let generated = "arch/x86/include/generated/asm/irq_regs.h";
        assert!(may_shadow("arch/x86/include/asm/irq_regs.h", generated, |_| false));
        assert!(!may_shadow("arch/x86/include/asm/other.h", generated, |_| true));
        assert!(!may_shadow("fs/a/local.h", "drivers/b/local.h", |_| false));
        assert!(may_shadow("fs/a/local.h", "drivers/b/local.h", |folder| folder == "fs/a"));
    }
}
