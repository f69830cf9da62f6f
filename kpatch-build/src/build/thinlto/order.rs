//! The order of the file symbols in an image that was linked with link time optimisation: see
//! [`crate::build::pairs::LinkOrder`].

use std::collections::BTreeSet;
use std::fs;

use object::{Object, ObjectSymbol};

use crate::build::kbuild::{Kbuild, Kind, ThinLink};
use crate::build::pairs;
use crate::build::recompile::ChangedTu;
use crate::build::way::Order;

/// Units with the names of their files: what was native before the link, then what the link generates, which is `order`. A
/// link in two halves has only native objects in its second one, and takes them in the order of its inputs.
pub fn file_names(kbuild: &Kbuild, link: &ThinLink, order: &[String], changed: &[&ChangedTu]) -> Order {
    let file_name = |unit: &str| {
        let source = pairs::source(kbuild, unit, changed);
        let name = source.rsplit('/').next().unwrap_or(&source).to_owned();
        (unit.to_owned(), name)
    };
    // A link in one step generates behind everything else.
    let in_place: BTreeSet<&String> = order.iter().filter(|_| link.distributed).collect();
    let whole = link.inputs.iter().filter(|input| input.lazy.is_none());
    let inputs = whole.filter_map(|input| match kbuild.tus.get(&input.path) {
        Some(tu) => (tu.kind == Kind::NativeC || in_place.contains(&input.path)).then(|| file_name(&input.path)),
        None => Some((input.path.clone(), own_file_name(kbuild, &input.path)?)),
    });
    let mut names: Order = inputs.collect();
    let placed: BTreeSet<String> = names.iter().map(|(unit, _)| unit.clone()).collect();
    names.extend(
        order
            .iter()
            .filter(|unit| !placed.contains(*unit))
            .map(|unit| file_name(unit)),
    );
    names
}

/// The `STT_FILE` symbol of an object that no compiler wrote: objcopy puts a prefix before all names of the objects
/// in arch/x86/boot/startup (Linux 6.17 and later), that of the file among them.
fn own_file_name(kbuild: &Kbuild, unit: &str) -> Option<String> {
    let bytes = fs::read(kbuild.trees.object(unit)).ok()?;
    let object = object::File::parse(bytes.as_slice()).ok()?;
    let mut files = object
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::File);
    files.next()?.name().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use kpatch_core::elf::{File, Place, Symbol};
    use object::elf;

    use super::*;
    use crate::build::kbuild::fake::{Fake, put};
    use crate::build::kbuild::{Home, Input};

    fn link(fake: &Fake) -> ThinLink {
        fake.kbuild.members.vmlinux.clone()
    }

    fn order(fake: &Fake, link: &ThinLink, generated: &[&str], changed: &[&ChangedTu]) -> Vec<String> {
        let generated: Vec<String> = generated.iter().map(|unit| (*unit).to_owned()).collect();
        let names = file_names(&fake.kbuild, link, &generated, changed).into_iter();
        names.map(|(unit, name)| format!("{unit}={name}")).collect()
    }

    #[test]
    fn native_code_comes_before_what_the_link_generates() {
        let mut fake = Fake::of(b"BC\xc0\xde");
        fake.kbuild.tus.get_mut("fs/open.o").unwrap().kind = Kind::NativeC;
        // A native member of a library is linked if something uses it, which nobody knows here.
        fake.kbuild.tus.get_mut("lib/string.o").unwrap().kind = Kind::NativeC;
        assert_eq!(
            order(&fake, &link(&fake), &["init/main.o"], &[]),
            ["fs/open.o=open.c", "init/main.o=main.c"]
        );
    }

    #[test]
    fn a_link_in_two_halves_keeps_the_order_of_its_inputs() {
        let mut fake = Fake::of(b"BC\xc0\xde");
        fake.kbuild.tus.get_mut("fs/open.o").unwrap().kind = Kind::NativeC;
        let link = ThinLink {
            distributed: true,
            ..link(&fake)
        };
        assert_eq!(
            order(&fake, &link, &["init/main.o", "lib/string.o"], &[]),
            ["init/main.o=main.c", "fs/open.o=open.c", "lib/string.o=string.c"]
        );
    }

    #[test]
    fn an_added_file_has_the_name_of_its_source() {
        let fake = Fake::of(b"BC\xc0\xde");
        let added = ChangedTu {
            object: "fs/added.o".into(),
            source: fake.kbuild.trees.source.join("fs/other.c").display().to_string(),
            homes: vec![Home::Vmlinux],
            orig: None,
            patched: "patched.o".into(),
            via: Vec::new(),
            after: Some("fs/open.o".into()),
        };
        assert_eq!(
            order(&fake, &link(&fake), &["fs/open.o", "fs/added.o"], &[&added]),
            ["fs/open.o=open.c", "fs/added.o=other.c"]
        );
    }

    #[test]
    fn an_object_that_no_compiler_wrote_says_its_name_itself() {
        let fake = Fake::of(b"BC\xc0\xde");
        let mut link = link(&fake);
        for path in ["arch/pi-gdt.o", "arch/bare.o"] {
            link.inputs.push(Input {
                path: path.into(),
                lazy: None,
            });
        }
        let named = File {
            e_machine: elf::EM_X86_64.0,
            symbols: vec![Symbol::new(
                "__pi_gdt.c",
                Place::Reserved(elf::SHN_ABS.0),
                elf::STB_LOCAL.0,
                elf::STT_FILE.0,
            )],
            ..File::default()
        };
        put(&fake.kbuild.trees.build, "arch/pi-gdt.o", &named.write());
        let bare = File {
            symbols: Vec::new(),
            ..named
        };
        put(&fake.kbuild.trees.build, "arch/bare.o", &bare.write());
        assert_eq!(order(&fake, &link, &[], &[]), ["arch/pi-gdt.o=__pi_gdt.c"]);
    }
}
