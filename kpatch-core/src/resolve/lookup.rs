//! The names by which livepatch looks symbols of the image up, where kallsyms compares less than a whole name.
//!
//! kernel/kallsyms.c, `cleanup_symbol_name` (6.2 to 6.10, only with LTO): the suffix of a promoted static is cut off
//! before names are compared, and scripts/kallsyms.c sorts by what is left, then by address. So livepatch finds a symbol
//! by its cut name only, and counts everything that has the same one. Modules are searched by whole names.

use std::collections::HashMap;

use super::image::{Image, ImageId, SymPos};

/// How much of a symbol's name kallsyms compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lookup {
    /// All of it.
    #[default]
    Whole,
    /// What is in front of `.llvm.` (6.6 to 6.10).
    BeforePromotion,
    /// What is in front of the first dot (6.2 to 6.5).
    BeforeDot,
}

impl Lookup {
    fn cut(self, name: &str) -> &str {
        let kept = match self {
            Lookup::Whole => None,
            Lookup::BeforePromotion => name.split_once(".llvm."),
            Lookup::BeforeDot => name.split_once('.'),
        };
        kept.map_or(name, |(before, _)| before)
    }
}

impl<'d> Image<'d> {
    /// Makes livepatch's look-ups those of a kernel that compares names so.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        if !self.name.is_vmlinux() || lookup == Lookup::Whole {
            return self;
        }
        let mut cut: HashMap<&'d str, Vec<ImageId>> = HashMap::new();
        for (name, ids) in &self.by_name {
            cut.entry(lookup.cut(name)).or_default().extend(ids);
        }
        for ids in cut.values_mut() {
            self.in_order(ids);
        }
        self.by_cut_name = Some((lookup, cut));
        self
    }

    /// The name by which livepatch finds a symbol.
    pub fn lookup_name(&self, id: ImageId) -> &'d str {
        let name = self.symbol(id).name;
        self.by_cut_name.as_ref().map_or(name, |(lookup, _)| lookup.cut(name))
    }

    /// All that livepatch finds by a name, in the order in which it counts.
    pub fn found(&self, name: &str) -> &[ImageId] {
        match &self.by_cut_name {
            Some((_, cut)) => cut.get(name).map_or(&[], Vec::as_slice),
            None => self.named(name),
        }
    }

    /// The `pos`-th symbol of a name as livepatch finds it, 0 meaning the only one.
    pub fn find(&self, name: &str, pos: SymPos) -> Option<ImageId> {
        let all = self.found(name);
        match pos.0 {
            0 => (all.len() == 1).then(|| all[0]),
            n => all.get(n as usize - 1).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::ObjectName;

    const LISTING: &str = "\
   1: 0000000000003000    16 FUNC    LOCAL  DEFAULT    1 show.llvm.5
   2: 0000000000001000    16 FUNC    LOCAL  DEFAULT    1 show.llvm.40
   3: 0000000000002000    16 FUNC    LOCAL  DEFAULT    1 show
   4: 0000000000000800    16 OBJECT  LOCAL  DEFAULT    2 show.count
   5: 0000000000004000    16 FUNC    LOCAL  DEFAULT    1 alone.llvm.5
";

    fn seen(image: &Image<'_>, name: &str) -> (String, Option<u32>) {
        let id = image.named(name)[0];
        let (looked_up, pos) = (image.lookup_name(id), image.sympos(id).unwrap());
        assert_eq!(image.find(looked_up, pos), Some(id), "{name}");
        (looked_up.to_owned(), Some(pos.0))
    }

    #[test]
    fn names_are_cut_and_counted_by_address_among_all_that_are_equal_then() {
        let of = |lookup| {
            let image = Image::from_listing(ObjectName::vmlinux(), LISTING).unwrap();
            let image = image.with_lookup(lookup);
            let names = ["show.count", "show.llvm.40", "show", "show.llvm.5", "alone.llvm.5"];
            names.map(|name| {
                let (name, pos) = seen(&image, name);
                format!("{name},{}", pos.unwrap())
            })
        };
        assert_eq!(
            of(Lookup::Whole),
            [
                "show.count,0",
                "show.llvm.40,0",
                "show,0",
                "show.llvm.5,0",
                "alone.llvm.5,0"
            ]
        );
        assert_eq!(
            of(Lookup::BeforePromotion),
            ["show.count,0", "show,1", "show,2", "show,3", "alone,0"]
        );
        assert_eq!(
            of(Lookup::BeforeDot),
            ["show,1", "show,2", "show,3", "show,4", "alone,0"]
        );
    }

    #[test]
    fn a_whole_name_is_not_found_where_names_are_cut_and_modules_are_searched_by_whole_ones() {
        let image = |name| {
            Image::from_listing(name, LISTING)
                .unwrap()
                .with_lookup(Lookup::BeforePromotion)
        };
        let vmlinux = image(ObjectName::vmlinux());
        assert_eq!(vmlinux.find("alone.llvm.5", SymPos(0)), None);
        assert_eq!((vmlinux.found("show").len(), vmlinux.count("show")), (3, 1));
        let module = image(ObjectName::module("ext4"));
        assert!(module.find("alone.llvm.5", SymPos(0)).is_some() && module.find("show", SymPos(0)).is_some());
    }
}
