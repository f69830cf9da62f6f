//! Defaults of the user's own: the environment, then a configuration file, then what is built in.
//!
//! The file is `kpatch/config.yaml` in the folder for configuration files (`XDG_CONFIG_HOME`, else `~/.config`). Each
//! setting is the default of the option of the same name, so `--help` shows what holds here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Command;
use clap::builder::{OsStr, Resettable};
use serde::Serialize;

use crate::outcome::Ending;
use crate::yaml;

/// The name of the file below the folder for configuration files.
const FILE: &str = "kpatch/config.yaml";

/// A setting: the option that it is the default of, and its variable.
#[derive(Debug)]
pub struct Known {
    /// Name of the option, and of the key in the file.
    pub name: &'static str,
    /// Variable of the environment.
    pub variable: &'static str,
    /// What holds if nobody says anything.
    pub built_in: &'static str,
}

/// All settings.
pub const KNOWN: [Known; 8] = [
    known("kernel", "KPATCH_KERNEL", "none"),
    known("config", "KPATCH_CONFIG", "small"),
    known("arch", "KPATCH_ARCH", "x86_64"),
    known("toolchain", "KPATCH_TOOLCHAIN", "the first of the configuration"),
    known("launcher", "KPATCH_LAUNCHER", "none"),
    known("jobs", "KPATCH_JOBS", "number of processors"),
    known("store", "KPATCH_STORE", "kpatch in the user's cache folder"),
    known("kernels", "KPATCH_KERNELS", "built in"),
];

const fn known(name: &'static str, variable: &'static str, built_in: &'static str) -> Known {
    Known {
        name,
        variable,
        built_in,
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A variable of the environment.
    Environment(String),
    /// The configuration file.
    File(String),
    /// Nobody said anything.
    BuiltIn,
}

/// One setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, or a description of what holds without one.
    pub value: String,
    /// Where the value comes from.
    pub from: Origin,
}

/// What the environment and the file say.
#[derive(Debug, Default)]
pub struct Settings {
    file: Option<PathBuf>,
    of_file: BTreeMap<String, String>,
    of_environment: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Reads the environment, and the file if there is one.
    pub fn read() -> Result<Self> {
        let mut settings = Settings {
            file: file(|name| std::env::var_os(name)),
            ..Settings::default()
        };
        for known in &KNOWN {
            let value = std::env::var_os(known.variable).filter(|value| !value.is_empty());
            if let Some(value) = value {
                let text = value.into_string();
                let text = text.map_err(|_| Ending::usage(format!("{} is not Unicode", known.variable)))?;
                settings.of_environment.insert(known.name, text);
            }
        }
        if let Some(file) = settings.file.as_ref().filter(|file| file.is_file()) {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            settings.of_file = parse(&text).map_err(|why| Ending::usage(format!("{}: {why}", file.display())))?;
        }
        Ok(settings)
    }

    /// Every setting with its value and where that comes from.
    pub fn all(&self) -> Vec<Setting> {
        KNOWN.iter().map(|known| self.one(known)).collect()
    }

    /// The configuration file, whether it is there or not.
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    fn one(&self, known: &Known) -> Setting {
        let environment = self.of_environment.get(known.name);
        let (value, from) = match (environment, self.of_file.get(known.name)) {
            (Some(value), _) => (value.clone(), Origin::Environment(known.variable.to_owned())),
            (None, Some(value)) => {
                let file = self.file.as_ref().map(|file| file.display().to_string());
                (value.clone(), Origin::File(file.unwrap_or_default()))
            }
            (None, None) => (known.built_in.to_owned(), Origin::BuiltIn),
        };
        Setting {
            name: known.name,
            value,
            from,
        }
    }

    /// Makes the settings the defaults of the options, in every command that has them.
    ///
    /// An option with a default does not conflict with another one, so `--source` works also if a kernel is set here.
    pub fn apply(&self, command: Command) -> Command {
        let mut command = command;
        for setting in self.all().into_iter().filter(|one| one.from != Origin::BuiltIn) {
            command = with_default(command, setting.name, &setting.value);
        }
        command
    }
}

