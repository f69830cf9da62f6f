//! Attacks: each is a file in which others than the owner of the stack get at an object, or in which one may be made
//! elsewhere.

use super::file::look;
use super::items::Tag;

const TAG: Tag<'static> = Tag {
    word: "struct",
    tag: "s",
};

/// A file in which all objects are on stacks.
const GOOD: &str = r#"
struct other { int n; };
struct s { int a; int b[4]; struct other inner; };
struct s;
static int low(struct s *p, int n);
static int low(struct s *p, int n)
{
    int *field = &p->b[n];
    if (!p || p == ((void *)0))
        return 0;
    (*p).a = n;
    return *field + p->inner.n + sizeof(p->b);
}
static void by_value(struct s one) { one.a = 0; }
static void cleared(struct s *p) { *p = (struct s){ 0 }; }
struct namesake { int low; };
int named(int low, struct namesake *p) { return low + p->low; }
_Static_assert(sizeof(struct s) == 24, "its size");
static int middle(const struct s *const p)
{
    struct s *q = p, *none = 0;
    struct s copy = *p;
again:
    copy = *p;
    if (none)
        q = none;
    q = &copy;
    by_value(*q);
    by_value(copy);
    return low(q, 1) + low(p, p->a);
}
int entry(int n)
{
    struct s one = { .a = n }, many[2];
    struct s *at = &many[n];
    memset(&one, 0, sizeof(one));
    one = (struct s){ .a = 1 };
    many[0].a = extern_function(&one.inner, one.b);
    at->a = one.a;
    if (copy_to_user(to, &one, sizeof(struct s)))
        return 1;
    for (int i = 0; i < 2; i++)
        low(&many[i], 0);
    return middle(&one) + low(at, ({ int x = one.a; x; }));
}
"#;

fn refused(text: &str) -> String {
    look(text, TAG).expect_err(text)
}

/// The good file with a piece exchanged.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

#[test]
fn objects_on_stacks_are_seen() {
    let shown = look(GOOD, TAG).unwrap();
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&shown.holders), "entry middle");
    assert_eq!(names(&shown.takers), "by_value cleared low middle");
    assert_eq!(look("int f(void) { return 0; }", TAG), Ok(Default::default()));
}

#[test]
fn an_object_that_is_no_variable_of_a_function_is_refused() {
    for (what, old, new) in [
        ("a static", "int entry", "static struct s kept; int entry"),
        ("a variable beside the type", "inner; };", "inner; } kept;"),
        (
            "a static of a function",
            "    struct s *at",
            "    static struct s kept; struct s *at",
        ),
        ("one of another file", "int entry", "extern struct s kept; int entry"),
        ("a member", "int entry", "struct outer { struct s inner; }; int entry"),
        (
            "a pointer in a member",
            "int entry",
            "struct outer { struct s *kept; }; int entry",
        ),
        (
            "a member of a union on the stack",
            "    struct s *at",
            "    union { struct s a; char raw[64]; } u; struct s *at",
        ),
        ("a typedef", "int entry", "typedef struct s other_name; int entry"),
        ("a list of them", "int b[4];", "struct s *next;"),
        ("a node", "int b[4];", "struct list_head node;"),
        ("a work item", "int b[4];", "struct work_struct work;"),
        ("a completion", "int b[4];", "struct completion done;"),
        ("a lock", "int b[4];", "spinlock_t lock;"),
    ] {
        refused(&with(old, new));
        assert!(look(&with(old, old), TAG).is_ok(), "{what}");
    }
}

#[test]
fn a_pointer_from_anywhere_but_a_variable_is_refused() {
    for new in [
        "q = kmalloc(sizeof(*q), 1);",
        "q = kmalloc(sizeof(struct s), 1);",
        "q = global;",
        "q = (struct s *)global;",
        "q = other->private_data;",
        "if (n) q = global;",
        "n = 1, q = global;",
        "q = &copy, q = global;",
        "q = find(&copy);",
        "q += 1;",
        "q++;",
        "low(global, 1);",
        "low((void *)p->a, 1);",
        "low(n ? q : global, 1);",
        "{ void *q = global; low(q, 1); }",
        "{ void *n, *q = global; low(q, 1); }",
        "{ typeof(global) q = global; low(q, 1); }",
        "{ __auto_type hidden = q; hidden = global; hidden->a = 1; }",
        "{ typeof(q) hidden = global; hidden->a = 1; }",
        "{ typeof(*q) *hidden = global; hidden->a = 1; }",
        "{ typeof(&copy) hidden = global; hidden->a = 1; }",
        "{ struct s **hidden = &q; *hidden = global; }",
        "((typeof(q))global)->a = 1;",
        "q = ({ void *__mptr = (void *)(global); ((struct s *)(__mptr - __builtin_offsetof(struct s, a))); });",
        "q = va_arg(list, struct s *);",
        "asm(\"\" : \"=r\"(q));",
        "memcpy(&copy, saved, sizeof(copy));",
        "memcpy(&copy.a, saved, 16);",
        "memcpy(&q->a, saved, 16);",
        "fetch(&q);",
        "fetch(q);",
    ] {
        let text = with("q = &copy;", new);
        refused(&text);
    }
}

