//! The source of the module around the objects: which functions of which object are redirected to what, and which are
//! called when an object is patched.
//!
//! It is compiled against the target's own headers, so nothing here depends on how livepatch lays out its structures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Moment, ObjectName, Patch, SetValue, State, is_setter};

use super::{Request, identity, note};
use crate::outcome::Ending;

/// `MODULE_NAME_LEN` without the NUL: include/linux/moduleparam.h.
const MAX_MODULE_NAME: usize = 55;

/// Where the objects and the glue are. The folder is new to `make` when it looks: what it has read once it would not
/// read again.
const PARTS: &str = "parts";

/// The name of the source of the glue, without its ending.
const GLUE: &str = "klp-glue";

/// The list of the objects. `make` waits for it.
const LIST: &str = "list";

/// Writes a Kbuild file that makes `make` wait for [`write`]. The wait ends with the folder, too.
pub fn begin(folder: &Path, name: &str) -> Result<()> {
    let wait = format!("while [ -d $(src) ] && ! [ -e $(src)/{LIST} ]; do sleep 0.02; done");
    // kbuild has such a rule for any file, but where modules are built in their own folder (6.13 and later) it turns
    // into one that `make` does not try for names that end as objects do.
    let copy = format!("$(obj)/{PARTS}/%.o: $(src)/{PARTS}/%.o_shipped\n\t$(Q)cat $< > $@\n");
    // Machine code as it goes into the link: the finished module is compared with it.
    let plain = format!("CFLAGS_REMOVE_{PARTS}/{GLUE}.o := $(CC_FLAGS_LTO)");
    let text = format!("wait := $(shell {wait})\nobj-m := {name}.o\n{plain}\ninclude $(src)/{LIST}\n{copy}");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    save(&folder.join("Kbuild"), text.as_bytes())
}

/// Writes the glue and the objects, and then the list of them in one step.
pub fn write(folder: &Path, request: &Request<'_>) -> Result<()> {
    let parts = folder.join(PARTS);
    fs::create_dir(&parts).with_context(|| format!("cannot make {}", parts.display()))?;
    let mut objects = vec![format!("{PARTS}/{GLUE}.o")];
    for (index, object) in request.patch.objects.iter().enumerate() {
        let stem = format!("unit{index}");
        save(&parts.join(format!("{stem}.o_shipped")), &object.bytes)?;
        // modpost reads the command of every object for the version of the source; there is none.
        save(&parts.join(format!(".{stem}.o.cmd")), b"")?;
        objects.push(format!("{PARTS}/{stem}.o"));
    }
    save(&parts.join(format!("{GLUE}.c")), source(request).as_bytes())?;
    let unfinished = folder.join("list.new");
    save(
        &unfinished,
        format!("{}-y := {}\n", request.name, objects.join(" ")).as_bytes(),
    )?;
    fs::rename(&unfinished, folder.join(LIST)).context("cannot name the list of objects")
}

/// The glue as it was compiled.
pub fn object(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(PARTS).join(format!("{GLUE}.o"));
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The name of a livepatch, from the name of its patch file: what the kernel accepts, with a prefix that tells what it is.
pub fn livepatch_name(patches: &[impl AsRef<Path>]) -> String {
    let stem = match patches {
        [one] => one.as_ref().file_stem().map(|stem| stem.to_string_lossy().into_owned()),
        _ => None,
    };
    let plain: String = format!("livepatch_{}", stem.as_deref().unwrap_or("patch"))
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    plain.chars().take(MAX_MODULE_NAME).collect()
}

/// A module name that the user chose, if the kernel accepts it.
pub fn checked_name(name: &str) -> Result<String> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !plain || name.is_empty() || name.len() > MAX_MODULE_NAME {
        return Err(Ending::usage(format!(
            "invalid module name `{name}`: use letters, digits, `_` and `-`, at most {MAX_MODULE_NAME}"
        )));
    }
    // The kernel shows `-` as `_`, and the module's own name must be what sysfs calls it.
    Ok(name.replace('-', "_"))
}

