//! `patch.layout-changed`: new members of a structure become shadow variables (include/linux/livepatch.h).

use super::draft::{Draft, File, around, is_part, last_word, places};

/// A new member.
struct Member {
    /// The structure's tag.
    of: String,
    /// Type, with its stars.
    kind: String,
    name: String,
}

impl Member {
    /// The function that gives a pointer to it.
    fn pointer(&self) -> String {
        format!("{}_{}", self.of, self.name)
    }

    /// The function that gives its value.
    fn value(&self) -> String {
        format!("{}_get_{}", self.of, self.name)
    }

    fn id(&self) -> String {
        self.pointer().to_ascii_uppercase()
    }

    /// A number for the shadow variable that is the same whenever this is suggested (FNV-1a).
    fn number(&self) -> u32 {
        let mix = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        self.pointer().bytes().fold(0x811c_9dc5, mix)
    }

    fn helpers(&self, freed: bool) -> String {
        let (id, of, kind, name) = (self.id(), &self.of, &self.kind, &self.name);
        let star = if kind.ends_with('*') { "" } else { " " };
        let advice = if freed {
            ""
        } else {
            " * Nothing here frees the structure: call klp_shadow_free() where that happens.\n"
        };
        format!(
            "\n/*\n * `{name}` of struct {of}, as a shadow variable: older objects have no room for it. The number must be one that no\n \
             * other livepatch uses. GFP_ATOMIC because the caller may hold a lock; GFP_KERNEL is better where it may sleep.\n{advice} \
             */\n#define {id} 0x{:x}UL\n\n\
             static __maybe_unused {kind}{star}*{}(struct {of} *object)\n{{\n\
             \treturn klp_shadow_get_or_alloc(object, {id}, sizeof({kind}), GFP_ATOMIC, NULL, NULL);\n}}\n\n\
             static __maybe_unused {kind}{star}{}(struct {of} *object)\n{{\n\
             \t{kind}{star}*value = klp_shadow_get(object, {id});\n\n\
             \treturn value ? *value : 0;\n}}\n",
            self.number(),
            self.pointer(),
            self.value(),
        )
    }
}

/// Takes the new members of a structure out of it, and uses shadow variables in their place. Gives whether there were any.
pub fn member(draft: &mut Draft, structure: &str) -> bool {
    let mut members = Vec::new();
    let mut home = None;
    for (path, file) in &mut draft.files {
        let found = taken_out(file, structure);
        if !found.is_empty() {
            home = Some(path.clone());
            members.extend(found);
        }
    }
    for member in &members {
        for (path, file) in &mut draft.files {
            let is_home = home.as_ref() == Some(path) && !path.ends_with(".h");
            instead(file, member, is_home);
        }
    }
    !members.is_empty()
}

/// The lines between the braces of a structure.
fn body(file: &File, structure: &str) -> Option<(usize, usize)> {
    let now = file.now();
    let head = format!("struct {structure} {{");
    let start = now.iter().position(|line| line.trim_end() == head)?;
    let end = (start..now.len()).find(|at| now[*at].starts_with('}'))?;
    Some((start + 1, end))
}

fn taken_out(file: &mut File, structure: &str) -> Vec<Member> {
    let Some((start, end)) = body(file, structure) else {
        return Vec::new();
    };
    let mut members = Vec::new();
    for at in (start..end).rev() {
        let (line, added) = &file.lines[at];
        if *added && let Some((kind, name)) = declared(line) {
            members.push(Member {
                of: structure.to_owned(),
                kind,
                name,
            });
            file.lines.remove(at);
        }
    }
    members.reverse();
    members
}

/// Type and name of a plain member; nothing for arrays, bit fields, and pointers to functions.
fn declared(line: &str) -> Option<(String, String)> {
    let text = line.trim().split("/*").next()?.trim().strip_suffix(';')?;
    if text.contains(['[', ':', '(', ',', '{']) {
        return None;
    }
    let name = last_word(text);
    let kind = text.strip_suffix(name)?.trim();
    (!kind.is_empty() && !name.is_empty()).then(|| (kind.to_owned(), name.to_owned()))
}

