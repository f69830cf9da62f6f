//! Compiles the files that a patch touches to machine code, the patched side in a tree that looks like the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::codes::patch::ORIGINAL_READ;
use kpatch_core::{Refusal, Subject};
use rayon::prelude::*;

use super::view::{View, dependencies};
use super::{command, definitions, nops};
use crate::build::applied::Applied;
use crate::build::kbuild::{Home, Kind, Recorded, TreePath, Tu};
use crate::build::patchset::scope::Scope;
use crate::build::recompile::overlay::{self, Overlays};
use crate::build::recompile::proof::{self, Variant};
use crate::build::recompile::{
    self, DoesNotCompile, Fate, Recompiled, added, changed, files, headers, left_out, same_content,
};
use crate::build::site::Site;
use crate::build::way::{Again, Compiled};
use crate::outcome::Ending;

/// How often directories of the view are made real before giving up. Each round closes the ways that the last one saw.
const ROUNDS: usize = 4;

/// Compiles everything the patch touches.
pub fn compile<'a>(site: &'a Site<'a>, applied: &'a Applied) -> Result<Compiled<'a>> {
    let scope = &applied.scope;
    site.progress.expect("compile", files(site.kbuild, scope));
    let (compiler, fates) = touched(site, applied)?;
    let object = |object: &str, words: &[String], source: &str| compiler.in_sections(object, words, source);
    let Recompiled { changed, notes } = Recompiled::of(fates, added::compile(site, scope, &object))?;
    let removed = definitions::removed(site, &changed)?;
    if !removed.is_empty() {
        return Err(Ending::Refused(removed).into());
    }
    Ok(Compiled {
        changed,
        notes,
        reruns: Vec::new(),
        again: Box::new(compiler),
    })
}

/// Compiles the touched files, in a tree that gets real directories until no compilation leads out of it.
fn touched<'a>(site: &'a Site<'a>, applied: &'a Applied) -> Result<(Compiler<'a>, Vec<Fate>)> {
    let mut compiler = Compiler {
        site,
        overlays: &applied.overlays,
        view: view(site, &applied.scope)?,
    };
    let mut fates = Vec::new();
    let mut waiting: Vec<(&String, &Vec<String>)> = applied.scope.touched.iter().collect();
    for round in 1..=ROUNDS {
        let done: Result<Vec<_>> = waiting
            .par_iter()
            .map(|(object, via)| compiler.touched(object, via))
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
                    directories.extend(names.iter().filter_map(|name| compiler.view.directory_of(name)));
                    again.push(entry);
                }
            }
        }
        waiting = again;
        for directory in directories {
            compiler.view.make_real(&directory)?;
        }
    }
    Ok((compiler, fates))
}

fn original_read(object: &str, names: &BTreeSet<String>) -> Refusal {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let why = format!("compiling it reads the unpatched original through {}", names.join(", "));
    Refusal::new(ORIGINAL_READ, Subject::file(object), why)
        .hint("replace the path in the #include by one that does not lead through a symbolic link")
}

