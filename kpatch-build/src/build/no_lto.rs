//! Kernels without link time optimisation: the compiler makes the machine code, so a file's object, compiled twice, is
//! all there is to compare.
//!
//! Each touched file is compiled up to four times. As recorded and unpatched, which must give the recorded object: the
//! proof that compiler and tree are those that built the kernel. As recorded and patched, where that can spare the
//! rest. Then both ways with sections for each function ([`command::options`]), for the differ.

pub mod command;
pub mod definitions;
pub mod nops;
pub mod order;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::{Refusal, Subject};
use rayon::prelude::*;

use crate::build::kbuild::{Home, Kind, Recorded, Tu};
use crate::build::patchset::scope::Scope;
use crate::build::recompile::{
    self, DoesNotCompile, Fate, Recompiled, Recompiler, added, headers, overlay, proof, same_content,
};
use crate::outcome::Ending;
use crate::supply::store::cache::Key;
use view::{View, dependencies};

use kpatch_core::codes::patch::ORIGINAL_READ;
/// How often directories of the view are made real before giving up. Each round closes the ways that the last one saw.
const ROUNDS: usize = 4;

/// Compiles everything the patch touches. The tree as the patched side saw it comes along.
pub fn compile(with: &Recompiler, scope: &Scope) -> Result<(Recompiled, View)> {
    let mut native = Native {
        with,
        view: view(with, scope, "view", "patched")?,
    };
    let mut fates = Vec::new();
    let mut waiting: Vec<(&String, &Vec<String>)> = scope.touched.iter().collect();
    for round in 1..=ROUNDS {
        let done: Result<Vec<_>> = waiting
            .par_iter()
            .map(|(object, via)| native.touched(object, via))
            .collect();
        let mut again = Vec::new();
        let mut directories = BTreeSet::new();
        for (entry, outcome) in waiting.into_iter().zip(done?) {
            match outcome {
                Outcome::Fate(fate) => fates.push(*fate),
                Outcome::ReadOriginal(names) if round == ROUNDS => {
                    fates.push(Fate::Refused(original_read(entry.0, &names)));
                }
                Outcome::ReadOriginal(names) => {
                    directories.extend(names.iter().filter_map(|name| native.view.directory_of(name)));
                    again.push(entry);
                }
            }
        }
        waiting = again;
        for directory in directories {
            native.view.make_real(&directory)?;
        }
    }
    let object = |object: &str, words: &[String], source: &str| native.added(object, words, source);
    let recompiled = Recompiled::of(fates, added::compile(with.kbuild, scope, &object))?;
    let removed = definitions::removed(with.kbuild, &recompiled.changed)?;
    if !removed.is_empty() {
        return Err(Ending::Refused(removed).into());
    }
    Ok((recompiled, native.view))
}

/// Compiles the patched side of a TU with more options, as [`compile`] has found the tree to be.
pub fn compile_patched_with(with: &Recompiler, view: &View, tu: &Tu, options: &[String], out: &Path) -> Result<()> {
    let words = recompile::command::redirect(&tu.recorded()?.compiler, &tu.object, out)?;
    viewed(with, view, &tu.object, &|view| {
        let words = in_view(with, &words, &tu.source, view)?;
        let spelt = format!(
            "-fdebug-prefix-map={}={}",
            view.root.display(),
            with.kbuild.trees.source.display()
        );
        with.in_build(&[&words, options, &[spelt]].concat())
    })
}

/// A command of the patched side.
fn in_view(with: &Recompiler, words: &[String], source: &str, view: &View) -> Result<Vec<String>> {
    let words = command::in_view(words, source, &with.kbuild.trees, &view.root)?;
    Ok(headers::with(&words, &with.overlays.headers))
}

/// Compiles in the view. If that fails, once more with other numbers for added lines, since macros make names of them
/// (`DECLARE_PCI_FIXUP_FINAL`), and with the true ones, which also give the error its right words.
fn viewed(with: &Recompiler, view: &View, object: &str, compile: &dyn Fn(&View) -> Result<()>) -> Result<()> {
    if compile(view).is_ok() {
        return Ok(());
    }
    let folder = with.work.join("view-again");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let again = |content: &str| {
        // It stays as long as the work folder: the list of what was read has names in it.
        let place =
            tempfile::tempdir_in(&folder).with_context(|| format!("cannot make a folder in {}", folder.display()))?;
        compile(&view.with_content(&place.keep().join("tree"), &with.work.join(content))?)
    };
    let [_, apart, plain] = overlay::FOLDERS;
    if again(apart).is_ok() {
        return Ok(());
    }
    again(plain).map_err(|error| DoesNotCompile::because(error, object))
}