fn source(request: &Request<'_>) -> String {
    let mut by_object: BTreeMap<&ObjectName, Vec<&PatchedFunction>> = BTreeMap::new();
    for function in &request.patch.functions {
        by_object.entry(&function.object).or_default().push(function);
    }
    // The kernel calls the callbacks of each object that has a list of functions, be it empty
    // (kernel/livepatch/core.c, `klp_init_patch_early`, 5.10 to 7.3).
    for callback in &request.patch.callbacks {
        by_object.entry(&callback.object).or_default();
    }
    let headers = ["atomic", "kernel", "livepatch", "module", "moduleloader", "string"];
    let mut text: String = headers.map(|name| format!("#include <linux/{name}.h>\n")).concat();
    text.push('\n');
    for (index, function) in request.patch.functions.iter().enumerate() {
        // Declared as data: nothing calls these from C, and as functions they would need type hashes under kCFI.
        _ = writeln!(text, "extern char klp_new_{index}[] __asm__(\"{}\");", function.handle);
    }
    let called: BTreeSet<&str> = request
        .patch
        .callbacks
        .iter()
        .map(|callback| &*callback.handle)
        .filter(|handle| !is_setter(handle))
        .collect();
    for handle in called {
        _ = writeln!(text, "extern char {handle}[];");
    }
    setters(&mut text, request.patch);
    text.push_str(&identity::definition(request.patch, request.about));
    let (registered, _) = identity::callbacks(request.patch, request.about);
    let number = |function: &PatchedFunction| {
        request
            .patch
            .functions
            .iter()
            .position(|other| other.handle == function.handle)
            .unwrap_or_default()
    };
    for (index, functions) in by_object.values().enumerate() {
        _ = writeln!(text, "\nstatic struct klp_func klp_funcs_{index}[] = {{");
        for function in functions {
            _ = writeln!(
                text,
                "\t{{ .old_name = \"{}\", .old_sympos = {}, .new_func = klp_new_{} }},",
                function.name,
                function.sympos.0,
                number(function)
            );
        }
        text.push_str("\t{ }\n};\n");
    }
    text.push_str("\nstatic struct klp_object klp_objs[] = {\n");
    for (index, object) in by_object.keys().enumerate() {
        let name = if object.is_vmlinux() {
            "NULL".to_owned()
        } else {
            format!("\"{object}\"")
        };
        let mine = registered.iter().filter(|callback| callback.object == **object);
        let calls: String = mine
            .map(|callback| format!(", .callbacks.{} = (void *){}", callback.moment, callback.handle))
            .collect();
        _ = writeln!(text, "\t{{ .name = {name}, .funcs = klp_funcs_{index}{calls} }},");
    }
    // A reference that nobody gives back: rmmod fails from then on (kernel/module/main.c, `try_stop_module`).
    let keep = match request.patch.is_permanent() {
        true => "\tif (!error)\n\t\t__module_get(THIS_MODULE);\n",
        false => "",
    };
    text.push_str("\t{ }\n};\n");
    let states = states(&mut text, &request.patch.states);
    _ = write!(
        text,
        "\nstatic struct klp_patch klp_patch = {{\n\t.mod = THIS_MODULE,\n\t.objs = klp_objs,\n{states}\
         \t.replace = {},\n}};\n\n\
         static int __init klp_glue_init(void)\n{{\n\tint error;\n\n{}\terror = klp_enable_patch(&klp_patch);\n{}\treturn error;\n}}\n\n\
         static void __exit klp_glue_exit(void)\n{{\n}}\n\n\
         module_init(klp_glue_init);\nmodule_exit(klp_glue_exit);\n\
         MODULE_DESCRIPTION(\"Livepatch\");\nMODULE_LICENSE(\"GPL\");\nMODULE_INFO(livepatch, \"Y\");\n",
        request.replace,
        identity::at_load(request.patch),
        keep
    );
    text.push_str(&note::definition(request.about));
    text.push_str(&note::modinfo(request.about));
    for namespace in &request.patch.namespaces {
        // MODULE_IMPORT_NS() takes a bare word before 6.13 and a string from then on; what it makes is the same.
        _ = writeln!(text, "MODULE_INFO(import_ns, \"{namespace}\");");
    }
    text
}

