//! Compiles sources that the patch adds, with the command of a neighbour.
//!
//! There is no recorded command for a new file, and asking make for one would write into the build directory. A file in
//! the same directory and list has the same flags, unless the Makefile singles one out; so the command most neighbours
//! would give is taken.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use kpatch_core::{Refusal, Subject};

use super::ChangedTu;
use super::command::{Names, for_sibling, macro_name};
use crate::build::kbuild::{Home, Kbuild, Tu};
use crate::build::patchset::makefile::AddedObject;
use crate::build::patchset::scope::Scope;
use crate::build::patchset::{MAKEFILE, NOT_BUILT};
use crate::build::site::Site;
use crate::outcome::Ending;

/// Compiles one object, from its name, its command and its source as spelt there.
type CompileObject<'a> = dyn Fn(&str, &[String], &str) -> Result<PathBuf> + 'a;

/// Compiles every added object.
pub fn compile(site: &Site<'_>, scope: &Scope, object: &CompileObject<'_>) -> Result<Vec<ChangedTu>> {
    let kbuild = site.kbuild;
    let mut refusals = unlisted(kbuild, scope);
    let mut compiled = Vec::new();
    for added in &scope.added {
        match plan(kbuild, scope, added) {
            Ok(None) => {}
            Ok(Some(plan)) => {
                site.progress.message(&format!("compiling {}", added.object));
                let patched = object(&added.object, &plan.words, &plan.source)?;
                compiled.push(ChangedTu {
                    object: added.object.clone(),
                    via: vec![source_path(&added.object)],
                    source: plan.source,
                    homes: plan.homes,
                    orig: None,
                    patched,
                    after: Some(plan.after),
                });
            }
            Err(refusal) => refusals.push(refusal),
        }
        site.progress.step();
    }
    if refusals.is_empty() {
        Ok(compiled)
    } else {
        Err(Ending::Refused(refusals).into())
    }
}

/// New sources that no Makefile mentions and no source includes would silently have no effect.
fn unlisted(kbuild: &Kbuild, scope: &Scope) -> Vec<Refusal> {
    let listed = |path: &String| scope.added.iter().any(|added| source_path(&added.object) == **path);
    let known = |path: &String| {
        scope.touched.values().any(|files| files.contains(path)) || kbuild.trees.source.join(path).exists()
    };
    let new = scope
        .overlaid
        .iter()
        .filter(|path| path.ends_with(".c") && !listed(path) && !known(path));
    new.map(|path| {
        Refusal::new(
            NOT_BUILT,
            Subject::file(path.clone()),
            "the patch adds this source, but no Makefile line for it",
        )
        .hint("add `obj-y += name.o` or `composite-y += name.o` to the directory's Makefile")
    })
    .collect()
}

struct Plan {
    words: Vec<String>,
    source: String,
    homes: Vec<Home>,
    after: String,
}

fn source_path(object: &str) -> String {
    format!("{}.c", object.strip_suffix(".o").unwrap_or(object))
}

#[allow(
    clippy::result_large_err,
    reason = "a refusal ends the run, so its size costs nothing"
)]
fn plan(kbuild: &Kbuild, scope: &Scope, added: &AddedObject) -> Result<Option<Plan>, Refusal> {
    let refuse = |why: &str, hint: &str| Refusal::new(MAKEFILE, Subject::file(added.object.clone()), why).hint(hint);
    let own = added.list.name == "obj";
    let value = added
        .list
        .switch
        .as_deref()
        .map(|name| kbuild.config.get(name.trim_start_matches("CONFIG_")));
    if value == Some(None) {
        return Ok(None);
    }
    if own && (added.list.module || value == Some(Some("m"))) {
        return Err(refuse(
            "the patch adds a module of its own",
            "build it as an ordinary module",
        ));
    }
    if !scope.overlaid.contains(&source_path(&added.object)) {
        return Err(refuse(
            "the Makefile adds an object whose source is not in the patch",
            "add the new `.c` file",
        ));
    }
    let siblings = siblings(kbuild, added);
    let Some(last) = siblings.last() else {
        return Err(refuse(
            "no object of the same list is built, so its flags are unknown",
            "add the code to a known file",
        ));
    };
    let mut votes: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for (tu, _) in &siblings {
        let Ok(recorded) = tu.recorded() else { continue };
        let (own, wanted) = (names(tu), new_names(tu, &added.object));
        *votes.entry(for_sibling(&recorded.compiler, &own, &wanted)).or_default() += 1;
    }
    let words = votes
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(words, _)| words);
    let Some(words) = words else {
        return Err(refuse(
            "no command of a neighbour is understood",
            "add the code to a known file",
        ));
    };
    let source = new_names(last.0, &added.object).source;
    Ok(Some(Plan {
        words,
        source,
        homes: vec![last.1.clone()],
        after: last.0.object.clone(),
    }))
}

fn names(tu: &Tu) -> Names {
    Names {
        object: tu.object.clone(),
        source: tu.source.clone(),
    }
}

fn new_names(sibling: &Tu, object: &str) -> Names {
    let folder = sibling
        .source
        .rsplit_once('/')
        .map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let name = source_path(object.rsplit('/').next().unwrap_or(object));
    Names {
        object: object.to_owned(),
        source: format!("{folder}{name}"),
    }
}

/// TUs of C of the same directory in the same list, in link order, with what they are linked into.
fn siblings<'a>(kbuild: &'a Kbuild, added: &AddedObject) -> Vec<(&'a Tu, Home)> {
    let folder = |object: &str| {
        object
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| folder.to_owned())
    };
    let here = folder(&added.object);
    let composite = match added.folder.as_str() {
        "" => added.list.name.clone(),
        folder => format!("{folder}/{}", added.list.name),
    };
    let module = format!("{composite}.o");
    let in_vmlinux = kbuild
        .members
        .vmlinux
        .inputs
        .iter()
        .map(|input| (&input.path, Home::Vmlinux));
    let in_module = kbuild.members.modules.get(&module).into_iter().flatten();
    let all = in_vmlinux.chain(in_module.map(|object| (object, Home::Module(module.clone()))));
    let own = added.list.name == "obj";
    all.filter(|(object, _)| folder(object) == here)
        .filter_map(|(object, home)| Some((kbuild.tus.get(object)?, home)))
        .filter(|(tu, _)| tu.kind == kbuild.kind_of_c())
        .filter(|(tu, _)| {
            let of = if own {
                tu.object.trim_end_matches(".o").to_owned()
            } else {
                composite.clone()
            };
            // Outside of the kernel's tree kbuild does not say the folder.
            let wanted = match &kbuild.module_dir {
                None => format!("-DKBUILD_MODFILE=\"{of}\""),
                Some(_) => format!("-DKBUILD_MODNAME=\"{}\"", macro_name(&of)),
            };
            tu.recorded().is_ok_and(|recorded| recorded.compiler.contains(&wanted))
        })
        .collect()
}