/// The tree with the patched files in place, and with real directories around everything compiled.
fn view(site: &Site<'_>, scope: &Scope) -> Result<View> {
    let trees = &site.kbuild.trees;
    let [stable, ..] = overlay::FOLDERS;
    let patched = site.work.join(stable);
    let files: BTreeMap<PathBuf, PathBuf> = scope
        .overlaid
        .iter()
        .map(|path| (PathBuf::from(path), patched.join(path)))
        .filter(|(_, content)| content.is_file())
        .collect();
    let mut view = View::new(&site.work.join("view"), &trees.source, files)?;
    for object in scope.touched.keys() {
        if let TreePath::Source(path) = trees.place(&site.kbuild.tu(object)?.source) {
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

impl From<Fate> for Outcome {
    fn from(fate: Fate) -> Outcome {
        Outcome::Fate(Box::new(fate))
    }
}

struct Compiler<'a> {
    site: &'a Site<'a>,
    overlays: &'a Overlays,
    /// The tree as the patched side sees it.
    view: View,
}

impl Compiler<'_> {
    fn touched(&self, object: &str, via: &[String]) -> Result<Outcome> {
        let (kbuild, progress) = (self.site.kbuild, self.site.progress);
        let tu = kbuild.tu(object)?;
        if let Some(note) = left_out(kbuild, tu) {
            return Ok(Fate::Note(note).into());
        }
        progress.message(&format!("compiling {object}"));
        let outcome = self.both_sides(tu, via)?;
        if matches!(outcome, Outcome::Fate(_)) {
            progress.step();
        }
        Ok(outcome)
    }

    fn both_sides(&self, tu: &Tu, via: &[String]) -> Result<Outcome> {
        let kbuild = self.site.kbuild;
        let recorded = self.recorded(tu)?;
        let homes = kbuild.members.homes(tu);
        let in_kernel = homes.iter().any(|home| !matches!(home, Home::Other(_)));
        let compares = tu.kind == Kind::NativeC && in_kernel;
        // A header reaches many files and changes few, and those it does not change show the recorded object again.
        let own = kbuild.trees.place(&tu.source).shown() == *via.first().map_or("", String::as_str);
        if !(own && compares) {
            let patched = self.patched_as_recorded(tu, &recorded)?;
            if let Some(names) = self.originals_read(&patched)? {
                return Ok(Outcome::ReadOriginal(names));
            }
            let known = kbuild.trees.build.join(&tu.object);
            if same_content(&patched, &known) {
                return Ok(Fate::Same.into());
            }
            if !compares {
                return Ok(changed(tu, Kind::NativeC, homes, known, patched, via).into());
            }
        }
        let (proof, patched) = rayon::join(
            || self.original(tu, &recorded),
            || self.in_sections(&tu.object, &recorded.compiler, &tu.source),
        );
        let patched = patched?;
        if let Some(names) = self.originals_read(&patched)? {
            return Ok(Outcome::ReadOriginal(names));
        }
        Ok(match proof? {
            Ok(orig) if same_content(&orig, &patched) => Fate::Same.into(),
            Ok(orig) => changed(tu, Kind::NativeC, homes, orig, patched, via).into(),
            Err(refusal) => Fate::Refused(refusal).into(),
        })
    }

    /// The recorded command. Until 6.1 kbuild runs recordmcount without writing it down (scripts/Makefile.build,
    /// `sub_cmd_record_mcount`).
    fn recorded(&self, tu: &Tu) -> Result<Recorded> {
        let mut recorded = tu.recorded()?;
        let config = &self.site.kbuild.config;
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
        if let Err(refusal) = proof::prove(self.site, tu, recorded)? {
            return Ok(Err(refusal));
        }
        let variant = Variant {
            area: "sections",
            version: "sections 1",
            options: &self.options(),
        };
        let orig = variant.orig(self.site, tu, recorded, |words, out| {
            self.run_in_sections(words, &tu.source, out)
                .with_context(|| format!("the unpatched {} does not compile", tu.object))
        });
        orig.map(Ok)
    }

    /// Compiles a source as the view has it, in sections.
    fn in_sections(&self, object: &str, words: &[String], source: &str) -> Result<PathBuf> {
        let out = self.site.out("patched-objects", object)?;
        self.viewed(object, &|view| {
            let words = recompile::command::redirect(words, object, &out)?;
            let words = self.in_view(&words, source, view)?;
            let place = self.site.kbuild.trees.place(source);
            let moved = view.root.join(place.shown()).display().to_string();
            self.run_in_sections(&words, &moved, &out)
        })?;
        Ok(out)
    }

    /// The patched object with nothing but the recorded options.
    fn patched_as_recorded(&self, tu: &Tu, recorded: &Recorded) -> Result<PathBuf> {
        let out = self.site.out("patched-as-recorded", &tu.object)?;
        self.viewed(&tu.object, &|view| {
            let words = recompile::command::redirect(&recorded.compiler, &tu.object, &out)?;
            self.site.in_build(&self.in_view(&words, &tu.source, view)?)
        })?;
        for words in &recorded.tail {
            self.site
                .in_build(&recompile::command::redirect_tail(words, &tu.object, &out))?;
        }
        Ok(out)
    }

    /// A command of the patched side.
    fn in_view(&self, words: &[String], source: &str, view: &View) -> Result<Vec<String>> {
        let words = command::in_view(words, source, &self.site.kbuild.trees, &view.root)?;
        Ok(headers::with(&words, &self.overlays.headers))
    }

    /// Compiles in the view. If that fails, once more with other numbers for added lines, since macros make names of
    /// them (`DECLARE_PCI_FIXUP_FINAL`), and with the true ones, which also give the error its right words.
    fn viewed(&self, object: &str, compile: &dyn Fn(&View) -> Result<()>) -> Result<()> {
        if compile(&self.view).is_ok() {
            return Ok(());
        }
        let work = &self.site.work;
        let folder = work.join("view-again");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let again = |content: &str| {
            // It stays as long as the work folder: the list of what was read has names in it.
            let place = tempfile::tempdir_in(&folder)
                .with_context(|| format!("cannot make a folder in {}", folder.display()))?;
            let root = place.keep().join("tree");
            compile(&self.view.with_content(&root, &work.join(content))?)
        };
        let [_, apart, plain] = overlay::FOLDERS;
        if again(apart).is_ok() {
            return Ok(());
        }
        again(plain).map_err(|error| DoesNotCompile::because(error, object))
    }

    fn options(&self) -> Vec<String> {
        let options = command::options(self.site.kbuild.arch).iter();
        options.map(|&word| word.to_owned()).collect()
    }

    /// Runs a compiler command with sections for each function, through assembly where calls need room.
    fn run_in_sections(&self, words: &[String], source: &str, out: &Path) -> Result<()> {
        let words = [words, &self.options()].concat();
        if !command::needs_nops(self.site.kbuild.arch) {
            return self.site.in_build(&words);
        }
        let assembly = out.with_extension("s");
        self.site.in_build(&command::to_assembly(&words, &assembly)?)?;
        let text = fs::read_to_string(&assembly).with_context(|| format!("cannot read {}", assembly.display()))?;
        let (text, _) = nops::with_nops(&text);
        fs::write(&assembly, text).with_context(|| format!("cannot write {}", assembly.display()))?;
        self.site.in_build(&command::from_assembly(&words, source, &assembly))?;
        fs::remove_file(&assembly).with_context(|| format!("cannot remove {}", assembly.display()))
    }

    /// The names through which a compilation in the view read originals of patched files, from its dependency list.
    fn originals_read(&self, out: &Path) -> Result<Option<BTreeSet<String>>> {
        let list = PathBuf::from(format!("{}.d", out.display()));
        let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        if dependencies(&text).next().is_none() {
            bail!("{} lists nothing, so what was read is unknown", list.display());
        }
        let found = self.view.unpatched(dependencies(&text), &self.site.kbuild.trees.build);
        Ok((!found.is_empty()).then(|| found.into_iter().map(str::to_owned).collect()))
    }
}

impl Again for Compiler<'_> {
    fn orig(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        variant.orig(self.site, tu, &tu.recorded()?, |words, _| {
            self.site.in_build(&[words, variant.options].concat())
        })
    }

    fn patched(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        let out = self.site.out(variant.area, &tu.object)?;
        let words = recompile::command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        let source = self.site.kbuild.trees.source.display();
        self.viewed(&tu.object, &|view| {
            let words = self.in_view(&words, &tu.source, view)?;
            let spelt = format!("-fdebug-prefix-map={}={source}", view.root.display());
            self.site.in_build(&[&words, variant.options, &[spelt]].concat())
        })?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::{Fake, put};
    use crate::build::patchset::apply::Patched;

    fn scope(fake: &Fake) -> Scope {
        put(&fake.work().join("patched"), "include/a.h", b"patched\n");
        put(&fake.kbuild.trees.source, "include/a.h", b"orig\n");
        Scope {
            overlaid: BTreeSet::from(["include/a.h".to_owned(), "include/gone.h".to_owned()]),
            touched: BTreeMap::from([("fs/open.o".to_owned(), vec!["include/a.h".to_owned()])]),
            ..Scope::default()
        }
    }

    fn with(fake: &Fake, test: impl Fn(&Compiler<'_>)) {
        let scope = scope(fake);
        let (work, vmlinux) = (fake.work(), fake.kernel().vmlinux);
        let site = Site::new(&fake.kbuild, &vmlinux, &work, &work, &()).unwrap();
        let files = Patched::new();
        let overlays = overlay::write(&work, &fake.kbuild.trees, &files, scope.overlaid.iter()).unwrap();
        let view = view(&site, &scope).unwrap();
        test(&Compiler {
            site: &site,
            overlays: &overlays,
            view,
        });
    }

    #[test]
    fn the_patched_side_sees_patched_files_beside_what_is_compiled() {
        with(&Fake::of(b"\x7fELF"), |compiler| {
            let root = &compiler.view.root;
            assert_eq!(fs::read(root.join("include/a.h")).unwrap(), b"patched\n");
            let is_link = |path: &str| root.join(path).is_symlink();
            assert_eq!(
                ["fs", "include", "init", "fs/open.c"].map(is_link),
                [false, false, true, true]
            );
        });
    }

    #[test]
    fn a_compilation_that_lists_nothing_proves_nothing() {
        with(&Fake::of(b"\x7fELF"), |compiler| {
            let out = compiler.site.out("x", "open.o").unwrap();
            let list = |text: &str| put(&compiler.site.work, "x/open.o.d", text.as_bytes());
            assert!(compiler.originals_read(&out).is_err(), "no list");
            list("open.o:\n");
            assert!(compiler.originals_read(&out).is_err(), "an empty one");
            let (view, source) = (
                compiler.view.root.display(),
                compiler.site.kbuild.trees.source.display(),
            );
            list(&format!("open.o: {view}/fs/open.c {view}/include/a.h\n"));
            assert_eq!(compiler.originals_read(&out).unwrap(), None);
            list(&format!("open.o: {view}/fs/open.c {source}/include/a.h\n"));
            let read = compiler.originals_read(&out).unwrap();
            assert_eq!(read, Some(BTreeSet::from([format!("{source}/include/a.h")])));
        });
    }

    #[test]
    fn what_kbuild_does_not_write_down_is_done_to_traced_files_only() {
        let tail = |config: &str, flags: &str| {
            let mut fake = Fake::of(b"\x7fELF");
            let build = fake.kbuild.trees.build.clone();
            let record = build.join("fs/.open.o.cmd");
            let text = fs::read_to_string(&record).unwrap();
            fs::write(&record, text.replace("-D__KERNEL__", &format!("-D__KERNEL__ {flags}"))).unwrap();
            put(&build, ".config", config.as_bytes());
            fake.kbuild.config = crate::build::kbuild::Config::read(&build).unwrap();
            fake.kbuild.tus = crate::build::kbuild::tu::scan(&build).unwrap();
            let mut tail = Vec::new();
            let found = std::cell::RefCell::new(&mut tail);
            with(&fake, |compiler| {
                let tu = compiler.site.kbuild.tu("fs/open.o").unwrap();
                **found.borrow_mut() = compiler.recorded(tu).unwrap().tail;
            });
            tail
        };
        let on = "CONFIG_FTRACE_MCOUNT_USE_RECORDMCOUNT=y\n";
        assert_eq!(tail(on, "-pg"), [["./scripts/recordmcount", "fs/open.o"]]);
        assert!(tail(on, "").is_empty());
        assert!(tail("", "-pg").is_empty());
    }
}
