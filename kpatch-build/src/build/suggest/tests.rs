//! A suggestion is a patch that our own parser reads and that applies on top of the author's.

use std::fs;
use std::path::Path;

use kpatch_core::{Code, Subject};

use super::*;

const ORIG: &str = r#"#include <linux/fs.h>
#include <linux/slab.h>

struct ctx {
	u64 count;
};

static unsigned int limit = 10;

static notrace u64
now(int a)
{
	return a;
}

static long use(struct ctx *ctx, int n)
{
	if (n > 3)
		return 0;
	ctx->count += now(n);
	return ctx->count;
}

static void put(struct ctx *ctx)
{
	kfree(ctx);
}

static int __init start(void)
{
	int mode = 0;

	create("a", mode);
	return 0;
}
late_initcall(start);
"#;

/// What the author wants, as pieces of the file that are exchanged.
const CHANGES: [(&str, &str); 5] = [
    (
        "\tu64 count;\n",
        "\tu64 count;\n\tu64 reads;\t/* how often */\n\tstruct file *last;\n",
    ),
    ("limit = 10;", "limit = 20;"),
    ("\treturn a;\n", "\treturn a ?: 1;\n"),
    (
        "\tif (n > 3)\n",
        "\tctx->reads++;\n\tif (n > 3 && ctx->reads < ctx->count && ctx->last)\n",
    ),
    ("\tcreate(\"a\", mode);\n", "\tcreate(\"b\", 1);\n"),
];

struct Bench {
    folder: tempfile::TempDir,
    patch: PathBuf,
}

