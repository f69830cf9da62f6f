//! `select.data-changed` and `select.init-code`: what was done once at boot is done by a callback.

use super::draft::{Draft, File, function, places};

/// Leaves a variable its initial value, and sets the new one when the livepatch is loaded.
pub fn value(draft: &mut Draft, file: &str, name: &str) -> bool {
    draft.of(file).is_some_and(|file| set(file, name).is_some())
}

fn set(file: &mut File, name: &str) -> Option<()> {
    let at = file
        .lines
        .iter()
        .position(|(line, added)| *added && begins_with(line, name).is_some())?;
    let to = begins_with(&file.lines[at].0, name)?;
    let removed = file.removed();
    let old = removed.iter().find(|line| begins_with(line, name).is_some())?;
    let from = begins_with(old, name)?;
    file.lines[at] = ((*old).to_owned(), false);
    file.append(&format!(
        "\n/*\n * The running kernel has a value in `{name}` already, perhaps another one than it began with. That stays; and only\n \
         * what this has set is put back. `--accept {name}` does the same without any of this, if it is a number.\n */\n\
         static void kpatch_set_{name}(void)\n{{\n\tif ({name} == ({from}))\n\t\t{name} = {to};\n}}\n\n\
         static void kpatch_put_back_{name}(void)\n{{\n\tif ({name} == ({to}))\n\t\t{name} = {from};\n}}\n"
    ));
    file.before_patch.push(format!("kpatch_set_{name}();"));
    file.after_unpatch.push(format!("kpatch_put_back_{name}();"));
    Some(())
}

/// What a variable of the file begins with, if this line says so and it is one value.
fn begins_with(line: &str, name: &str) -> Option<String> {
    if line.starts_with([' ', '\t', '#', '/', '*']) {
        return None;
    }
    let (before, value) = line.split_once('=')?;
    let value = value.trim().strip_suffix(';')?.trim();
    let is_it = places(before, name)
        .last()
        .is_some_and(|at| !before[*at..].contains(['(', ',']));
    (is_it && !value.is_empty() && !value.starts_with(['{', '"'])).then(|| value.to_owned())
}

/// Leaves boot code as it was, and does what the patch adds to it in a callback.
pub fn boot(draft: &mut Draft, file: &str, name: &str) -> bool {
    draft.of(file).is_some_and(|file| redo(file, name).is_some())
}

fn redo(file: &mut File, name: &str) -> Option<()> {
    let range = function(&file.now(), name)?;
    let orig: Vec<&str> = file.orig.iter().map(String::as_str).collect();
    let before = orig.get(function(&orig, name)?)?.concat();
    let new: Vec<String> = file.lines[range.clone()]
        .iter()
        .filter(|(_, added)| *added)
        .map(|(line, _)| line.clone())
        .collect();
    if new.is_empty() {
        return None;
    }
    let start = range.start;
    drop(file.lines.drain(range));
    file.insert(start, &before);
    file.append(&format!(
        "\n/*\n * What {name}() does with the patch. It has run, and its variables are gone: do here what is to be done to a system\n \
         * that runs already, and undo it in another callback if the livepatch is to be removed.\n */\n\
         static void kpatch_redo_{name}(void)\n{{\n{}}}\n",
        new.concat()
    ));
    file.before_patch.push(format!("kpatch_redo_{name}();"));
    Some(())
}
