//! Calls compilers through a compile cache such as ccache or sccache.
//!
//! kbuild records each command, and livepatches are compiled with the recorded commands. The cache must not get into
//! these, as it would through `CC`. Instead, a folder at the front of `PATH` has a small script under the name of each
//! compiler; kbuild calls and records the name.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::outcome::Ending;
use crate::sh;

/// The scripts. Dropping this value removes them.
pub(super) struct Launched {
    folder: TempDir,
    launcher: PathBuf,
}

impl Launched {
    /// Writes scripts for the compilers among a toolchain's programs.
    pub fn new(launcher: &str, programs: &[String]) -> Result<Self> {
        let launched = Launched {
            folder: tempfile::tempdir().context("cannot make a folder for the compiler cache's scripts")?,
            launcher: sh::require(launcher)?,
        };
        let compilers: Vec<&String> = programs.iter().filter(|program| is_compiler(program)).collect();
        ensure!(!compilers.is_empty(), "no compiler among {}", programs.join(", "));
        for name in compilers {
            launched.script(name, &sh::require(name)?)?;
        }
        Ok(launched)
    }

    fn script(&self, name: &str, compiler: &Path) -> Result<()> {
        let text = format!(
            "#!/bin/sh\n: >{}\nexec {} {} \"$@\"\n",
            quoted(&self.mark()),
            quoted(&self.launcher),
            quoted(compiler)
        );
        let script = self.folder.path().join(name);
        let cannot = || format!("cannot write {}", script.display());
        fs::write(&script, text).with_context(cannot)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(cannot)
    }

    /// Variables for `make`: the search path with the scripts first, and those of `variables` that the cache needs.
    pub fn environment(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<(OsString, OsString)>> {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.folder.path().to_owned()).chain(std::env::split_paths(&rest));
        let path = std::env::join_paths(folders).context("TMPDIR contains a colon")?;
        let of_cache = variables
            .into_iter()
            .filter(|(name, _)| name.to_str().is_some_and(is_of_cache));
        Ok(of_cache.chain([("PATH".into(), path)]).collect())
    }

    /// Fails if no compiler was called through the cache.
    pub fn expect_used(&self) -> Result<()> {
        if self.mark().exists() {
            return Ok(());
        }
        Err(Ending::infrastructure(format!(
            "the kernel build never called {}",
            self.launcher.display()
        )))
    }

    fn mark(&self) -> PathBuf {
        self.folder.path().join("used")
    }
}

/// Whether a variable tells a compile cache where its files are or how to reach shared storage: the "Configuration"
/// chapters of ccache's and sccache's manuals. kbuild uses none of these names.
fn is_of_cache(variable: &str) -> bool {
    let prefixes = ["ACTIONS_", "AWS_", "CCACHE_", "SCCACHE_"];
    prefixes.iter().any(|prefix| variable.starts_with(prefix))
        || matches!(variable, "XDG_CACHE_HOME" | "XDG_CONFIG_HOME")
}

/// `clang-19` and `powerpc64le-linux-gnu-gcc`, but not `ld.lld-19`.
fn is_compiler(program: &str) -> bool {
    program.split('-').any(|part| matches!(part, "clang" | "gcc"))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_wrapped_and_linkers_are_not() {
        for (name, expected) in [
            ("clang-19", true),
            ("gcc", true),
            ("powerpc64le-linux-gnu-gcc", true),
            ("ld.lld-19", false),
            ("powerpc64le-linux-gnu-ld", false),
        ] {
            assert_eq!(is_compiler(name), expected, "{name}");
        }
    }

    #[test]
    fn a_launcher_sees_the_whole_command_and_its_use_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = folder.path().join("my-gcc");
        let launcher = folder.path().join("my cache");
        for (file, text) in [
            (&compiler, "#!/bin/sh\necho compiled \"$2\"\n"),
            (&launcher, "#!/bin/sh\necho cached; exec \"$@\"\n"),
        ] {
            fs::write(file, text).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let launched = Launched {
            folder: tempfile::tempdir().unwrap(),
            launcher,
        };
        launched.script("gcc", &compiler).unwrap();
        assert!(launched.expect_used().is_err());
        let script = launched.folder.path().join("gcc");
        let said = sh::output(sh::command(script).args(["-c", "a b.c"])).unwrap();
        assert_eq!(said, "cached\ncompiled a b.c\n");
        assert!(launched.expect_used().is_ok());
    }

    #[test]
    fn make_gets_the_settings_of_the_cache_and_no_others() {
        let launched = Launched {
            folder: tempfile::tempdir().unwrap(),
            launcher: "/usr/bin/ccache".into(),
        };
        let set = [
            ("CCACHE_DIR", "/cache"),
            ("SCCACHE_BUCKET", "b"),
            ("KCFLAGS", "-O3"),
            ("CPATH", "/x"),
        ];
        let set = set.map(|(name, value)| (name.into(), value.into()));
        let environment = launched.environment(set).unwrap();
        let names: Vec<_> = environment.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["CCACHE_DIR", "SCCACHE_BUCKET", "PATH"]);
        let folder = std::env::split_paths(&environment[2].1).next().unwrap();
        assert_eq!(folder, launched.folder.path());
    }
}