impl Bench {
    fn new(changes: &[(&str, &str)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("tree");
        fs::create_dir_all(source.join("fs")).unwrap();
        fs::write(source.join("fs/a.c"), ORIG).unwrap();
        let mut new = ORIG.to_owned();
        for (from, to) in changes {
            assert!(new.contains(from), "{from}");
            new = new.replacen(from, to, 1);
        }
        let diff = similar::TextDiff::from_lines(ORIG, &new);
        let mut unified = diff.unified_diff();
        let patch = folder.path().join("fix.patch");
        fs::write(&patch, unified.header("a/fs/a.c", "b/fs/a.c").to_string()).unwrap();
        Bench { folder, patch }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn suggested(&self, refusals: &[Refusal]) -> Option<Suggestion> {
        suggest(std::slice::from_ref(&self.patch), &self.source(), refusals).unwrap()
    }

    /// The file after both patches.
    fn after(&self, suggestion: &Suggestion) -> String {
        let path = self.folder.path().join("suggested.patch");
        fs::write(&path, &suggestion.text).unwrap();
        after(&[self.patch.clone(), path], &self.source())
    }
}

fn after(patches: &[PathBuf], source: &Path) -> String {
    let set = patchset::read(patches).unwrap();
    let mut copies = Copies::default();
    for change in &set.files {
        copies.add(source, change).unwrap();
    }
    assert_eq!(copies.refusals, [], "it applies");
    let lines = copies.files["fs/a.c"].as_ref().unwrap();
    let bytes: Vec<u8> = lines.iter().flat_map(|line| line.text.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

fn refusal(code: Code, symbol: &str) -> Refusal {
    Refusal::new(code, Subject::file("fs/a.o").symbol(symbol), "why")
}

#[test]
fn new_members_become_shadow_variables() {
    let bench = Bench::new(&CHANGES);
    let suggestion = bench
        .suggested(&[refusal(patch::LAYOUT_CHANGED, "struct ctx")])
        .unwrap();
    assert_eq!(suggestion.covers, [true]);
    let text = bench.after(&suggestion);
    assert!(text.contains("struct ctx {\n\tu64 count;\n};\n"), "{text}");
    for part in [
        "#include <linux/livepatch.h>\n",
        "klp_shadow_get_or_alloc(object, CTX_READS, sizeof(u64), GFP_ATOMIC, NULL, NULL);",
        "struct file **ctx_last(struct ctx *object)",
        "\t{\n\t\tu64 *reads = ctx_reads(ctx);\n\n\t\tif (reads)\n\t\t\t(*reads)++;\n\t}\n",
        "\tif (n > 3 && ctx_get_reads(ctx) < ctx->count && ctx_get_last(ctx))\n",
        "\tklp_shadow_free(ctx, CTX_READS, NULL);\n",
        "\tklp_shadow_free(ctx, CTX_LAST, NULL);\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("ctx->reads") && !text.contains("ctx->last"), "{text}");
}

#[test]
fn a_value_is_set_by_a_callback() {
    let bench = Bench::new(&CHANGES);
    let suggestion = bench.suggested(&[refusal(select::DATA_CHANGED, "limit")]).unwrap();
    let text = bench.after(&suggestion);
    assert!(text.contains("static unsigned int limit = 10;\n"), "{text}");
    assert!(text.contains("if (limit == (10))\n\t\tlimit = 20;\n"), "{text}");
    assert!(text.contains("KLP_PRE_PATCH_CALLBACK(kpatch_set_up);\n"), "{text}");
    assert!(text.contains("KLP_POST_UNPATCH_CALLBACK(kpatch_put_back);\n"), "{text}");
}

#[test]
fn boot_code_is_done_again_by_a_callback() {
    let bench = Bench::new(&CHANGES);
    let both = [
        refusal(select::INIT_CODE, "start"),
        refusal(select::DATA_CHANGED, "limit"),
    ];
    let suggestion = bench.suggested(&both).unwrap();
    assert_eq!(suggestion.covers, [true, true]);
    let text = bench.after(&suggestion);
    assert!(text.contains("\tcreate(\"a\", mode);\n"), "{text}");
    assert!(
        text.contains("static void kpatch_redo_start(void)\n{\n\tcreate(\"b\", 1);\n}\n"),
        "{text}"
    );
    assert_eq!(
        text.matches("KLP_PRE_PATCH_CALLBACK").count(),
        1,
        "an object has one callback of a kind"
    );
    assert!(
        text.contains("\tkpatch_redo_start();\n\tkpatch_set_limit();\n"),
        "{text}"
    );
}

#[test]
fn an_untraced_function_stays_and_its_callers_get_a_copy() {
    let bench = Bench::new(&CHANGES);
    let suggestion = bench.suggested(&[refusal(select::NO_FTRACE_SITE, "now")]).unwrap();
    let text = bench.after(&suggestion);
    assert!(
        text.contains("static notrace u64\nnow(int a)\n{\n\treturn a;\n}\n"),
        "{text}"
    );
    assert!(
        text.contains("static noinline u64\nnow_patched(int a)\n{\n\treturn a ?: 1;\n}\n"),
        "{text}"
    );
    assert!(text.contains("ctx->count += now_patched(n);"), "{text}");
}

#[test]
fn what_cannot_be_derived_is_not_suggested() {
    let bench = Bench::new(&CHANGES);
    for refusal in [
        refusal(patch::LAYOUT_CHANGED, "struct other"),
        refusal(patch::LAYOUT_CHANGED, "enum ctx"),
        refusal(select::DATA_CHANGED, "now"),
        refusal(select::INIT_CODE, "use2"),
        refusal(select::NO_FTRACE_SITE, "put"),
        refusal(patch::VDSO, "limit"),
        Refusal::new(select::DATA_CHANGED, Subject::default(), "why"),
    ] {
        assert_eq!(bench.suggested(std::slice::from_ref(&refusal)), None, "{refusal}");
    }
    let table = Bench::new(&[("limit = 10;", "limit = 10, more[] = { 1 };")]);
    assert_eq!(table.suggested(&[refusal(select::DATA_CHANGED, "more")]), None);
}

#[test]
fn a_file_that_is_there_stays() {
    let bench = Bench::new(&CHANGES);
    let refused = || Ending::refused(refusal(select::DATA_CHANGED, "limit"));
    let folder = bench.folder.path();
    let mine = folder.join("fix.suggested.patch");
    fs::write(&mine, "mine").unwrap();
    let patches = std::slice::from_ref(&bench.patch);
    let error = beside(&refused(), patches, &bench.source(), folder).unwrap().unwrap();
    let Some(Ending::Refused(refusals)) = error.downcast_ref::<Ending>() else {
        panic!("{error:#}")
    };
    let other = folder.join("fix.suggested-2.patch");
    assert_eq!(refusals[0].suggested, Some(other.display().to_string()));
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert!(after(&[bench.patch.clone(), other], &bench.source()).contains("kpatch_set_limit"));
    assert_eq!(fs::read_to_string(bench.source().join("fs/a.c")).unwrap(), ORIG);
}