#[test]
fn a_pointer_that_goes_elsewhere_is_refused() {
    for new in [
        "global = q;",
        "other->private_data = &copy;",
        "smp_call_function(work, q, 1);",
        "kthread_run(work, &copy, 0);",
        "queue(&copy);",
        "memcpy(saved, &copy, sizeof(copy));",
        "kmemdup(q, sizeof(*q), 1);",
        "global = (long)q;",
        "*(struct s *)global = *q;",
        "global = memset(q, 0, 0);",
        "memcpy(memset(&copy, 0, 0), saved, 16);",
        "asm(\"call low\");",
        "(low)(global, 1);",
        "return q;",
        "register_callback(low);",
        "{ int low; } register_callback(low);",
        "ops->call = low;",
        "hash(&copy, sizeof(struct s));",
    ] {
        let text = with("q = &copy;", new);
        refused(&text);
    }
    for (old, new) in [
        ("static void by_value", "void by_value"),
        (
            "static void by_value",
            "int elsewhere(struct s *p); static void by_value",
        ),
        (
            "static void by_value",
            "static struct s *give(void); static void by_value",
        ),
        (
            "static void by_value",
            "static void each(int (*f)(struct s *)); static void by_value",
        ),
        ("int entry", "static struct ops ops = { .f = low }; int entry"),
        (
            "int entry",
            "int other(void *, int) __attribute__((alias(\"low\"))); int entry",
        ),
        ("int entry", "asm(\".globl other\\n.set other, low\"); int entry"),
        (
            "struct s one = {",
            "struct s last __attribute__((cleanup(keep))); struct s one = {",
        ),
        (
            "struct s one = {",
            "void *last __attribute__((cleanup(low))); struct s one = {",
        ),
    ] {
        refused(&with(old, new));
    }
}

/// A callback that finds its own object by a member, as functions that list directories do.
const HANDED_BACK: &str = r#"
struct dir_context { bool (*actor)(struct dir_context *, int); int pos; };
struct s { struct dir_context ctx; int n; };
static bool fill(struct dir_context *ctx, int n)
{
    struct s *p = ({ void *__mptr = (void *)(ctx); _Static_assert(__same(*(ctx), ((struct s *)0)->ctx), "x");
        ((struct s *)(__mptr - __builtin_offsetof(struct s, ctx))); });
    p->n++;
    return 1;
}
int entry(struct file *file)
{
    struct s one = { .ctx.actor = fill };
    iterate_dir(file, &one.ctx);
    return one.n + one.ctx.pos;
}
"#;

#[test]
fn what_is_handed_back_before_the_call_returns_is_ones_own() {
    let shown = look(HANDED_BACK, TAG).unwrap();
    assert!(shown.takers.contains("fill") && shown.holders.contains("entry"));
    for (old, new) in [
        ("iterate_dir(file, &one.ctx);", "later(file, &one.ctx);"),
        ("iterate_dir(file, &one.ctx);", "kept = &one.ctx;"),
        (
            "iterate_dir(file, &one.ctx);",
            "iterate_dir(file, &one.ctx); fill(kept, 1);",
        ),
        ("iterate_dir(file, &one.ctx);", "kept = one.ctx;"),
        ("iterate_dir(file, &one.ctx);", "set_handler(fill);"),
        ("p->n++;", "list_add(&p->ctx);"),
        ("    struct s *p", "    ctx = kept; struct s *p"),
        ("    struct s *p", "    ctx++; struct s *p"),
        ("    struct s *p", "    move(&ctx); struct s *p"),
        ("(ctx); _Static", "(kept); _Static"),
        ("struct s, ctx)))", "struct s, n)))"),
        (".ctx.actor = fill", ".ctx.other = fill"),
    ] {
        assert!(HANDED_BACK.contains(old), "{old}");
        refused(&HANDED_BACK.replacen(old, new, 1));
    }
    for (kind, text) in [("work_struct", HANDED_BACK), ("mm_walk", HANDED_BACK)] {
        refused(&text.replace("dir_context", kind));
    }
}
