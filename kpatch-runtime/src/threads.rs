//! The threads of a machine, as `/proc` shows them (Documentation/filesystems/proc.rst). They come and go while they are
//! looked at: what is gone meanwhile has no files any more.

use std::fs;
use std::path::{Path, PathBuf};

/// A thread.
pub struct Thread {
    /// Its number, as `gettid(2)` tells it.
    pub number: u32,
    folder: PathBuf,
}

/// What `/proc/PID/task/TID/stat` says of a thread.
pub struct Stat<'t> {
    /// Its name, at most 15 bytes, or that of a worker's queue.
    pub name: &'t str,
    /// The fields behind the name, from the state on.
    pub fields: Vec<&'t str>,
}

impl Thread {
    /// The text of one of its files.
    pub fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// The functions on its stack, innermost first; nothing if the kernel does not tell.
    pub fn stack(&self) -> Option<Vec<String>> {
        Some(self.text("stack")?.lines().filter_map(function).collect())
    }
}

/// All threads of the machine whose file system begins at `root`.
pub fn all(root: &Path) -> Vec<Thread> {
    let proc = root.join("proc");
    let processes = numbers(&proc).into_iter();
    let threads = processes.flat_map(|process| {
        let folder = proc.join(process.to_string()).join("task");
        let thread = |number: u32| Thread {
            number,
            folder: folder.join(number.to_string()),
        };
        numbers(&folder).into_iter().map(thread).collect::<Vec<_>>()
    });
    threads.collect()
}

/// `PID (NAME) STATE …`. The name in brackets may hold anything, brackets as well.
pub fn stat(text: &str) -> Option<Stat<'_>> {
    let (start, rest) = text.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    Some(Stat {
        name,
        fields: rest.split_ascii_whitespace().collect(),
    })
}

/// The function of a line of a stack, `[<0>] NAME+0x1/0x2`.
fn function(line: &str) -> Option<String> {
    let (_, name) = line.trim().split_once("] ")?;
    Some(name.split('+').next()?.trim().to_owned())
}

fn numbers(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_brackets() {
        let found = stat("12 (a) b) S 2 0").unwrap();
        assert_eq!((found.name, found.fields[0]), ("a) b", "S"));
        assert!(stat("12").is_none());
    }

    #[test]
    fn a_stack_is_its_functions() {
        assert_eq!(function("[<0>] kthread+0x3/0x4").as_deref(), Some("kthread"));
        assert_eq!(function("kthread"), None);
    }
}