fn original_read(object: &str, names: &BTreeSet<String>) -> Refusal {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let why = format!("compiling it reads the unpatched original through {}", names.join(", "));
    Refusal::new(ORIGINAL_READ, Subject::file(object), why)
        .hint("replace the path in the #include by one that does not lead through a symbolic link")
}

/// The tree with the patched files of one kind in place, and with real directories around everything compiled.
fn view(with: &Recompiler, scope: &Scope, name: &str, content: &str) -> Result<View> {
    let patched = with.work.join(content);
    let files: BTreeMap<PathBuf, PathBuf> = scope
        .overlaid
        .iter()
        .map(|path| (PathBuf::from(path), patched.join(path)))
        .filter(|(_, content)| content.is_file())
        .collect();
    let mut view = View::new(&with.work.join(name), &with.kbuild.trees.source, files)?;
    for object in scope.touched.keys() {
        let place = with.kbuild.trees.place(&with.kbuild.tu(object)?.source);
        if let crate::build::kbuild::Place::Source(path) = place {
            view.make_real(Path::new(&path).parent().unwrap_or(Path::new("")))?;
        }
    }
    Ok(view)
}

/// What one look at a TU brought.
enum Outcome {
    Fate(Box<Fate>),
    /// Through these names the compiler read what it should not.
    ReadOriginal(BTreeSet<String>),
}

struct Native<'a> {
    with: &'a Recompiler<'a>,
    view: View,
}