/// The list of states, which ends where a number is 0; and what the livepatch says of it.
fn states(text: &mut String, states: &[State]) -> &'static str {
    if states.is_empty() {
        return "";
    }
    text.push_str("\nstatic struct klp_state klp_states[] = {\n");
    for state in states {
        _ = writeln!(text, "\t{{ .id = {}UL, .version = {}U }},", state.id, state.version);
    }
    text.push_str("\t{ }\n};\n");
    "\t.states = klp_states,\n"
}

/// Functions that set the variables, and put them back. Each number is exchanged only if the variable has what is expected:
/// what somebody else has written since stays.
fn setters(text: &mut String, patch: &Patch) {
    if patch.values.is_empty() {
        return;
    }
    for (index, value) in patch.values.iter().enumerate() {
        address(text, index, value);
    }
    let exchange = |object: &ObjectName, back: bool| {
        let line = |(index, value): (usize, &SetValue)| {
            let (from, to) = if back {
                (value.to, value.from)
            } else {
                (value.from, value.to)
            };
            let bits = bits(value);
            format!("\tcmpxchg(klp_address_{index}(), (u{bits}){from:#x}ULL, (u{bits}){to:#x}ULL);\n")
        };
        let own = patch
            .values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.object == *object);
        own.map(line).collect::<String>()
    };
    for setter in patch.callbacks.iter().filter(|callback| is_setter(&callback.handle)) {
        let back = setter.moment != Moment::PrePatch;
        let (result, end) = if back { ("void", "") } else { ("int", "\treturn 0;\n") };
        let (name, lines) = (&setter.handle, exchange(&setter.object, back));
        _ = write!(
            text,
            "\n{result} {name}(struct klp_object *obj);\n{result} {name}(struct klp_object *obj)\n{{\n{lines}{end}}}\n",
        );
    }
}

fn bits(value: &SetValue) -> u32 {
    u32::from(value.size) * 8
}

/// A function that tells the address of a variable. The loader of s390x fills the slot of an address only once
/// (arch/s390/kernel/module.c, `apply_rela`, 6.12), and a module may be loaded again elsewhere, so its variables are named by
/// their distance there; those of the image may be too far away for that.
fn address(text: &mut String, index: usize, value: &SetValue) {
    let (bits, symbol) = (bits(value), &value.symbol);
    _ = writeln!(text, "extern u{bits} klp_value_{index} __asm__(\"{symbol}\");");
    _ = writeln!(text, "static __always_inline u{bits} *klp_address_{index}(void)\n{{");
    if !value.object.is_vmlinux() {
        let load = format!("asm (\"larl %0,{symbol}\" : \"=a\" (at))");
        _ = writeln!(
            text,
            "#ifdef __s390__\n\tu{bits} *at;\n\n\t{load};\n\treturn at;\n#endif"
        );
    }
    _ = writeln!(text, "\treturn &klp_value_{index};\n}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_of_s390x_has_its_variables_named_by_their_distance() {
        let of = |object: ObjectName| {
            let mut text = String::new();
            let value = SetValue {
                name: "limit".into(),
                object,
                unit: "sit.o".into(),
                symbol: "klp_limit".into(),
                size: 4,
                from: 1,
                to: 2,
            };
            address(&mut text, 3, &value);
            text
        };
        let distance = |text: &str| text.contains("larl %0,klp_limit");
        assert!(distance(&of(ObjectName::module("sit"))) && !distance(&of(ObjectName::vmlinux())));
    }

    #[test]
    fn module_names_are_what_the_kernel_accepts() {
        assert_eq!(livepatch_name(&[Path::new("a/fix-cve.2.patch")]), "livepatch_fix_cve_2");
        assert_eq!(
            livepatch_name(&[Path::new("a.patch"), Path::new("b.patch")]),
            "livepatch_patch"
        );
        assert_eq!(livepatch_name(&[Path::new(&"x".repeat(90))]).len(), MAX_MODULE_NAME);
    }
}
