//! Kernel configuration: a base, fragments on top of it, and a check that each of their lines took effect.
//!
//! Kconfig silently drops a line if a dependency is missing. The kernel would lack what the fragment asked for, and
//! nobody would notice.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result, bail};

use super::make::Make;

/// Makes `.config` and checks it.
pub(super) fn configure(make: &Make<'_>, base: &str, fragments: &[String]) -> Result<()> {
    make.target(base)?;
    let path = make.build.join(".config");
    append(&path, fragments).with_context(|| format!("cannot write {}", path.display()))?;
    make.target("olddefconfig")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lost = lost(&wanted(fragments)?, &settings(&text));
    if !lost.is_empty() {
        bail!(
            "configuration fragment lines without effect (missing dependency, or option renamed in this version):\n  {}",
            lost.join("\n  ")
        );
    }
    Ok(())
}

fn append(path: &std::path::Path, fragments: &[String]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    fragments
        .iter()
        .try_for_each(|fragment| file.write_all(fragment.as_bytes()))
}

/// The settings that the fragments ask for; the last line about an option wins. An option that must be off is `n`.
fn wanted(fragments: &[String]) -> Result<BTreeMap<String, String>> {
    let mut wanted = BTreeMap::new();
    for line in fragments.iter().flat_map(|fragment| fragment.lines()) {
        match setting(line) {
            Some((name, value)) => drop(wanted.insert(name.to_owned(), value.to_owned())),
            None if line.trim().is_empty() || line.starts_with('#') => {}
            None => bail!("configuration fragment: `{line}` is neither a setting nor a comment"),
        }
    }
    Ok(wanted)
}

/// The settings of a `.config`.
pub(super) fn settings(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(setting).collect()
}

fn setting(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        let name = rest.strip_suffix(" is not set")?;
        return Some((&line[2..name.len() + 9], "n"));
    }
    line.split_once('=').filter(|(name, _)| name.starts_with("CONFIG_"))
}

fn lost(wanted: &BTreeMap<String, String>, got: &BTreeMap<&str, &str>) -> Vec<String> {
    let got = |name: &str| got.get(name).copied().unwrap_or("n");
    let lost = wanted.iter().filter(|(name, value)| got(name) != value.as_str());
    lost.map(|(name, value)| format!("{name}={value} (is {})", got(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost_of(fragments: &[&str], config: &str) -> Vec<String> {
        let fragments: Vec<_> = fragments.iter().map(|text| (*text).to_owned()).collect();
        lost(&wanted(&fragments).unwrap(), &settings(config))
    }

    #[test]
    fn every_line_must_take_effect() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=4\n";
        assert!(
            lost_of(
                &["CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=4\n# CONFIG_GONE is not set\n"],
                config
            )
            .is_empty()
        );
        assert_eq!(
            lost_of(&["CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=y\n"], config),
            ["CONFIG_A=m (is y)", "CONFIG_B=y (is n)", "CONFIG_C=y (is n)"]
        );
    }

    #[test]
    fn a_later_fragment_wins() {
        assert!(lost_of(&["CONFIG_A=y\n", "# CONFIG_A is not set\n"], "# CONFIG_A is not set\n").is_empty());
    }

    #[test]
    fn a_line_that_is_nothing_is_an_error() {
        assert!(wanted(&["CONFIG_A y\n".to_owned()]).is_err());
        assert!(wanted(&["# just words\n\nCONFIG_A=y\n".to_owned()]).is_ok());
    }
}
