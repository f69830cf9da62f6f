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
use crate::build::recompile::affected::Affected;
use crate::build::recompile::kept::{Compilation, Kept, Made};
use crate::build::recompile::overlay;
use crate::build::recompile::proof::{self, Variant};
use crate::build::recompile::{
    self, DoesNotCompile, Fate, Look, Recompiled, Side, added, changed, failures, files, headers, left_out, same_code,
    same_content, tell_kept, warnings,
};
use crate::build::site::Site;
use crate::build::way::{Again, Compiled};
use crate::outcome::Ending;

/// How often directories of the view are made real before giving up. Each round closes the ways that the last one saw.
const ROUNDS: usize = 4;

/// The folder of the view.
const VIEW: &str = "view";

/// Compiles everything the patch touches.
pub fn compile<'a>(site: &'a Site<'a>, applied: &'a Applied, affected: &Affected) -> Result<Compiled<'a>> {
    let scope = &applied.scope;
    site.progress.expect("compile", files(affected, scope));
    let (compiler, looks) = touched(site, applied, affected)?;
    tell_kept(site.progress, &looks);
    let warnings = warnings(&looks, &applied.places, &compiler.roots(), &|object, side| {
        compiler.asked_again(object, side)
    });
    let fates = looks.into_iter().map(|(_, look)| look.fate).collect();
    let object = |object: &str, words: &[String], source: &str| {
        let added = compiler.in_sections(object, words, source, None);
        added.map(|(out, _)| out)
    };
    let Recompiled { changed, notes } = Recompiled::of(fates, added::compile(site, scope, &object))?;
    let removed = definitions::removed(site, &changed)?;
    if !removed.is_empty() {
        return Err(Ending::Refused(removed).into());
    }
    Ok(Compiled {
        changed,
        notes,
        warnings,
        reruns: Vec::new(),
        again: Box::new(compiler),
    })
}

type Looks = Vec<(String, Look)>;

