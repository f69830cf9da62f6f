//! The livepatch looks at what it is about to patch: an object of the right name may be another build.
//!
//! The image is looked at before anything is registered, and a module in the callback before it is patched, which the
//! kernel calls when the livepatch is loaded and whenever the module comes (kernel/livepatch/core.c, `__klp_enable_patch`
//! and `klp_module_coming`). So it does not matter who loads what, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kpatch_core::resolve::{KlpSymbol, SymPos, Target};
use kpatch_core::{Callback, Moment, ObjectName, Patch, klp};
use kpatch_runtime::about::About;

/// The callback of each module whose build can be told.
const CHECK: &str = klp::SAME_BUILD;

/// What the image calls the bounds of its notes (include/asm-generic/vmlinux.lds.h), and the glue.
const NOTES: [(&str, &str); 2] = [("klp_start_notes", "__start_notes"), ("klp_stop_notes", "__stop_notes")];

/// Takes the relocations of a section back: from 6.3 on (include/linux/moduleloader.h).
const CLEAR: &str = "clear_relocate_add";

/// As many bytes the kernel prints with `%*ph` (Documentation/core-api/printk-formats.rst), and no build id is longer.
const MOST: usize = 64;

/// What the glue needs of the kernel for this, by link name.
pub fn symbols(patch: &Patch, about: &About, target: &Target<'_>) -> BTreeMap<String, KlpSymbol> {
    let image = &target.vmlinux;
    let find = |(link, name): (&str, &str)| {
        let sympos = match image.found(name).len() {
            1 => image.sympos(image.find(name, SymPos(0))?)?,
            _ => return None,
        };
        let owner = ObjectName::vmlinux();
        let symbol = KlpSymbol {
            gate: owner.clone(),
            owner,
            name: name.to_owned(),
            sympos,
        };
        Some((link.to_owned(), symbol))
    };
    let bounds: Vec<_> = NOTES.into_iter().filter_map(find).collect();
    let has_image = about.build_ids.contains_key(ObjectName::vmlinux().as_str());
    let mut found = BTreeMap::new();
    if has_image && bounds.len() == NOTES.len() {
        found.extend(bounds);
    }
    let late = |symbol: &KlpSymbol| about.build_ids.contains_key(symbol.gate.as_str()) && !symbol.gate.is_vmlinux();
    if patch.symbols.values().any(late) {
        found.extend(find((CLEAR, CLEAR)));
    }
    found
}

/// Whether a symbol of the kernel is one that only the glue refers to, and that the same in each livepatch.
pub fn is_own(name: &str) -> bool {
    name == CLEAR || NOTES.iter().any(|(_, of_image)| *of_image == name)
}

/// Whether the image is looked at.
fn looks_at_image(patch: &Patch) -> bool {
    NOTES.iter().all(|(link, _)| patch.symbols.contains_key(*link))
}

/// Whether this object is looked at before it is patched.
pub fn is_told(object: &ObjectName, patch: &Patch, about: &About) -> bool {
    match object.is_vmlinux() {
        true => looks_at_image(patch),
        false => about.build_ids.contains_key(object.as_str()),
    }
}

/// What the module registers, and the callbacks that come behind [`CHECK`] instead.
pub fn callbacks(patch: &Patch, about: &About) -> (Vec<Callback>, Vec<Callback>) {
    let told = |object: &ObjectName| !object.is_vmlinux() && is_told(object, patch, about);
    let is_behind = |callback: &Callback| callback.moment == Moment::PrePatch && told(&callback.object);
    let (behind, mut registered): (Vec<_>, Vec<_>) = patch.callbacks.iter().cloned().partition(is_behind);
    let functions = patch.functions.iter().map(|function| &function.object);
    let objects: BTreeSet<&ObjectName> = functions
        .chain(patch.callbacks.iter().map(|callback| &callback.object))
        .collect();
    registered.extend(
        objects
            .into_iter()
            .filter(|object| told(object))
            .map(|object| Callback {
                object: object.clone(),
                moment: Moment::PrePatch,
                name: CHECK.to_owned(),
                unit: String::new(),
                handle: CHECK.to_owned(),
            }),
    );
    (registered, behind)
}

