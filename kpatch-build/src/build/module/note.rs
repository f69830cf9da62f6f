//! The note that a livepatch carries about itself, as C. What is in it: [`kpatch_runtime::about`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kpatch_core::{ObjectName, Patch, names};
use kpatch_runtime::about::{self, About};

/// What is said about a livepatch with these fixes; `build_ids` are those of objects of the kernel.
pub fn about(patch: &Patch, fixes: Vec<String>, build_ids: &BTreeMap<ObjectName, String>) -> About {
    let functions = patch.functions.iter();
    let called = patch.callbacks.iter().map(|callback| &callback.object);
    let objects: BTreeSet<&ObjectName> = functions
        .clone()
        .map(|function| &function.object)
        .chain(called)
        .collect();
    // Whatever is patched uses the image, too.
    let build_ids = build_ids
        .iter()
        .filter(|(object, _)| object.is_vmlinux() || objects.contains(object));
    let kept = patch
        .elements
        .iter()
        .filter(|element| !element.address_taken_by.is_empty() || !element.given_away.is_empty());
    About {
        fixes,
        build_ids: build_ids.map(|(object, id)| (object.to_string(), id.clone())).collect(),
        functions: functions
            .map(|function| {
                let name = names::unpromoted(&function.name);
                match function.sympos.0 {
                    0 | 1 => format!("{}:{name}", function.object),
                    sympos => format!("{}:{name},{sympos}", function.object),
                }
            })
            .collect(),
        keep: kept.map(|element| element.name.clone()).collect(),
        series: Vec::new(),
    }
}

/// What `modinfo` shows of a series: a line for each patch, `patch` for those that are in and `left_out` for the others.
pub fn modinfo(about: &About) -> String {
    let mut text = String::new();
    for one in &about.series {
        let mut told = one.subject.clone();
        let new = one.cves.iter().filter(|cve| !one.subject.contains(*cve));
        let beside: Vec<&str> = one.commit.iter().chain(new).map(String::as_str).collect();
        if !beside.is_empty() {
            told += &format!(" ({})", beside.join(", "));
        }
        let key = match &one.left_out {
            None => "patch",
            Some(why) => {
                told += &format!(": {why}");
                "left_out"
            }
        };
        _ = writeln!(text, "MODULE_INFO({key}, \"{}\");", escaped(told.as_bytes()));
    }
    text
}

/// Bytes as they stand in a C string.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'"' | b'\\' => _ = write!(text, "\\{}", char::from(*byte)),
            // Two question marks and another character were one, once.
            b' '..=b'>' | b'@'..=b'~' => text.push(char::from(*byte)),
            // Three digits always: what follows may be a digit, too.
            other => _ = write!(text, "\\{other:03o}"),
        }
    }
    text
}

/// The definition of the note.
pub fn definition(about: &About) -> String {
    let text = about.text();
    let mut literals = String::new();
    // A literal for each piece: compilers warn about long ones.
    for piece in text.as_bytes().chunks(64) {
        _ = write!(literals, "\n\t\t\"{}", escaped(piece));
        literals.push('"');
    }
    let (name, section, kind) = (about::NAME, about::SECTION, about::TYPE);
    let length = text.len() + 1;
    let name_length = name.len() + 1;
    let padded = name_length.next_multiple_of(4);
    format!(
        "\nstatic const struct {{\n\tu32 name_length, length, type;\n\tchar name[{padded}];\n\tchar text[{length}];\n}} \
         klp_note __used __aligned(4) __section(\"{section}\") = {{\n\t{name_length}, {length}, {kind}, \"{name}\",{literals}\n}};\n"
    )
}

#[cfg(test)]
mod tests {
    use kpatch_runtime::about::OfSeries;

    use super::*;

    #[test]
    fn a_series_is_listed_for_modinfo() {
        let about = About {
            series: vec![
                OfSeries {
                    subject: "x: \"a\"\n??/".to_owned(),
                    commit: Some("0123".to_owned()),
                    cves: vec!["CVE-2026-1".to_owned()],
                    left_out: None,
                },
                OfSeries {
                    subject: "y (CVE-2026-2)".to_owned(),
                    cves: vec!["CVE-2026-2".to_owned()],
                    left_out: Some("needs x".to_owned()),
                    ..OfSeries::default()
                },
            ],
            ..About::default()
        };
        assert_eq!(
            modinfo(&about),
            "MODULE_INFO(patch, \"x: \\\"a\\\"\\012\\077\\077/ (0123, CVE-2026-1)\");\nMODULE_INFO(left_out, \"y (CVE-2026-2): needs x\");\n"
        );
    }

    #[test]
    fn what_c_would_take_for_something_else_is_escaped() {
        let about = About {
            fixes: vec!["a \"b\" \\ ü1?".to_owned()],
            ..About::default()
        };
        let text = definition(&about);
        assert!(text.contains(r#"a \\\"b\\\" \\\\ \303\2741\077"#), "{text}");
        assert!(text.contains("char name[8]") && text.contains("\t7, "), "{text}");
    }
}