impl Native<'_> {
    fn touched(&self, object: &str, via: &[String]) -> Result<Outcome> {
        let with = self.with;
        let tu = with.kbuild.tu(object)?;
        let fate = |fate| Ok(Outcome::Fate(Box::new(fate)));
        if let Some(note) = with.left_out(tu) {
            return fate(Fate::Note(note));
        }
        let recorded = self.recorded(tu)?;
        let homes = with.kbuild.members.homes(tu);
        let in_kernel = homes.iter().any(|home| !matches!(home, Home::Other(_)));
        let compares = tu.kind == Kind::NativeC && in_kernel;
        // A header reaches many files and changes few, and those it does not change show the recorded object again.
        let own = with.kbuild.trees.place(&tu.source).shown() == *via.first().map_or("", String::as_str);
        if !(own && compares) {
            let patched = self.patched_as_recorded(tu, &recorded)?;
            if let Some(names) = self.originals_read(&patched)? {
                return Ok(Outcome::ReadOriginal(names));
            }
            (with.report)(format!("compiled {object}"));
            let known = with.kbuild.trees.build.join(object);
            if same_content(&patched, &known) {
                return fate(Fate::Same);
            }
            if !compares {
                return fate(recompile::changed(tu, Kind::NativeC, homes, known, patched, via));
            }
        }
        let (proof, patched) = rayon::join(|| self.original(tu, &recorded), || self.patched(tu, &recorded));
        let patched = patched?;
        if let Some(names) = self.originals_read(&patched)? {
            return Ok(Outcome::ReadOriginal(names));
        }
        let orig = match proof? {
            Ok(orig) => orig,
            Err(refusal) => return fate(Fate::Refused(refusal)),
        };
        (with.report)(format!("compiled {object}"));
        if same_content(&orig, &patched) {
            return fate(Fate::Same);
        }
        fate(recompile::changed(tu, Kind::NativeC, homes, orig, patched, via))
    }

    /// The recorded command. Until 6.1 kbuild runs recordmcount without writing it down (scripts/Makefile.build,
    /// `sub_cmd_record_mcount`).
    fn recorded(&self, tu: &Tu) -> Result<Recorded> {
        let mut recorded = tu.recorded()?;
        let config = &self.with.kbuild.config;
        let traced = recorded.compiler.iter().any(|word| word == "-pg");
        let known = recorded.tail.iter().any(|words| words[0].ends_with("recordmcount"));
        if config.is_on("FTRACE_MCOUNT_USE_RECORDMCOUNT") && traced && !known && tu.kind == Kind::NativeC {
            recorded
                .tail
                .push(vec!["./scripts/recordmcount".to_owned(), tu.object.clone()]);
        }
        Ok(recorded)
    }

    /// The unpatched object in sections, once the recorded one was made again.
    fn original(&self, tu: &Tu, recorded: &Recorded) -> Result<Result<PathBuf, Refusal>> {
        if let Err(refusal) = proof::prove(self.with, tu, recorded)? {
            return Ok(Err(refusal));
        }
        let options: Vec<String> = self.options();
        let key: Key = proof::key(self.with, tu, recorded)?
            .text("sections 1")
            .words(options.iter());
        let entry = self.with.cache.get("sections", &key, |folder| {
            let out = folder.join("object.o");
            let words = recompile::command::redirect(&recorded.compiler, &tu.object, &out)?;
            self.in_sections(&words, &tu.source, &out)
                .with_context(|| format!("the unpatched {} does not compile", tu.object))
        })?;
        Ok(Ok(entry.join("object.o")))
    }

    fn patched(&self, tu: &Tu, recorded: &Recorded) -> Result<PathBuf> {
        self.added(&tu.object, &recorded.compiler, &tu.source)
    }

    /// Compiles a source as the view has it, in sections.
    fn added(&self, object: &str, words: &[String], source: &str) -> Result<PathBuf> {
        let out = self.with.out("patched-objects", object)?;
        self.viewed(object, &|view| {
            let words = recompile::command::redirect(words, object, &out)?;
            let words = in_view(self.with, &words, source, view)?;
            let place = self.with.kbuild.trees.place(source);
            let moved = view.root.join(place.shown()).display().to_string();
            self.in_sections(&words, &moved, &out)
        })?;
        Ok(out)
    }

    /// The patched object with nothing but the recorded options.
    fn patched_as_recorded(&self, tu: &Tu, recorded: &Recorded) -> Result<PathBuf> {
        let out = self.with.out("patched-as-recorded", &tu.object)?;
        self.viewed(&tu.object, &|view| {
            let words = recompile::command::redirect(&recorded.compiler, &tu.object, &out)?;
            self.with.in_build(&in_view(self.with, &words, &tu.source, view)?)
        })?;
        for words in &recorded.tail {
            self.with
                .in_build(&recompile::command::redirect_tail(words, &tu.object, &out))?;
        }
        Ok(out)
    }

    fn viewed(&self, object: &str, compile: &dyn Fn(&View) -> Result<()>) -> Result<()> {
        viewed(self.with, &self.view, object, compile)
    }

    fn options(&self) -> Vec<String> {
        command::options(self.with.kbuild.arch)
            .iter()
            .map(|&word| word.to_owned())
            .collect()
    }

    /// Runs a compiler command with sections for each function, through assembly where calls need room.
    fn in_sections(&self, words: &[String], source: &str, out: &Path) -> Result<()> {
        let words = [words, &self.options()].concat();
        if !command::needs_nops(self.with.kbuild.arch) {
            return self.with.in_build(&words);
        }
        let assembly = out.with_extension("s");
        self.with.in_build(&command::to_assembly(&words, &assembly)?)?;
        let text = fs::read_to_string(&assembly).with_context(|| format!("cannot read {}", assembly.display()))?;
        let (text, _) = nops::with_nops(&text);
        fs::write(&assembly, text).with_context(|| format!("cannot write {}", assembly.display()))?;
        self.with.in_build(&command::from_assembly(&words, source, &assembly))?;
        fs::remove_file(&assembly).with_context(|| format!("cannot remove {}", assembly.display()))
    }

    /// The names through which a compilation in the view read originals of patched files, from its dependency list.
    fn originals_read(&self, out: &Path) -> Result<Option<BTreeSet<String>>> {
        let list = PathBuf::from(format!("{}.d", out.display()));
        let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        if dependencies(&text).next().is_none() {
            bail!("{} lists nothing, so what was read is unknown", list.display());
        }
        let found = self.view.unpatched(dependencies(&text), &self.with.kbuild.trees.build);
        Ok((!found.is_empty()).then(|| found.into_iter().map(str::to_owned).collect()))
    }
}
