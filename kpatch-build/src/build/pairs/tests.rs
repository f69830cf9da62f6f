//! Order, homes and endings of pairs, with a way of compiling that is made up.

use std::sync::Mutex;

use super::*;
use crate::build::applied::Applied;
use crate::build::kbuild::Other;
use crate::build::kbuild::fake::Fake;
use crate::build::recompile::affected::Affected;
use crate::build::way::{Compiled, Units};

/// A way that has been everywhere already: what it finds in each home.
#[derive(Default)]
struct Known {
    units: BTreeMap<Home, Vec<Unit>>,
    /// Homes that only their order was asked for.
    asked: Mutex<Vec<Home>>,
}

impl Way for Known {
    fn compile<'c>(&'c self, _: &'c Applied, _: &Affected) -> Result<Compiled<'c>> {
        anyhow::bail!("everything is compiled")
    }

    fn units(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Units> {
        Ok(Units {
            units: self.units.get(home).cloned().unwrap_or_default(),
            order: order(home),
            notes: vec![format!("{} changed in {home:?}", changed.len())],
            timings: Timings::default(),
        })
    }

    fn order(&self, home: &Home, _: &[&ChangedTu]) -> Result<Order> {
        self.asked.lock().unwrap().push(home.clone());
        Ok(order(home))
    }
}

fn order(home: &Home) -> Order {
    vec![(format!("{home:?}"), "first.c".to_owned())]
}

fn ext4() -> Home {
    Home::Module("fs/ext4/ext4.o".to_owned())
}

fn unit(name: &str) -> Unit {
    Unit {
        unit: name.to_owned(),
        orig: Some("orig".into()),
        patched: "patched".into(),
        shipped: None,
        imports_changed: Vec::new(),
        rerun: None,
    }
}

fn changed(fake: &Fake, object: &str, homes: &[Home]) -> ChangedTu {
    let source = object.replace(".o", ".c");
    ChangedTu {
        object: object.to_owned(),
        source: fake.kbuild.trees.source.join(&source).display().to_string(),
        homes: homes.to_vec(),
        orig: Some("orig.o".into()),
        patched: "patched.o".into(),
        via: vec![source],
        after: None,
    }
}

fn pairs(fake: &Fake, way: &Known, changed: &[ChangedTu]) -> Result<Pairs> {
    let (vmlinux, work) = (fake.kbuild.trees.build.join("vmlinux"), fake.work());
    let site = Site::new(&fake.kbuild, &vmlinux, &work, &work.join("cache"), &())?;
    Pairs::of(&site, way, changed, vec!["said before".to_owned()])
}

#[test]
fn the_image_comes_first_and_a_file_of_several_modules_is_in_each() {
    let fake = Fake::of(b"BC\xc0\xde");
    let snd = Home::Module("sound/snd-a.o".to_owned());
    let way = Known {
        units: BTreeMap::from([
            (Home::Vmlinux, vec![unit("fs/open.o"), unit("init/main.o")]),
            (ext4(), vec![unit("fs/ext4/super.o")]),
            (snd.clone(), vec![unit("fs/ext4/super.o")]),
        ]),
        ..Known::default()
    };
    let both = changed(&fake, "fs/ext4/super.o", &[snd, ext4()]);
    let found = pairs(&fake, &way, &[both, changed(&fake, "fs/open.o", &[Home::Vmlinux])]).unwrap();
    let name = |parent: &Parent| match parent {
        Parent::Vmlinux => "vmlinux".to_owned(),
        Parent::Module { name, .. } => name.clone(),
    };
    let listed = |pair: &UnitPair| format!("{}:{}", name(&pair.parent), pair.unit);
    assert_eq!(
        found.pairs.iter().map(listed).collect::<Vec<_>>(),
        [
            "vmlinux:fs/open.o",
            "vmlinux:init/main.o",
            "ext4:fs/ext4/super.o",
            "snd_a:fs/ext4/super.o"
        ]
    );
    let orders: Vec<_> = found.orders.iter().map(|order| name(&order.parent)).collect();
    assert_eq!(orders, ["vmlinux", "ext4", "snd_a"]);
    assert!(way.asked.lock().unwrap().is_empty(), "the units brought the order");
}

#[test]
fn a_module_brings_the_order_of_the_image_along() {
    let fake = Fake::of(b"BC\xc0\xde");
    let way = Known {
        units: BTreeMap::from([(ext4(), vec![unit("fs/ext4/super.o")])]),
        ..Known::default()
    };
    let found = pairs(&fake, &way, &[changed(&fake, "fs/ext4/super.o", &[ext4()])]).unwrap();
    assert_eq!(*way.asked.lock().unwrap(), [Home::Vmlinux]);
    let orders: Vec<_> = found.orders.iter().map(|order| order.units.clone()).collect();
    assert_eq!(orders, [order(&ext4()), order(&Home::Vmlinux)]);
    assert_eq!(
        found.pairs[0].parent,
        Parent::Module {
            name: "ext4".into(),
            ko: fake.kbuild.trees.build.join("fs/ext4/ext4.ko"),
        }
    );
}

#[test]
fn each_unit_says_why_it_is_there() {
    let fake = Fake::of(b"BC\xc0\xde");
    let header = ChangedTu {
        via: vec!["include/linux/fs.h".into()],
        ..changed(&fake, "init/main.o", &[Home::Vmlinux])
    };
    let added = ChangedTu {
        orig: None,
        after: Some("fs/open.o".into()),
        ..changed(&fake, "fs/added.o", &[Home::Vmlinux])
    };
    let importer = Unit {
        imports_changed: vec!["fs/open.o".into()],
        ..unit("lib/string.o")
    };
    // A member of a library that only the patched side needs.
    let pulled = Unit {
        orig: None,
        ..unit("lib/pulled.o")
    };
    let units = vec![
        unit("init/main.o"),
        unit("fs/open.o"),
        Unit {
            orig: None,
            ..unit("fs/added.o")
        },
        importer,
        pulled,
    ];
    let way = Known {
        units: BTreeMap::from([(Home::Vmlinux, units)]),
        ..Known::default()
    };
    let all = [header, changed(&fake, "fs/open.o", &[Home::Vmlinux]), added];
    let found = pairs(&fake, &way, &all).unwrap();
    let causes: Vec<_> = found.pairs.iter().map(|pair| pair.cause.clone()).collect();
    assert_eq!(
        causes,
        [
            Cause::Includes("include/linux/fs.h".into()),
            Cause::Edited,
            Cause::New,
            Cause::Importer {
                of: vec!["fs/open.o".into()]
            },
            Cause::New,
        ]
    );
    let sources: Vec<_> = found.pairs.iter().map(|pair| pair.source.as_str()).collect();
    assert_eq!(sources, ["init/main.c", "fs/open.c", "fs/added.c", "lib/string.c", ""]);
}

#[test]
fn no_change_says_everything_that_was_found_out() {
    let fake = Fake::of(b"BC\xc0\xde");
    let text = |result: Result<Pairs>| match result.unwrap_err().downcast::<Ending>().unwrap() {
        Ending::NoChange(text) => text,
        other => panic!("{other}"),
    };
    assert_eq!(
        text(pairs(&fake, &Known::default(), &[])),
        "no file of this kernel compiles to different code\n  said before"
    );
    let changed = [changed(&fake, "fs/open.o", &[Home::Vmlinux])];
    assert_eq!(
        text(pairs(&fake, &Known::default(), &changed)),
        "the machine code is the same\n  said before\n  1 changed in Vmlinux"
    );
}

#[test]
fn nothing_outside_of_image_and_modules_is_a_pair() {
    let fake = Fake::of(b"BC\xc0\xde");
    let changed = [changed(&fake, "fs/open.o", &[Home::Other(Other::Vdso)])];
    let error = pairs(&fake, &Known::default(), &changed).unwrap_err();
    assert!(error.to_string().contains("Vdso is linked into neither"), "{error}");
}
