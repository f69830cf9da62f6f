//! apt's two formats for package sources, as far as finding the machine's Debian archive needs them.

/// One entry: where packages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stanza {
    types: Vec<String>,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// All other fields unchanged, such as keys and validity checks.
    others: Vec<(String, String)>,
}

/// Reads the format of `*.sources`: fields, stanzas parted by empty lines.
pub fn parse_deb822(text: &str) -> Vec<Stanza> {
    let mut stanzas = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            stanzas.extend(stanza(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    stanzas
}

fn stanza(fields: Vec<(String, String)>) -> Option<Stanza> {
    let mut stanza = Stanza::default();
    let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
    for (name, value) in fields {
        match name.to_ascii_lowercase().as_str() {
            "enabled" if value.eq_ignore_ascii_case("no") => return None,
            "enabled" => {}
            "types" => stanza.types = words(&value),
            "uris" => stanza.uris = words(&value),
            "suites" => stanza.suites = words(&value),
            "components" => stanza.components = words(&value),
            _ => stanza.others.push((name, value)),
        }
    }
    (!stanza.uris.is_empty()).then_some(stanza)
}

/// Reads the format of `*.list`: `deb [options] URI suite component…`, one entry a line.
pub fn parse_one_line(text: &str) -> Vec<Stanza> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Stanza> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let (options, rest) = match rest.trim().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let others = options.split_whitespace().filter_map(|option| option.split_once('='));
    let others = others.filter_map(|(name, value)| Some((deb822_name(name)?.to_owned(), value.replace(',', " "))));
    Some(Stanza {
        types: vec![kind.to_owned()],
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        others: others.collect(),
    })
}

fn deb822_name(option: &str) -> Option<&'static str> {
    Some(match option {
        "signed-by" => "Signed-By",
        "arch" => "Architectures",
        "trusted" => "Trusted",
        "check-valid-until" => "Check-Valid-Until",
        "check-date" => "Check-Date",
        _ => return None,
    })
}

/// The entry to take a suite from: the security archive for security suites, else the main one. Third-party archives
/// often use Debian's release names, but not with the component `main`; if one does, the key decides.
pub fn choose<'a>(known: &'a [Stanza], codename: &str, suite: &str) -> Option<&'a Stanza> {
    let subscribed = if suite.ends_with("-security") {
        format!("{codename}-security")
    } else {
        codename.to_owned()
    };
    let fits = |stanza: &&Stanza| is_of_main(stanza) && stanza.suites.contains(&subscribed);
    let signed_by_debian = |stanza: &&Stanza| {
        stanza
            .others
            .iter()
            .any(|(name, value)| name == "Signed-By" && value.contains("debian-archive-keyring"))
    };
    let candidates: Vec<_> = known.iter().filter(fits).collect();
    candidates
        .iter()
        .copied()
        .find(signed_by_debian)
        .or_else(|| candidates.first().copied())
}

/// The sources of a Debian release and its updates, by the machine's entries for its own release; and the machine's
/// entries for that release itself, if it has any from elsewhere.
pub fn release(known: &[Stanza], own: &str, codename: &str) -> String {
    let suites = ["", "-updates", "-security", "-backports"].map(|suffix| format!("{codename}{suffix}"));
    let mut text = String::new();
    let mut taken = Vec::new();
    for suite in &suites {
        if let Some(stanza) = choose(known, own, suite) {
            text.push_str(&render(stanza, suite, None));
            taken.push((&stanza.uris, suite));
        }
    }
    for stanza in known.iter().filter(|stanza| is_of_main(stanza)) {
        for suite in stanza.suites.iter().filter(|suite| suites.contains(suite)) {
            if !taken.contains(&(&stanza.uris, suite)) {
                text.push_str(&render(stanza, suite, None));
            }
        }
    }
    text
}

fn is_of_main(stanza: &Stanza) -> bool {
    let has = |words: &[String], word: &str| words.iter().any(|one| one == word);
    has(&stanza.types, "deb") && has(&stanza.components, "main")
}

