//! What has to be true of a kernel build before a livepatch for it makes sense, and of the tools that are here now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::resolve::Lookup;
use kpatch_core::{Refusal, Subject};

use crate::sh;

use kpatch_core::codes::environment::{
    ARM64_CFI, COMPILER_MISMATCH, FULL_LTO, LINKER_MISMATCH, NO_LIVEPATCH, STRIPPED_NAMES,
};
/// A kernel configuration: `CONFIG_X` to its value, strings without their quotation marks. Switches that are off have
/// no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads `.config` from a build directory.
    pub fn read(build: &Path) -> Result<Config> {
        let path = build.join(".config");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Config::parse(&text))
    }

    pub(super) fn parse(text: &str) -> Config {
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("CONFIG_").map(|_| line)?.split_once('=')?;
            let plain = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            Some((name.to_owned(), plain.to_owned()))
        });
        Config(values.collect())
    }

    /// The value of `CONFIG_name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("CONFIG_{name}")).map(String::as_str)
    }

    /// Whether `CONFIG_name` is `y`.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("y")
    }

    /// Whether the image was linked with ThinLTO, in one step or in several.
    pub fn is_thin_lto(&self) -> bool {
        self.is_on("LTO_CLANG_THIN") || self.is_distributed()
    }

    /// Whether kbuild itself called the compiler for each file between the two halves of the link.
    pub fn is_distributed(&self) -> bool {
        self.is_on("LTO_CLANG_THIN_DIST")
    }
}

/// Reads the release a build gives itself.
pub fn release(build: &Path) -> Result<String> {
    let path = build.join("include/config/kernel.release");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// What speaks against livepatching a kernel with this configuration.
pub fn objections(config: &Config) -> Vec<Refusal> {
    let refuse = |code, why: &str, hint: &str| Refusal::new(code, Subject::file(".config"), why).hint(hint);
    let mut found = Vec::new();
    if !config.is_on("LIVEPATCH") {
        found.push(refuse(
            NO_LIVEPATCH,
            "the kernel was built without CONFIG_LIVEPATCH",
            "rebuild the kernel with CONFIG_LIVEPATCH=y: without it, it cannot load a livepatch",
        ));
    }
    if config.is_on("LTO_CLANG_FULL") {
        let why = "the kernel was built with full LTO, where every function depends on the whole kernel";
        found.push(refuse(FULL_LTO, why, "build with CONFIG_LTO_CLANG_THIN"));
    }
    if config.is_on("ARM64") && (config.is_on("CFI") || config.is_on("CFI_CLANG")) {
        let why = "indirect calls are checked by hashes that have no symbol on arm64";
        found.push(refuse(ARM64_CFI, why, "build the kernel without CONFIG_CFI"));
    }
    found
}

/// How much of its names kallsyms compares for livepatch. From 6.2 to 6.10 livepatch asks
/// `kallsyms_on_each_match_symbol`, and with LTO that compares names that are cut off (kernel/kallsyms.c,
/// `cleanup_symbol_name`): at the first dot up to 6.5, later at `.llvm.`. 6.1 has that function, but its livepatch does
/// not use it; 6.11 compares whole names.
///
/// # Errors
/// [`STRIPPED_NAMES`] if the names are cut off in a way that is not known.
pub fn lookup(config: &Config, source: &Path) -> Result<Lookup, Refusal> {
    // A tree without these files cannot have been built; what comes next says so better.
    let read = |file: &str| fs::read_to_string(source.join(file)).unwrap_or_default();
    let asks = config.is_on("LTO_CLANG") && read("kernel/livepatch/core.c").contains("kallsyms_on_each_match_symbol");
    let kallsyms = if asks { read("kernel/kallsyms.c") } else { String::new() };
    let Some((_, body)) = kallsyms.split_once(" cleanup_symbol_name(char *") else {
        return Ok(Lookup::Whole);
    };
    let body = body.split_once("\n}").map_or(body, |(body, _)| body);
    match (body.contains("\".llvm.\""), body.contains("'.'")) {
        (true, false) => Ok(Lookup::BeforePromotion),
        (false, true) => Ok(Lookup::BeforeDot),
        _ => {
            let why = "this kernel, and livepatch with it, looks symbols up by names that are cut off, and where is not known";
            let hint = "backport the change \"kallsyms: Match symbols exactly with CONFIG_LTO_CLANG\" of 6.11, or build \
                        without LTO";
            Err(Refusal::new(STRIPPED_NAMES, Subject::file("kernel/kallsyms.c"), why).hint(hint))
        }
    }
}

/// The tools that built the kernel, as they are installed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// First line of the compiler's `--version`.
    pub compiler: String,
    /// First line of the linker's `--version`.
    pub linker: String,
}

