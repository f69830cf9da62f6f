//! Object pairs with the outcome that kpatch's own program has for them, where a folder of such pairs is at hand:
//! `KPATCH_PEER_OBJECTS` names it. It holds `expectations.yaml` and `<arch>/<case>.{orig,patched}.o`.
//!
//! The other program is no golden truth. Where this one disagrees with reason, the case stands in [`REASONS`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kpatch_core::intermediate::{Created, StructSizes, create};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Input, ObjectName, Stop};

/// Cases with another outcome, and why that is right.
const REASONS: &[(&str, &str)] = &[];

/// Cases whose environment in the list is that of another kernel; the other program cuts their tables in wrong places.
const WRONG_SIZES: &[&str] = &[
    "x86_64/printk-index-1-issue-1206",
    "x86_64/printk-index-2-issue-1206",
    "ppc64le/ASSERT_RTNL-detect",
    "ppc64le/dynamic-debug-jump-label-issue-1253",
    "ppc64le/rela-common-symbols",
];

/// What the other program made of a case.
#[derive(Debug, Default)]
struct Case {
    name: String,
    expect: String,
    sizes: StructSizes,
    functions: BTreeSet<String>,
}

/// The few lines of the file that matter here; its form is fixed.
fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- case: ") {
            cases.push(Case {
                name: name.to_owned(),
                ..Case::default()
            });
        } else if let Some(case) = cases.last_mut() {
            if let Some(expect) = line.strip_prefix("expect: ") {
                case.expect = expect.to_owned();
            } else if let Some(list) = line.strip_prefix("env: {") {
                let pairs = list.trim_end_matches('}').split(", ");
                let pairs = pairs.map(|pair| pair.split_once(": ").expect("a name and a size"));
                let pairs: BTreeMap<&str, &str> = pairs.collect();
                let sizes = StructSizes::parse(|name| pairs.get(name).map(|size| (*size).to_owned()));
                case.sizes = sizes.expect("sizes");
            } else if let Some(list) = line.strip_prefix("functions: [") {
                let names = list.trim_end_matches(']').split(", ");
                case.functions = names.map(|name| name.trim_matches('"').to_owned()).collect();
            }
        }
    }
    cases
}

fn diff(folder: &Path, case: &Case, sizes: &StructSizes) -> Result<Created, Stop> {
    let read = |side: &str| {
        let path = folder.join(format!("{}.{side}.o", case.name));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (orig, patched) = (read("orig"), read("patched"));
    let vmlinux = ObjectName::vmlinux();
    let image = Image::from_symbols(vmlinux.clone(), &orig)?;
    let mut target = Target::partial(vmlinux.clone(), image, Exports::default());
    let input = Input {
        name: format!("{}.o", case.name),
        parent: vmlinux,
        orig: Some(&orig),
        shipped: None,
        patched: &patched,
    };
    create(&input, &mut target, sizes, &[])
}

/// The functions that the object has code of.
fn functions(created: &Created) -> BTreeSet<String> {
    let file = kpatch_core::elf::read(&created.bytes).expect("our own file");
    let symbols = file
        .symbols
        .iter()
        .filter(|symbol| symbol.st_info & 0xf == object::elf::STT_FUNC.0);
    let defined = symbols.filter(|symbol| matches!(symbol.place, kpatch_core::elf::Place::Section(_)));
    let shown = defined.filter(|symbol| !symbol.name.starts_with("__pfx_"));
    shown.map(|symbol| symbol.name.clone()).collect()
}

fn judge(folder: &Path, case: &Case) -> Result<(), String> {
    let result = diff(folder, case, &case.sizes);
    let noticed = match &result {
        Ok(created) => !created.contradicted.is_empty(),
        Err(_) => false,
    };
    if noticed != WRONG_SIZES.contains(&case.name.as_str()) {
        return Err(format!("{}: contradicted sizes: {noticed}", case.name));
    }
    let (outcome, found) = match result {
        Ok(created) => ("patch", functions(&created)),
        Err(Stop::NoChange(_) | Stop::BootOnly(_)) => ("no-change", BTreeSet::new()),
        Err(Stop::Refused(_)) => ("refused", BTreeSet::new()),
        Err(stop @ Stop::Failed(_)) => return Err(format!("{}: {stop}", case.name)),
    };
    let same = outcome == case.expect && found == case.functions;
    let reason = REASONS.iter().any(|(name, _)| *name == case.name);
    match (same, reason) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err(format!("{}: agrees, although there is a reason why not", case.name)),
        (false, false) => Err(format!(
            "{}: {outcome} {found:?} instead of {} {:?}",
            case.name, case.expect, case.functions
        )),
    }
}

#[test]
fn all_pairs_agree_or_have_a_reason() {
    let Some(folder) = std::env::var_os("KPATCH_PEER_OBJECTS").map(PathBuf::from) else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("expectations.yaml")).expect("the folder has a list");
    let cases = cases(&text);
    assert!(!cases.is_empty(), "the list names no case");
    let wrong: Vec<String> = cases.iter().filter_map(|case| judge(&folder, case).err()).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
}
