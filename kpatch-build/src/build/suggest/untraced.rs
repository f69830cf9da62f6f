//! `select.no-ftrace-site`: the function stays as it is, a copy of it gets the change, and its callers call the copy.

use super::draft::{Draft, File, function, places, renamed};

/// What keeps a function from being traced, and what its copy needs not.
const MARKS: [&str; 6] = [
    "notrace",
    "noinstr",
    "__always_inline",
    "inline",
    "__cpuidle",
    "__no_kcsan",
];

/// Puts a copy behind the function. Gives whether there was anything to copy.
pub fn copy(draft: &mut Draft, file: &str, name: &str) -> bool {
    let done = draft.of(file).is_some_and(|file| copied(file, name).is_some());
    if done {
        let new = format!("{name}_patched");
        let others = draft.files.iter_mut().filter(|(path, _)| !path.ends_with(".h"));
        for (path, other) in others {
            if !is_of(path, file) {
                let declaration =
                    format!("/* {name}() is called here: make {new}() known to this file, or leave it as it is. */\n");
                mention(other, name, &declaration);
            }
        }
    }
    done
}

fn is_of(path: &str, file: &str) -> bool {
    let stem = |path: &str| path.rsplit_once('.').map_or(path, |(stem, _)| stem).to_owned();
    stem(path) == stem(file)
}

fn copied(file: &mut File, name: &str) -> Option<()> {
    let range = function(&file.now(), name)?;
    let orig: Vec<&str> = file.orig.iter().map(String::as_str).collect();
    let before = orig.get(function(&orig, name)?)?.concat();
    let patched = file.now().get(range.clone())?.concat();
    if before == patched {
        return None;
    }
    let new = format!("{name}_patched");
    let (head, body) = patched.split_once("\n{")?;
    let copy = format!(
        "{}\n{{{}",
        traced(&renamed(head, name, &new)),
        renamed(body, name, &new)
    );
    let start = range.start;
    drop(file.lines.drain(range));
    file.insert(start, &before);
    let after = start + before.split_inclusive('\n').count();
    file.insert(
        after,
        &format!(
            "\n/* {name}() cannot be traced, so it stays, and whoever has its address goes on with it. Its callers get this. */\n{copy}"
        ),
    );
    let end = after + 2 + copy.split_inclusive('\n').count();
    let call = |line: &str| {
        let mut new_line = line.to_owned();
        for at in places(line, name).into_iter().rev() {
            if line[at + name.len()..].starts_with('(') {
                new_line.replace_range(at..at + name.len(), &new);
            }
        }
        new_line
    };
    for at in end..file.lines.len() {
        let line = &mut file.lines[at].0;
        // A declaration of the function begins in the first column.
        if line.starts_with([' ', '\t']) {
            *line = call(line);
        }
    }
    Some(())
}

/// The head of a static function that the tracer knows.
fn traced(head: &str) -> String {
    let words = head
        .split(' ')
        .filter(|word| !MARKS.contains(word) && *word != "static");
    format!("static noinline {}", words.collect::<Vec<_>>().join(" "))
}

/// Says at the end of another file of the patch that it calls the function.
fn mention(file: &mut File, name: &str, text: &str) {
    let calls = |line: &&(String, bool)| {
        places(&line.0, name)
            .iter()
            .any(|at| line.0[at + name.len()..].starts_with('('))
    };
    if let Some(at) = file.lines.iter().position(|line| calls(&line)) {
        file.insert(at, text);
    }
}