/// The entry again, for another suite, and for another architecture than the machine's if one is named.
pub fn render(stanza: &Stanza, suite: &str, architecture: Option<&str>) -> String {
    let mut text = format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n",
        stanza.uris.join(" ")
    );
    let limits = |name: &str| architecture.is_some() && name.eq_ignore_ascii_case("Architectures");
    for (name, value) in stanza.others.iter().filter(|(name, _)| !limits(name)) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "# a comment\nTypes: deb deb-src\n# another\nURIs: http://mirror.example/debian\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /keys/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\
        Signed-By:\n -----BEGIN\n .\n abc\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n\n\
        Types: deb\nURIs: http://other.example/linux/debian\nSuites: bookworm\nComponents: stable\n";

    #[test]
    fn archive_is_found_and_only_the_suite_exchanged() {
        let known = parse_deb822(DEB822);
        assert_eq!(known.len(), 3);
        let main = choose(&known, "bookworm", "trixie-backports").unwrap();
        assert_eq!(
            render(main, "trixie-backports", None),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n\
             Signed-By: /keys/debian-archive-keyring.gpg\n\n"
        );
    }

    #[test]
    fn security_suites_come_from_the_security_archive_with_its_inline_key() {
        let known = parse_deb822(DEB822);
        let rendered = render(
            choose(&known, "bookworm", "bookworm-security").unwrap(),
            "bookworm-security",
            None,
        );
        assert!(rendered.contains("/debian-security\n"));
        assert!(rendered.contains("Signed-By: \n -----BEGIN\n .\n abc\n"), "{rendered}");
    }

    #[test]
    fn one_line_entries_give_the_same() {
        let text = "# x\ndeb [arch=amd64,arm64 signed-by=/keys/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib # y\n\
                    deb-src http://mirror.example/debian bookworm main\n";
        let known = parse_one_line(text);
        assert_eq!(known.len(), 2);
        let rendered = render(
            choose(&known, "bookworm", "bookworm-backports").unwrap(),
            "bookworm-backports",
            None,
        );
        assert!(rendered.contains("Architectures: amd64 arm64\n") && rendered.contains("Suites: bookworm-backports\n"));
        let foreign = render(
            choose(&known, "bookworm", "bookworm").unwrap(),
            "bookworm",
            Some("ppc64el"),
        );
        assert!(!foreign.contains("Architectures"), "{foreign}");
    }

    #[test]
    fn a_release_has_its_updates_and_what_the_machine_has_besides() {
        let text = format!(
            "{DEB822}\nTypes: deb\nURIs: http://old.example/debian/\nSuites: bookworm\nComponents: main\n\
             Check-Valid-Until: no\n"
        );
        let known = parse_deb822(&text);
        let own = release(&known, "bookworm", "bookworm");
        for suite in [
            "bookworm",
            "bookworm-updates",
            "bookworm-security",
            "bookworm-backports",
        ] {
            assert!(own.contains(&format!("Suites: {suite}\n")), "{own}");
        }
        assert!(own.contains("http://old.example/debian/\nSuites: bookworm\n"), "{own}");
        assert!(
            own.contains("Check-Valid-Until: no") && !own.contains("other.example"),
            "{own}"
        );
        assert_eq!(own.matches("Suites: bookworm\n").count(), 2);
        let other = release(&known, "bookworm", "trixie");
        assert!(
            other.contains("Suites: trixie-security\n") && !other.contains("old.example"),
            "{other}"
        );
        assert!(release(&[], "bookworm", "trixie").is_empty());
    }

    #[test]
    fn the_archive_with_debians_key_wins_over_a_namesake() {
        let text = "deb http://other.example/x bookworm main\n\
                    deb [signed-by=/keys/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main\n";
        let known = parse_one_line(text);
        assert!(render(choose(&known, "bookworm", "sid").unwrap(), "sid", None).contains("mirror.example"));
        assert!(choose(&known, "trixie", "sid").is_none());
    }
}