/// Compiles the touched files, in a tree that gets real directories until no compilation leads out of it.
fn touched<'a>(site: &'a Site<'a>, applied: &'a Applied, affected: &Affected) -> Result<(Compiler<'a>, Looks)> {
    let mut compiler = Compiler {
        site,
        applied,
        kept: Kept::default(),
        view: view(site, &applied.scope, affected)?,
    };
    let all = applied.scope.touched.iter();
    let (clear, mut waiting): (Vec<_>, Vec<(&String, &Vec<String>)>) =
        all.partition(|(object, _)| affected.is_clear(object));
    let unseen = |(object, _): (&String, _)| (object.clone(), Look::unseen());
    let mut looks: Looks = clear.into_iter().map(unseen).collect();
    for round in 1..=ROUNDS {
        let done: Vec<Result<_>> = waiting
            .par_iter()
            .map(|(object, via)| compiler.touched(object, via))
            .collect();
        let mut again = Vec::new();
        let mut directories = BTreeSet::new();
        for (entry, outcome) in waiting.into_iter().zip(failures::all(done)?) {
            match outcome {
                Outcome::Look(look) => looks.push((entry.0.clone(), *look)),
                Outcome::ReadOriginal(names) if round == ROUNDS => {
                    let (fate, made) = (Fate::Refused(original_read(entry.0, &names)), None);
                    looks.push((entry.0.clone(), Look { fate, made }));
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
    Ok((compiler, looks))
}

fn original_read(object: &str, names: &BTreeSet<String>) -> Refusal {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let why = format!("compiling it reads the unpatched original through {}", names.join(", "));
    Refusal::new(ORIGINAL_READ, Subject::file(object), why)
        .hint("replace the path in the #include by one that does not lead through a symbolic link")
}

/// The tree with the patched files in place, and with real directories around everything compiled.
fn view(site: &Site<'_>, scope: &Scope, affected: &Affected) -> Result<View> {
    let trees = &site.kbuild.trees;
    let [stable, ..] = overlay::FOLDERS;
    let patched = site.work.join(stable);
    let files: BTreeMap<PathBuf, PathBuf> = scope
        .overlaid
        .iter()
        .map(|path| (PathBuf::from(path), patched.join(path)))
        .filter(|(_, content)| content.is_file())
        .collect();
    let mut view = View::new(&site.work.join(VIEW), &trees.source, files)?;
    for object in scope.touched.keys().filter(|object| !affected.is_clear(object)) {
        if let TreePath::Source(path) = trees.place(&site.kbuild.tu(object)?.source) {
            view.make_real(Path::new(&path).parent().unwrap_or(Path::new("")))?;
        }
    }
    Ok(view)
}

/// What one look at a TU brought.
enum Outcome {
    Look(Box<Look>),
    /// Through these names the compiler read what it should not.
    ReadOriginal(BTreeSet<String>),
}

impl Outcome {
    fn of(fate: Fate, made: Option<Made>) -> Outcome {
        Outcome::Look(Box::new(Look { fate, made }))
    }
}

struct Compiler<'a> {
    site: &'a Site<'a>,
    applied: &'a Applied,
    kept: Kept,
    /// The tree as the patched side sees it.
    view: View,
}

impl Compiler<'_> {
    fn touched(&self, object: &str, via: &[String]) -> Result<Outcome> {
        let (kbuild, progress) = (self.site.kbuild, self.site.progress);
        let tu = kbuild.tu(object)?;
        if let Some(note) = left_out(kbuild, tu) {
            return Ok(Outcome::of(Fate::Note(note), None));
        }
        progress.message(&format!("compiling {object}"));
        let outcome = self.both_sides(tu, via);
        // What read an original is compiled once more.
        if !matches!(outcome, Ok(Outcome::ReadOriginal(_))) {
            progress.step();
        }
        outcome
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
            let (patched, made) = self.patched_as_recorded(tu, &recorded, via)?;
            if let Some(names) = self.originals_read(&patched)? {
                return Ok(Outcome::ReadOriginal(names));
            }
            let known = kbuild.trees.object(&tu.object);
            let same = if compares { same_content } else { same_code };
            if same(&patched, &known) {
                return Ok(Outcome::of(Fate::Same, Some(made)));
            }
            if !compares {
                let fate = changed(tu, Kind::NativeC, homes, known, patched, via);
                return Ok(Outcome::of(fate, Some(made)));
            }
        }
        let (proof, patched) = rayon::join(
            || self.original(tu, &recorded),
            || self.in_sections(&tu.object, &recorded.compiler, &tu.source, Some(via)),
        );
        let (patched, made) = patched?;
        if let Some(names) = self.originals_read(&patched)? {
            return Ok(Outcome::ReadOriginal(names));
        }
        let fate = match proof? {
            Ok(orig) if same_content(&orig, &patched) => Fate::Same,
            Ok(orig) => changed(tu, Kind::NativeC, homes, orig, patched, via),
            Err(refusal) => Fate::Refused(refusal),
        };
        Ok(Outcome::of(fate, Some(made)))
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
        // The object of a stock kernel was made by this very run, and is proven otherwise.
        if self.site.kbuild.members.is_complete
            && let Err(refusal) = proof::prove(self.site, tu, recorded)?
        {
            return Ok(Err(refusal));
        }
        let variant = Variant {
            area: "sections",
            version: "sections 1",
            options: &self.options(),
        };
        let orig = variant.orig(self.site, tu, recorded, |words, out| {
            self.run_in_sections(words, &tu.source, out)
                .map(drop)
                .with_context(|| format!("the unpatched {} does not compile", tu.object))
        });
        orig.map(Ok)
    }

    /// Compiles a source as the view has it, in sections. It is kept if it is known to read these patched files.
    fn in_sections(
        &self,
        object: &str,
        words: &[String],
        source: &str,
        via: Option<&[String]>,
    ) -> Result<(PathBuf, Made)> {
        let out = self.site.out("patched-objects", object)?;
        let made = self.viewed(object, &|view| {
            let words = recompile::command::redirect(words, object, &out)?;
            let words = self.in_view(&words, source, view)?;
            let place = self.site.kbuild.trees.place(source);
            let moved = view.root.join(place.shown()).display().to_string();
            let run = |words: &[String]| self.run_in_sections(words, &moved, &out);
            let one = Compilation {
                object,
                words: &words,
                out: &out,
                besides: &self.options(),
                content: VIEW,
                via: via.unwrap_or_default(),
            };
            self.kept_if(via.is_some(), view, &one, &run)
        })?;
        Ok((out, made))
    }

    /// The patched object with nothing but the recorded options.
    fn patched_as_recorded(&self, tu: &Tu, recorded: &Recorded, via: &[String]) -> Result<(PathBuf, Made)> {
        let out = self.site.out("patched-as-recorded", &tu.object)?;
        let made = self.viewed(&tu.object, &|view| {
            let words = recompile::command::redirect(&recorded.compiler, &tu.object, &out)?;
            let one = Compilation {
                object: &tu.object,
                words: &self.in_view(&words, &tu.source, view)?,
                out: &out,
                besides: &[],
                content: VIEW,
                via,
            };
            self.kept_if(true, view, &one, &|words| self.site.in_build(words))
        })?;
        for words in &recorded.tail {
            self.site
                .in_build(&recompile::command::redirect_tail(words, &tu.object, &out))?;
        }
        Ok((out, made))
    }

    /// Views that are made again for one file have another name each time, which is part of the command.
    fn kept_if(
        &self,
        wanted: bool,
        view: &View,
        one: &Compilation<'_>,
        run: &dyn Fn(&[String]) -> Result<String>,
    ) -> Result<Made> {
        if wanted && view.root == self.view.root {
            self.kept.compile(self.site, one, run)
        } else {
            run(one.words).map(Made::now)
        }
    }

    /// What the compiler says of a file whose object nobody wants any more.
    fn asked_again(&self, object: &str, side: Side) -> Result<String> {
        let tu = self.site.kbuild.tu(object)?;
        let out = self.site.out("asked-again", object)?;
        let words = recompile::command::redirect(&tu.recorded()?.compiler, object, &out)?;
        match side {
            Side::Orig => self.site.in_build(&words),
            Side::Patched => {
                let [.., plain] = overlay::FOLDERS;
                let view = self.view_again(plain)?;
                self.site.in_build(&self.in_view(&words, &tu.source, &view)?)
            }
        }
    }

    /// Folders under whose names the compiler sees the source tree. Those of views that are made again differ in one
    /// part only.
    fn roots(&self) -> Vec<String> {
        let source = self.site.kbuild.trees.source.display().to_string();
        vec![self.view.root.display().to_string(), source]
    }

    /// A command of the patched side.
    fn in_view(&self, words: &[String], source: &str, view: &View) -> Result<Vec<String>> {
        let words = command::in_view(words, source, &self.site.kbuild.trees, &view.root)?;
        Ok(headers::with(&words, &self.applied.overlays.headers))
    }

    /// Compiles in the view. If that fails, once more with other numbers for added lines, since macros make names of
    /// them (`DECLARE_PCI_FIXUP_FINAL`), and with the true ones, which also give the error its right words.
    fn viewed(&self, object: &str, compile: &dyn Fn(&View) -> Result<Made>) -> Result<Made> {
        if let Ok(made) = compile(&self.view) {
            return Ok(made);
        }
        let [_, apart, plain] = overlay::FOLDERS;
        if let Ok(made) = compile(&self.view_again(apart)?) {
            return Ok(made);
        }
        let view = self.view_again(plain)?;
        compile(&view).map_err(|error| {
            let roots = [vec![view.root.display().to_string()], self.roots()].concat();
            DoesNotCompile::because(self.applied.places.explain(error, &roots), object)
        })
    }

    /// The view with other contents. It stays as long as the work folder: the list of what was read has names in it.
    fn view_again(&self, content: &str) -> Result<View> {
        let work = &self.site.work;
        let folder = work.join("view-again");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let place =
            tempfile::tempdir_in(&folder).with_context(|| format!("cannot make a folder in {}", folder.display()))?;
        self.view.with_content(&place.keep().join("tree"), &work.join(content))
    }

    fn options(&self) -> Vec<String> {
        let options = command::options(self.site.kbuild.arch).iter();
        options.map(|&word| word.to_owned()).collect()
    }

    /// Runs a compiler command with sections for each function, through assembly where calls need room.
    fn run_in_sections(&self, words: &[String], source: &str, out: &Path) -> Result<String> {
        let words = [words, &self.options()].concat();
        if !command::needs_nops(self.site.kbuild.arch) {
            return self.site.in_build(&words);
        }
        let assembly = out.with_extension("s");
        let messages = self.site.in_build(&command::to_assembly(&words, &assembly)?)?;
        let text = fs::read_to_string(&assembly).with_context(|| format!("cannot read {}", assembly.display()))?;
        let (text, _) = nops::with_nops(&text);
        fs::write(&assembly, text).with_context(|| format!("cannot write {}", assembly.display()))?;
        self.site.in_build(&command::from_assembly(&words, source, &assembly))?;
        fs::remove_file(&assembly).with_context(|| format!("cannot remove {}", assembly.display()))?;
        Ok(messages)
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
            self.site.in_build(&[words, variant.options].concat()).map(drop)
        })
    }

    fn patched(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        let out = self.site.out(variant.area, &tu.object)?;
        let words = recompile::command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        let source = self.site.kbuild.trees.source.display();
        let via = self.applied.scope.touched.get(&tu.object);
        self.viewed(&tu.object, &|view| {
            let words = self.in_view(&words, &tu.source, view)?;
            let spelt = format!("-fdebug-prefix-map={}={source}", view.root.display());
            let one = Compilation {
                object: &tu.object,
                words: &[&words, variant.options, &[spelt]].concat(),
                out: &out,
                besides: &[],
                content: VIEW,
                via: via.map_or(&[][..], Vec::as_slice),
            };
            self.kept_if(via.is_some(), view, &one, &|words| self.site.in_build(words))
        })?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::{Fake, put};
    use crate::build::patchset::apply::Patched;
    use crate::build::recompile::messages::Places;

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
        let view = view(&site, &scope, &Affected::default()).unwrap();
        let applied = Applied {
            fuzzy: Vec::new(),
            causes: crate::build::causes::Causes::default(),
            scope,
            files,
            overlays,
            places: Places::default(),
            notes: Vec::new(),
        };
        test(&Compiler {
            site: &site,
            applied: &applied,
            kept: Kept::default(),
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
