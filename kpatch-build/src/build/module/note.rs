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
    }
}

/// The definition of the note.
pub fn definition(about: &About) -> String {
    let text = about.text();
    let mut literals = String::new();
    // A literal for each piece: compilers warn about long ones.
    for piece in text.as_bytes().chunks(64) {
        literals.push_str("\n\t\t\"");
        for byte in piece {
            match byte {
                b'"' | b'\\' => _ = write!(literals, "\\{}", char::from(*byte)),
                b' '..=b'~' => literals.push(char::from(*byte)),
                // Three digits always: what follows may be a digit, too.
                other => _ = write!(literals, "\\{other:03o}"),
            }
        }
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
    use super::*;

    #[test]
    fn what_c_would_take_for_something_else_is_escaped() {
        let about = About {
            fixes: vec!["a \"b\" \\ ü1?".to_owned()],
            ..About::default()
        };
        let text = definition(&about);
        assert!(text.contains(r#"a \\\"b\\\" \\\\ \303\2741?"#), "{text}");
        assert!(text.contains("char name[8]") && text.contains("\t7, "), "{text}");
    }
}
