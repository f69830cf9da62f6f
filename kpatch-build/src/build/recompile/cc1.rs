//! Compiles a source that exists only in the overlay.
//!
//! Clang's driver looks for its input on the disk and knows nothing of overlays; the compiler proper, which the driver
//! would start, reads through them. So the driver is asked for that command with the copy as input, and the name in the
//! tree is put back before it is run.

use anyhow::{Context, Result, bail};

use crate::build::kbuild::shell;
use crate::sh;

/// The command of the compiler proper for a driver command whose input `source` is to be found at `copy`.
pub fn command(words: &[String], source: &str, copy: &str, folder: &std::path::Path) -> Result<Vec<String>> {
    let Some((program, arguments)) = words.split_first() else {
        bail!("an empty command")
    };
    let arguments = arguments
        .iter()
        .map(|word| if word == source { copy } else { word.as_str() });
    let mut driver = sh::command(program);
    driver.args(arguments).arg("-###").current_dir(folder);
    let (status, _, jobs) = sh::captured(&mut driver)?;
    if !status.success() {
        bail!("{program} failed with {status}:\n{}", jobs.trim_end());
    }
    with_source(&jobs, source, copy)
}

fn with_source(jobs: &str, source: &str, copy: &str) -> Result<Vec<String>> {
    let lines: Vec<&str> = jobs.lines().filter(|line| line.starts_with(" \"")).collect();
    let [job] = lines[..] else {
        bail!("the compiler would run {} programs instead of one", lines.len())
    };
    let mut commands = shell::split(job).context("the compiler's own command")?;
    if commands.len() != 1 || commands[0].get(1).is_none_or(|word| word != "-cc1") {
        bail!("the compiler would run `{job}`");
    }
    let mut words = commands.remove(0);
    let mut exchanged = 0;
    for word in words.iter_mut().filter(|word| *word == copy) {
        source.clone_into(word);
        exchanged += 1;
    }
    if exchanged != 1 {
        bail!("the compiler's own command names its input {exchanged} times");
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_the_tree_comes_back() {
        let jobs = "clang version 19\n (in-process)\n \"/bin/clang\" \"-cc1\" \"-D\" \"X=\\\"a \\$b\\\"\" \"-x\" \"c\" \"/w/a.c\"\n";
        let words = with_source(jobs, "/s/a.c", "/w/a.c").unwrap();
        assert_eq!(words, ["/bin/clang", "-cc1", "-D", "X=\"a $b\"", "-x", "c", "/s/a.c"]);
        assert!(with_source(jobs, "/s/a.c", "/w/b.c").is_err());
        assert!(with_source("clang version 19\n", "/s/a.c", "/w/a.c").is_err());
    }
}
