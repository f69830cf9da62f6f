//! Compilations are kept by all that the compiler read, and only used if all of it is the same.

use std::cell::Cell;

use super::*;
use crate::build::kbuild::fake::{Fake, put};

/// A tree with a header that is found in the second folder of the command, and the cache of all runs.
struct Tree {
    fake: Fake,
    cache: tempfile::TempDir,
    object: &'static [u8],
}

/// What a run is to see.
struct Run<'a> {
    patched: &'a str,
    flags: &'a str,
    compiler: Option<&'a str>,
}

const USUAL: Run<'_> = Run {
    patched: "new\n",
    flags: "",
    compiler: Some("cc 1"),
};

impl Tree {
    fn new() -> Tree {
        let tree = Tree {
            fake: Fake::of(b"BC\xc0\xde"),
            cache: tempfile::tempdir().unwrap(),
            object: b"an object",
        };
        tree.put("include/b.h", "b\n");
        tree
    }

    fn put(&self, path: &str, text: &str) {
        put(&self.fake.kbuild.trees.source, path, text.as_bytes());
    }

    /// Compiles fs/open.c, patched, in a work folder of its own; whether that was done, and what there is then.
    fn run(&self, run: &Run<'_>) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().canonicalize().unwrap();
        let (kbuild, vmlinux) = (&self.fake.kbuild, self.fake.kernel().vmlinux);
        let site = Site::new(kbuild, &vmlinux, &work, self.cache.path(), &()).unwrap();
        put(&work, "patched/fs/open.c", run.patched.as_bytes());
        let mut kept = Kept::new(&BTreeSet::from(["fs/open.c".to_owned()]));
        kept.compiler = OnceLock::from(run.compiler.map(|name| vec![name.to_owned()]));
        let out = site.out("objects", "fs/open.o").unwrap();
        let source = kbuild.trees.source.display();
        let words = format!(
            "cc -Wp,-MMD,{}.d {} -I{source}/first -I {source}/include -ivfsoverlay {}/o.json -o {} {source}/fs/open.c",
            out.display(),
            run.flags,
            work.display(),
            out.display()
        );
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let one = Compilation {
            object: "fs/open.o",
            words: &words,
            out: &out,
            besides: &[],
            content: "patched",
            via: &["fs/open.c".to_owned()],
        };
        let done = Cell::new(false);
        let made = kept.compile(&site, &one, |_| {
            done.set(true);
            put(&work, "objects/fs/open.o", self.object);
            let list = format!("open.o: {source}/fs/open.c \\\n {source}/include/b.h\n");
            put(&work, "objects/fs/open.o.d", list.as_bytes());
            Ok(format!("{}/o.json: warning: x", work.display()))
        });
        let made = made.unwrap();
        assert_eq!(made.kept, !done.get());
        assert_eq!(fs::read(&out).unwrap(), self.object);
        assert_eq!(made.messages, format!("{}/o.json: warning: x", work.display()));
        let list = fs::read_to_string(list_of(&out)).unwrap();
        (made.kept, list)
    }

    fn is_kept(&self, run: &Run<'_>) -> bool {
        self.run(run).0
    }
}

#[test]
fn a_second_run_finds_what_the_first_one_made() {
    let tree = Tree::new();
    let (kept, first) = tree.run(&USUAL);
    assert!(!kept);
    let (kept, second) = tree.run(&USUAL);
    assert!(kept);
    let names = |list: &str| dependencies(list).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
}

#[test]
fn whatever_the_compiler_reads_decides() {
    let tree = Tree::new();
    assert!(!tree.is_kept(&USUAL));
    let other = Run {
        patched: "newer\n",
        ..USUAL
    };
    assert!(!tree.is_kept(&other), "the patched file");
    assert!(
        tree.is_kept(&other) && tree.is_kept(&USUAL),
        "both are kept side by side"
    );
    assert!(!tree.is_kept(&Run { flags: "-O3", ..USUAL }), "the command");
    assert!(
        !tree.is_kept(&Run {
            compiler: Some("cc 2"),
            ..USUAL
        }),
        "the compiler"
    );
    assert!(tree.is_kept(&USUAL));
    tree.put("include/b.h", "c\n");
    assert!(!tree.is_kept(&USUAL), "a header");
    assert!(tree.is_kept(&USUAL));
    tree.put("first/b.h", "b\n");
    assert!(!tree.is_kept(&USUAL), "a header of that name in a folder before");
    assert!(tree.is_kept(&USUAL));
    tree.put("fs/b.h", "b\n");
    assert!(!tree.is_kept(&USUAL), "a header of that name beside the source");
    fs::remove_file(tree.fake.kbuild.trees.source.join("include/b.h")).unwrap();
    assert!(!tree.is_kept(&USUAL), "a header that is gone");
}

#[test]
fn what_depends_on_more_is_compiled_each_time() {
    for text in [
        "char *t = __DATE__;\n",
        "asm(\".incbin \\\"x\\\"\");\n",
        "#if __has_include(<x.h>)\n",
    ] {
        let tree = Tree::new();
        tree.put("include/b.h", text);
        assert!(!tree.is_kept(&USUAL) && !tree.is_kept(&USUAL), "{text}");
    }
    let listing = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        listing_everything(&words)
    };
    for option in ["-fplugin=x.so", "@more", "-Wp,-MD,second.d"] {
        assert_eq!(listing(&["cc", "-Wp,-MMD,x.d", option]), None, "{option}");
    }
    assert_eq!(listing(&["cc", "-O2"]), None, "without a list nothing is known");
    assert_eq!(listing(&["cc", "-Wp,-MMD,x.d"]).unwrap()[1], "-Wp,-MD,x.d");
    let unknown = Run {
        compiler: None,
        ..USUAL
    };
    let tree = Tree::new();
    assert!(
        !tree.is_kept(&USUAL) && !tree.is_kept(&unknown),
        "a compiler that cannot be told from others"
    );
}

#[test]
fn a_damaged_entry_is_made_again() {
    let tree = Tree::new();
    assert!(!tree.is_kept(&USUAL));
    let area = tree.cache.path().join(AREA);
    let entry = fs::read_dir(&area).unwrap().next().unwrap().unwrap().path();
    fs::write(entry.join(OBJECT), "an obJect").unwrap();
    assert!(!tree.is_kept(&USUAL));
    assert!(tree.is_kept(&USUAL));
    fs::write(entry.join(READS), "{}").unwrap();
    assert!(!tree.is_kept(&USUAL));
    assert!(tree.is_kept(&USUAL));
}