/// The functions that look, and what they look for.
pub fn definition(patch: &Patch, about: &About) -> String {
    let (registered, behind) = callbacks(patch, about);
    let modules: Vec<&ObjectName> = registered
        .iter()
        .filter(|callback| callback.handle == CHECK)
        .map(|callback| &callback.object)
        .collect();
    let mut text = String::new();
    if modules.is_empty() && !looks_at_image(patch) {
        return text;
    }
    text.push_str(FIND);
    if looks_at_image(patch) {
        let id = bytes(&about.build_ids[ObjectName::vmlinux().as_str()]);
        let [(start, _), (stop, _)] = NOTES;
        _ = write!(
            text,
            "\nextern const u8 {start}[];\nextern const u8 {stop}[];\n\n\
             static noinline bool klp_same_image(void)\n{{\n\tstatic const u8 id[] = {{ {} }};\n\n\
             \treturn klp_is_build(\"the kernel\", {start}, {stop}, id, sizeof(id));\n}}\n",
            id.join(", ")
        );
    }
    if modules.is_empty() {
        return text;
    }
    _ = write!(
        text,
        "\nstatic const struct klp_build {{\n\tconst char *object;\n\tint (*behind)(struct klp_object *obj);\n\
         \tconst char *relocations;\n\tu32 length;\n\tu8 id[{MOST}];\n}} klp_builds[] = {{\n"
    );
    for module in modules {
        let own = behind.iter().find(|callback| callback.object == *module);
        let own = own.map_or_else(|| "NULL".to_owned(), |own| format!("(void *){}", own.handle));
        let id = bytes(&about.build_ids[module.as_str()]);
        _ = writeln!(
            text,
            "\t{{ \"{module}\", {own}, \".klp.rela.{module}.\", {}, {{ {} }} }},",
            id.len(),
            id.join(", ")
        );
    }
    text.push_str("};\n");
    text.push_str(match patch.symbols.contains_key(CLEAR) {
        true => TAKE_BACK,
        false => "\nstatic void klp_take_back(const char *section)\n{\n}\n",
    });
    text.push_str(MODULE);
    text
}

/// What the module does first when it is loaded.
pub fn at_load(patch: &Patch) -> &'static str {
    match looks_at_image(patch) {
        true => "\tif (!klp_same_image())\n\t\treturn -ENOEXEC;\n",
        false => "",
    }
}

/// The bytes of a number in hexadecimal, as C.
fn bytes(hexadecimal: &str) -> Vec<String> {
    let pairs = hexadecimal.as_bytes().chunks(2).take(MOST);
    pairs
        .map(|pair| format!("0x{}", String::from_utf8_lossy(pair)))
        .collect()
}

/// Notes are read-only data, so they lie in memory as they are in the file. Any four bytes of a module may look like the
/// beginning of one; so the wanted one counts wherever it is.
const FIND: &str = r#"
static const u8 *klp_find_build_id(const u8 *at, const u8 *end, const u8 *wanted, u32 length)
{
	const u32 head[] = { 4, length, 3 };
	const u8 *found = NULL;

	for (; at + sizeof(head) + 4 + length <= end; at += 4) {
		if (memcmp(at, head, sizeof(head)) || memcmp(at + sizeof(head), "GNU", 4))
			continue;
		found = at + sizeof(head) + 4;
		if (!memcmp(found, wanted, length))
			break;
	}
	return found;
}

static bool klp_is_build(const char *object, const u8 *start, const u8 *end, const u8 *wanted, u32 length)
{
	const u8 *found = klp_find_build_id(start, end, wanted, length);
	const char *then = THIS_MODULE->state == MODULE_STATE_LIVE ? "it is not loaded" : "the livepatch is not loaded";

	if (found && !memcmp(found, wanted, length))
		return true;
	if (found)
		pr_err("kpatch: %s: %s is another build (build id %*phN, expected %*phN); %s\n", THIS_MODULE->name,
		       object, (int)length, found, (int)length, wanted, then);
	else
		pr_err("kpatch: %s: %s has no build id (expected %*phN); %s\n", THIS_MODULE->name, object, (int)length,
		       wanted, then);
	return false;
}
"#;

/// By the time the kernel asks, the livepatch's relocations against the module are written, and where the kernel then
/// refuses the module it leaves them (`klp_module_coming`): x86-64 would not write over them when the right build comes.
const TAKE_BACK: &str = r#"
static void klp_take_back(const char *section)
{
	struct klp_modinfo *info = THIS_MODULE->klp_info;
	unsigned int i;

	for (i = 1; i < info->hdr.e_shnum; i++) {
		Elf_Shdr *header = info->sechdrs + i;

		if ((header->sh_flags & SHF_RELA_LIVEPATCH) &&
		    !strncmp(info->secstrings + header->sh_name, section, strlen(section)))
			clear_relocate_add(info->sechdrs, THIS_MODULE->core_kallsyms.strtab, info->symndx, i, THIS_MODULE);
	}
}
"#;

/// Where a module keeps its read-only data: include/linux/module.h, which has had types of memory since 6.4.
const MODULE: &str = r#"
int klp_same_build(struct klp_object *obj);
int klp_same_build(struct klp_object *obj)
{
	const struct klp_build *build = klp_builds;
	const u8 *start, *end;

	while (strcmp(build->object, obj->name))
		build++;
#ifdef mod_mem_type_is_core
	start = obj->mod->mem[MOD_RODATA].base;
	end = start + obj->mod->mem[MOD_RODATA].size;
#else
	start = obj->mod->core_layout.base + obj->mod->core_layout.text_size;
	end = obj->mod->core_layout.base + obj->mod->core_layout.ro_size;
#endif
	if (klp_is_build(obj->name, start, end, build->id, build->length))
		return build->behind ? build->behind(obj) : 0;
	klp_take_back(build->relocations);
	return -ENOEXEC;
}
"#;