/// Uses the shadow variable wherever this file has the member.
fn instead(file: &mut File, member: &Member, is_home: bool) {
    let freed = freeing(file, member);
    let mut used = freed;
    let mut at = 0;
    while at < file.lines.len() {
        if file.lines[at].1
            && let Some(text) = replaced(file, at, member)
        {
            used = true;
            // It still is the author's: it may use another new member.
            let lines: Vec<_> = text.split_inclusive('\n').map(|line| (line.to_owned(), true)).collect();
            let count = lines.len();
            drop(file.lines.splice(at..=at, lines));
            at += count;
        } else {
            at += 1;
        }
    }
    if !used {
        return;
    }
    file.includes.insert("<linux/livepatch.h>");
    let place = match body(file, &member.of).filter(|_| is_home) {
        Some((_, end)) => end + 1,
        None => file
            .now()
            .iter()
            .rposition(|line| line.starts_with("#include"))
            .map_or(0, |at| at + 1),
    };
    file.insert(place, &member.helpers(freed));
}

/// A line with a use of the member, without it.
fn replaced(file: &File, at: usize, member: &Member) -> Option<String> {
    let line = file.lines[at].0.as_str();
    let (start, end, object) = uses(line, &member.name).into_iter().next()?;
    if !has(file, at, object, &member.of) {
        return None;
    }
    let statement = line.trim();
    let indent = &line[..line.len() - line.trim_start().len()];
    let rest = &line[end..];
    let sets = |rest: &str| {
        let rest = rest.trim_start();
        (rest.starts_with('=') && !rest.starts_with("=="))
            || ["++", "--", "+=", "-=", "|=", "&=", "^="]
                .iter()
                .any(|mark| rest.starts_with(mark))
    };
    let alone = statement.starts_with(&line[start..end]) && statement.ends_with(';') && sets(rest);
    if alone {
        let (name, kind) = (&member.name, &member.kind);
        let star = if kind.ends_with('*') { "" } else { " " };
        let rest = with_values(rest.trim_end(), member);
        return Some(format!(
            "{indent}{{\n{indent}\t{kind}{star}*{name} = {}({object});\n\n{indent}\tif ({name})\n\
             {indent}\t\t(*{name}){rest}\n{indent}}}\n",
            member.pointer(),
        ));
    }
    let any_set = uses(line, &member.name).iter().any(|(_, end, _)| sets(&line[*end..]));
    (!any_set).then(|| with_values(line, member))
}

/// The text with the value of the shadow variable for each use of the member.
fn with_values(text: &str, member: &Member) -> String {
    let mut new = text.to_owned();
    for (start, end, object) in uses(text, &member.name).into_iter().rev() {
        new.replace_range(start..end, &format!("{}({object})", member.value()));
    }
    new
}

/// Uses of a member through a pointer that is a plain name: start, end, and the name.
fn uses<'l>(line: &'l str, member: &str) -> Vec<(usize, usize, &'l str)> {
    let places = places(line, member).into_iter();
    let uses = places.filter_map(|at| {
        let before = line[..at].strip_suffix("->")?;
        let object = last_word(before);
        let start = before.len() - object.len();
        let alone = !before[..start].ends_with(['>', '.']);
        (alone && !object.is_empty() && before.ends_with(is_part)).then_some((start, at + member.len(), object))
    });
    uses.collect()
}

/// Whether the function around a line has a pointer of this name to the structure.
fn has(file: &File, at: usize, object: &str, structure: &str) -> bool {
    let now = file.now();
    let Some(range) = around(&now, at) else { return false };
    let pointer = format!("struct {structure} *{object}");
    range.into_iter().any(|line| !places(now[line], &pointer).is_empty())
}

/// Frees the shadow variable before the structure; whether there is such a place.
fn freeing(file: &mut File, member: &Member) -> bool {
    let mut found = false;
    let mut at = 0;
    while at < file.lines.len() {
        let line = file.lines[at].0.clone();
        let object = line
            .trim()
            .strip_prefix("kfree(")
            .and_then(|rest| rest.strip_suffix(");"));
        if let Some(object) = object.filter(|object| object.chars().all(is_part) && has(file, at, object, &member.of)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            file.insert(
                at,
                &format!("{indent}klp_shadow_free({object}, {}, NULL);\n", member.id()),
            );
            found = true;
            at += 1;
        }
        at += 1;
    }
    found
}