fn with_default(command: Command, name: &'static str, value: &str) -> Command {
    let has_option = command.get_arguments().any(|argument| argument.get_id() == name);
    let command = if has_option {
        command.mut_arg(name, |argument| {
            argument
                .env(Resettable::<OsStr>::Reset)
                .default_value(OsStr::from(value.to_owned()))
        })
    } else {
        command
    };
    let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, sub| {
        command.mut_subcommand(sub, |sub| with_default(sub, name, value))
    })
}

/// The keys and values of the file. A key that is no setting is an error, since it would do nothing.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: BTreeMap<String, Scalar> = yaml::parse(text).map_err(|error| format!("{error:#}"))?;
    for key in found.keys() {
        if !KNOWN.iter().any(|known| known.name == key) {
            let names = KNOWN.map(|known| known.name).join(", ");
            return Err(format!("unknown setting `{key}`; known: {names}"));
        }
    }
    Ok(found.into_iter().map(|(key, value)| (key, value.text())).collect())
}

/// A value as people write it: `jobs: 4` is a number, `kernel: 6.12` would be one, too.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(i64),
    Fraction(f64),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Scalar::Text(text) => text,
            Scalar::Number(number) => number.to_string(),
            Scalar::Fraction(number) => number.to_string(),
        }
    }
}

fn file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::{BuilderCommand, Cli, Command as Typed};

    fn settings(of_file: &str) -> Settings {
        Settings {
            file: Some("/c.yaml".into()),
            of_file: parse(of_file).unwrap(),
            of_environment: BTreeMap::new(),
        }
    }

    fn build(settings: &Settings, line: &str) -> crate::cli::BuildArgs {
        let command = settings.apply(Cli::command());
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        match Cli::from_arg_matches(&matches).unwrap().command {
            Typed::Builder(BuilderCommand::Build(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_gives_defaults_and_the_command_line_wins() {
        let settings = settings("kernel: '6.12'\njobs: 3\n");
        let args = build(&settings, "kpatch build a.patch");
        assert_eq!((args.kernel.kernel.as_deref(), args.jobs), (Some("6.12"), Some(3)));
        let args = build(&settings, "kpatch build a.patch --kernel 6.1 -j 1");
        assert_eq!((args.kernel.kernel.as_deref(), args.jobs), (Some("6.1"), Some(1)));
    }

    #[test]
    fn a_kernel_of_the_settings_does_not_forbid_ones_own() {
        let args = build(&settings("kernel: '6.12'"), "kpatch build a.patch --source s");
        assert!(
            args.kernel
                .choice(Some(&args.own))
                .is_ok_and(|choice| matches!(choice, crate::supply::place::Choice::Own(_)))
        );
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let mut settings = settings("config: hardened");
        settings.of_environment.insert("config", "distro".into());
        let all = settings.all();
        let config = all.iter().find(|one| one.name == "config").unwrap();
        assert_eq!(config.value, "distro");
        assert_eq!(config.from, Origin::Environment("KPATCH_CONFIG".into()));
        assert_eq!(all[0].from, Origin::BuiltIn);
    }

    #[test]
    fn a_setting_that_there_is_not_is_an_error() {
        assert!(parse("kernal: 6.12").unwrap_err().contains("kernal"));
        assert_eq!(parse("kernel: 6.12").unwrap()["kernel"], "6.12");
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn every_setting_is_an_option() {
        fn has(command: &Command, name: &str) -> bool {
            command.get_arguments().any(|one| one.get_id() == name)
                || command.get_subcommands().any(|sub| has(sub, name))
        }
        let command = Cli::command();
        for known in &KNOWN {
            assert!(has(&command, known.name), "{}", known.name);
        }
    }

    #[test]
    fn the_file_is_where_such_files_are() {
        let home = |name: &str| (name == "HOME").then(|| "/h".into());
        assert_eq!(file(home), Some("/h/.config/kpatch/config.yaml".into()));
        let xdg = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "/x".into());
        assert_eq!(file(xdg), Some("/x/kpatch/config.yaml".into()));
        assert_eq!(file(|_| None), None);
    }
}
