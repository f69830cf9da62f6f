//! Which objects this configuration builds. No package has a list of them, but the Makefiles do, and kbuild reads those
//! itself: a rule of ours, run in each folder that kbuild would enter, prints what it has put together there.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use super::make;
use crate::build::kbuild::Trees;
use crate::kernel::StockKernel;
use crate::sh;
use crate::supply::store::cache::{Cache, Key};

/// The version of the list's form.
const VERSION: &str = "built objects 1";
/// The file of the list in its entry.
const LIST: &str = "objects";
/// What a line of ours begins with.
const MARK: &str = "built-here:";

/// Additional rules beside those of scripts/Makefile.build, which has read the folder's own Makefile and scripts/Makefile.lib
/// by then (6.1 to 6.12): `real-obj-y` and `real-obj-m` are the objects of image and modules, each part of a composite one
/// by itself, `lib-y` those of `lib.a`, and `subdir-ym` the folders below. A pattern with a slash, since only then make
/// takes the folder for a part of the stem.
const RULES: &str = "\
descend = $(MAKE) -f $(srctree)/scripts/Makefile.build -f $(BUILT_RULES) obj=$(1) need-builtin=1 need-modorder=1 built-here
built-everywhere:
\t+@$(call descend,.)
built-here: $(addsuffix /built-below,$(subdir-ym))
\t@: $(info built-here: $(real-obj-y) $(real-obj-m) $(lib-y))
%/built-below:
\t+@$(call descend,$*)
";

/// The objects, relative to the build directory. They are asked for once for each kernel.
pub fn list(stock: &StockKernel, trees: &Trees, cache: &Cache, jobs: usize) -> Result<BTreeSet<String>> {
    let configuration = stock.objects.join(".config");
    let configuration = fs::read(&configuration).with_context(|| format!("cannot read {}", configuration.display()))?;
    let key = Key::new(VERSION)
        .text(&stock.id)
        .text(&trees.source.to_string_lossy())
        .bytes(&configuration);
    let entry = cache.get("built", &key, |folder| {
        let rules = folder.join("rules.mk");
        fs::write(&rules, RULES).with_context(|| format!("cannot write {}", rules.display()))?;
        let mut make = make::command(stock, trees, jobs, Some(&rules));
        make.env("BUILT_RULES", &rules).arg("built-everywhere");
        let (status, out, messages) = sh::captured(&mut make)?;
        if !status.success() {
            bail!(
                "kbuild cannot say what this configuration builds:\n{}",
                messages.trim_end()
            );
        }
        let objects = parse(&out);
        let list = folder.join(LIST);
        fs::write(&list, objects.into_iter().collect::<Vec<_>>().join("\n"))
            .with_context(|| format!("cannot write {}", list.display()))
    })?;
    let list = entry.join(LIST);
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn parse(out: &str) -> BTreeSet<String> {
    let words = out
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .flat_map(str::split_whitespace);
    words
        .filter(|word| word.ends_with(".o"))
        .map(|word| word.strip_prefix("./").unwrap_or(word).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kbuild_says_in_passing_is_no_object() {
        let out = "make: entering x.o\nbuilt-here: ./fs/a.o fs/built-in.a ./fs/b.o\nbuilt-here:\n  CC y.o\n";
        assert_eq!(parse(out), BTreeSet::from(["fs/a.o".to_owned(), "fs/b.o".to_owned()]));
    }
}