impl Tools {
    /// Asks the tools for their versions. `path` are folders in front of `PATH`.
    pub fn ask(path: &[PathBuf], compiler: &str, linker: &str) -> Result<Tools> {
        let first_line = |program: &str| -> Result<String> {
            let mut command = sh::command(program);
            command.envs(sh::path_with(path).map(|path| ("PATH", path)));
            let text = sh::output(command.arg("--version"))?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        Ok(Tools {
            compiler: first_line(compiler)?,
            linker: first_line(linker)?,
        })
    }

    /// Refusals if they are not the tools that built the kernel.
    pub fn objections(&self, config: &Config) -> Vec<Refusal> {
        let mut found = Vec::new();
        let compiler = config.get("CC_VERSION_TEXT").unwrap_or("an unknown compiler");
        if version(compiler) != version(&self.compiler) {
            let why = format!(
                "the kernel was built with `{compiler}`, but this machine has `{}`",
                self.compiler
            );
            let hint = "install exactly that compiler: other versions generate other code";
            found.push(Refusal::new(COMPILER_MISMATCH, Subject::file(".config"), why).hint(hint));
        }
        // Without link time optimisation the linker makes no code, and each object is compared with the recorded one.
        if config.is_thin_lto()
            && let (Some(built), Some(now)) = (config.get("LLD_VERSION"), lld_version(&self.linker))
            && built != now.to_string()
        {
            let why = format!("the kernel was linked with LLD version {built}, but this machine has {now}");
            let hint = "install exactly that linker: it decides what is inlined across files";
            found.push(Refusal::new(LINKER_MISMATCH, Subject::file(".config"), why).hint(hint));
        }
        found
    }
}

/// What a compiler says of itself, without the name that it was called by: GCC puts that in front.
fn version(line: &str) -> &str {
    match line.split_once(" (") {
        Some((name, rest)) if name.contains("gcc") && !name.contains(' ') => rest,
        _ => line,
    }
}

/// The LLVM tool that came with the compiler: `clang-19` and `llvm-nm-19` belong together.
pub fn tool_beside(compiler: &str, tool: &str) -> Result<String> {
    let (folder, name) = compiler
        .rsplit_once('/')
        .map_or(("", compiler), |(folder, name)| (folder, name));
    let Some((prefix, version)) = name.split_once("clang") else {
        bail!("`{compiler}` is not a clang")
    };
    let gap = if folder.is_empty() { "" } else { "/" };
    Ok(format!("{folder}{gap}{prefix}{tool}{version}"))
}

/// `LLD 19.1.7` as Kconfig counts it: 190107.
fn lld_version(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("LLD ")?;
    let version = rest.split_whitespace().next()?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().flatten();
    let (major, minor, patch) = (next()?, next()?, next()?);
    major
        .checked_mul(10_000)?
        .checked_add(minor.checked_mul(100)?)?
        .checked_add(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "CONFIG_CC_VERSION_TEXT=\"Debian clang version 19.1.7\"\nCONFIG_LLD_VERSION=190107\n\
        CONFIG_LIVEPATCH=y\nCONFIG_LTO_CLANG_THIN=y\n# CONFIG_RANDSTRUCT_FULL is not set\n";

    fn codes(text: &str) -> Vec<&'static str> {
        objections(&Config::parse(text))
            .into_iter()
            .map(|refusal| refusal.code.name())
            .collect()
    }

    #[test]
    fn a_compiler_may_be_called_by_another_name() {
        let config = Config::parse("CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14) 12.2.0\"\n");
        let objections = |compiler: &str| {
            let tools = Tools {
                compiler: compiler.into(),
                linker: "GNU ld 2.40".into(),
            };
            tools.objections(&config).len()
        };
        assert_eq!(objections("x86_64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0"), 0);
        assert_eq!(objections("gcc-12 (Debian 12.2.0-15) 12.2.0"), 1);
        assert_eq!(objections("Debian clang version 19.1.7 (Debian 12.2.0-14) 12.2.0"), 1);
    }

    #[test]
    fn a_good_configuration_passes() {
        let config = Config::parse(GOOD);
        assert_eq!(config.get("CC_VERSION_TEXT"), Some("Debian clang version 19.1.7"));
        assert_eq!(config.get("RANDSTRUCT_FULL"), None);
        assert!(codes(GOOD).is_empty());
    }

    #[test]
    fn each_obstacle_has_its_code() {
        assert_eq!(codes(""), ["env.no-livepatch"]);
        assert!(codes("CONFIG_LIVEPATCH=y").is_empty());
        assert_eq!(codes("CONFIG_LIVEPATCH=y\nCONFIG_LTO_CLANG_FULL=y"), ["env.full-lto"]);
        let drawn = format!("{GOOD}CONFIG_RANDSTRUCT=y\nCONFIG_GCC_PLUGIN_LATENT_ENTROPY=y\n");
        assert!(
            codes(&drawn).is_empty(),
            "whether it comes out again is seen from the objects"
        );
        assert!(codes("CONFIG_LIVEPATCH=y\nCONFIG_LTO_CLANG_THIN_DIST=y").is_empty());
        assert!(codes(&format!("{GOOD}CONFIG_CFI=y")).is_empty());
        assert_eq!(codes(&format!("{GOOD}CONFIG_ARM64=y\nCONFIG_CFI=y")), ["env.arm64-cfi"]);
    }

    #[test]
    fn a_kernel_says_how_it_cuts_names_off() {
        let tree = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = tree.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let judge = |config: &str| lookup(&Config::parse(config), tree.path()).map_err(|refusal| refusal.code.name());
        let cut = |how: &str| {
            let text = format!("static bool cleanup_symbol_name(char *s)\n{{\n\t{how}\n}}\nint strchr(s, '.');\n");
            write("kernel/kallsyms.c", &text);
        };
        let lto = "CONFIG_LTO_CLANG=y\nCONFIG_LTO_CLANG_THIN=y";
        cut("end = strstr(s, \".llvm.\");");
        let livepatch = "kernel/livepatch/core.c";
        write(livepatch, "\t\tkallsyms_on_each_symbol(klp_find_callback, &args);");
        assert_eq!(judge(lto), Ok(Lookup::Whole), "6.1");
        write(
            livepatch,
            "\t\tkallsyms_on_each_match_symbol(klp_match_callback, name, &args);",
        );
        assert_eq!(judge(lto), Ok(Lookup::BeforePromotion), "6.6");
        assert_eq!(judge(""), Ok(Lookup::Whole), "6.6 without LTO");
        cut("end = strchr(s, '.');");
        assert_eq!(judge(lto), Ok(Lookup::BeforeDot), "6.4");
        cut("end = strrchr(s, '$');");
        assert_eq!(judge(lto), Err("env.stripped-names"), "neither");
        write("kernel/kallsyms.c", "");
        assert_eq!(judge(lto), Ok(Lookup::Whole), "6.12");
    }

    #[test]
    fn other_tools_are_refused() {
        let config = Config::parse(GOOD);
        let tools = |compiler: &str, linker: &str| Tools {
            compiler: compiler.into(),
            linker: linker.into(),
        };
        let codes = |tools: Tools| {
            tools
                .objections(&config)
                .into_iter()
                .map(|r| r.code.name())
                .collect::<Vec<_>>()
        };
        assert!(
            codes(tools(
                "Debian clang version 19.1.7",
                "Debian LLD 19.1.7 (compatible with GNU linkers)"
            ))
            .is_empty()
        );
        let other = codes(tools("Debian clang version 19.1.6", "LLD 19.1.6"));
        assert_eq!(other, ["env.compiler-mismatch", "env.linker-mismatch"]);
        let without_lto = Config::parse(&GOOD.replace("CONFIG_LTO_CLANG_THIN=y", ""));
        let other = tools("Debian clang version 19.1.7", "LLD 19.1.6").objections(&without_lto);
        assert!(other.is_empty(), "the linker makes no code: {other:?}");
    }

    #[test]
    fn tools_follow_the_compiler() {
        assert_eq!(tool_beside("clang-19", "llvm-nm").unwrap(), "llvm-nm-19");
        assert_eq!(tool_beside("/opt/bin/clang", "llvm-dis").unwrap(), "/opt/bin/llvm-dis");
        assert!(tool_beside("gcc", "llvm-nm").is_err());
    }
}
