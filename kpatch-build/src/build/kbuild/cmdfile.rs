//! Reads kbuild's `.target.cmd` files: which command made a file, from which source, with which dependencies.
//!
//! A build has thousands of them with hundreds of dependencies each, so nothing is copied: the text is kept and the
//! parts are found in it when somebody asks.

use super::shell::{self, NotUnderstood};

/// One `.cmd` file.
#[derive(Debug, Clone)]
pub struct CmdFile {
    text: String,
}

impl CmdFile {
    /// Takes the text of a `.cmd` file.
    pub fn new(text: String) -> Self {
        CmdFile { text }
    }

    /// What was made, as make names it.
    pub fn target(&self) -> Option<&str> {
        self.body()?.split_once(" := ").map(|(target, _)| target)
    }

    fn body(&self) -> Option<&str> {
        let text = &self.text;
        text.strip_prefix("savedcmd_").or_else(|| text.strip_prefix("cmd_"))
    }

    /// The command line with make's own quoting still in it.
    pub fn raw_command(&self) -> Option<&str> {
        let rest = self.body()?;
        let mut end = 0;
        for line in rest.split_inclusive('\n') {
            end += line.len();
            if !line.trim_end_matches('\n').ends_with('\\') {
                break;
            }
        }
        rest[..end].split_once(" := ").map(|(_, command)| command)
    }

    /// The command line as a list of simple commands, each a list of words.
    pub fn commands(&self) -> Result<Vec<Vec<String>>, NotUnderstood> {
        let raw = self.raw_command().unwrap_or_default().replace("\\\n", " ");
        shell::split(&shell::unescape_make(&raw)?)
    }

    /// The source file, spelt as in the command.
    pub fn source(&self) -> Option<&str> {
        self.text
            .lines()
            .find(|line| line.starts_with("source_"))?
            .split_once(" := ")
            .map(|(_, source)| source.trim())
    }

    /// Every file the target was made from except the source, spelt as in the file. Configuration switches, which kbuild
    /// writes as `$(wildcard include/config/…)`, are no files of anybody's patch and left out.
    pub fn deps(&self) -> impl Iterator<Item = &str> {
        let mut lines = self.text.lines();
        let found = lines.any(|line| line.starts_with("deps_"));
        lines
            .take_while(move |line| found && !line.is_empty())
            .map(|line| line.trim_end_matches('\\').trim())
            .filter(|word| !word.is_empty() && !word.starts_with("$("))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "savedcmd_fs/a.o := clang -DX='\"$(pound)1\"' -c \\\n  -o fs/a.o /s/fs/a.c ; ./objtool fs/a.o\n\n\
        source_fs/a.o := /s/fs/a.c\n\ndeps_fs/a.o := \\\n    $(wildcard include/config/CMA) \\\n  /s/include/a.h \\\n  \
        include/generated/b.h \\\n\nfs/a.o: $(deps_fs/a.o)\n\n$(deps_fs/a.o):\n";

    #[test]
    fn all_parts_are_found() {
        let cmd = CmdFile::new(TEXT.to_owned());
        assert_eq!((cmd.target(), cmd.source()), (Some("fs/a.o"), Some("/s/fs/a.c")));
        assert_eq!(
            cmd.deps().collect::<Vec<_>>(),
            ["/s/include/a.h", "include/generated/b.h"]
        );
        let commands = cmd.commands().unwrap();
        assert_eq!(commands[0], ["clang", "-DX=\"#1\"", "-c", "-o", "fs/a.o", "/s/fs/a.c"]);
        assert_eq!(commands[1], ["./objtool", "fs/a.o"]);
    }

    #[test]
    fn the_old_variable_name_is_known() {
        let cmd = CmdFile::new(TEXT.replace("savedcmd_", "cmd_"));
        assert_eq!(cmd.commands().unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_dependencies_has_none() {
        let cmd = CmdFile::new("savedcmd_a.o := ld a\n\na.o: $(wildcard ./objtool)\n".to_owned());
        assert_eq!(cmd.deps().count(), 0);
        assert_eq!(cmd.source(), None);
    }
}
