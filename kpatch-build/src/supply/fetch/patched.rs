//! Makes the source of a configuration that is a version with patches: how a kernel of another series behaves can be
//! seen in one whose sources, tools and guest are at hand.

use anyhow::{Context, Result};
use xshell::cmd;

use super::local::of_directory;
use super::{SPACE_FOR_A_SOURCE, unpack};
use crate::sh;
use crate::supply::store::{Origin, Store, StoredSource, hash_file, require_space};
use crate::ui::{Phase, Ui, waiting};

/// A source with patches, each with its name. It is kept in the store like one that was fetched.
pub fn patched(store: &Store, base: StoredSource, patches: &[(String, String)], ui: &Ui) -> Result<StoredSource> {
    if patches.is_empty() {
        return Ok(base);
    }
    let names: Vec<_> = patches.iter().map(|(name, _)| name.as_str()).collect();
    let title = format!("patch Linux {} with {}", base.origin.version, names.join(", "));
    ui.phase(&title, |phase| {
        let wait = |holder: &str, so_far| phase.line(&waiting(holder, so_far));
        let _guard = store.fetch_lock(&format!("{}-patched", base.origin.version), &wait)?;
        make(store, &base, patches, phase)
    })
}

fn make(store: &Store, base: &StoredSource, patches: &[(String, String)], phase: &Phase) -> Result<StoredSource> {
    let slot = store.new_source()?;
    let (scratch, tree) = (slot.scratch()?, slot.tree());
    let (mut from, mut files) = (format!("{} ({})", base.origin.from, &base.sha256[..12]), Vec::new());
    for (number, (name, text)) in patches.iter().enumerate() {
        let file = scratch.join(number.to_string());
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        from += &format!(" with {name} ({})", &hash_file(&file)?[..12]);
        files.push((name, file));
    }
    let known = store.sources()?.into_iter().find(|(_, origin)| origin.from == from);
    if let Some((sha256, _)) = known
        && let Some(found) = store.source(&sha256, &|_, _| {})?
    {
        return Ok(found);
    }
    require_space(store.root(), SPACE_FOR_A_SOURCE, "a kernel source tree")?;
    phase.message("unpacking");
    std::fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
    unpack(&base.tree.with_file_name("archive.tar.xz"), &tree)?;
    let shell = sh::shell()?;
    for (name, file) in files {
        let apply = cmd!(
            shell,
            "patch --strip=1 --batch --fuzz=0 --no-backup-if-mismatch --directory={tree} --input={file}"
        );
        sh::output(&mut sh::prepare(apply)).with_context(|| format!("{name} does not fit this source"))?;
    }
    phase.message("packing");
    of_directory(&tree, &slot)?;
    let version = base.origin.version.clone();
    store.add_source(slot, &Origin { version, from }, &|_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "About it.\n\n--- a/init/main.c\n+++ b/init/main.c\n@@ -1 +1 @@\n-int main;\n+int other;\n";

    fn base(store: &Store) -> StoredSource {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("linux");
        std::fs::create_dir_all(tree.join("init")).unwrap();
        std::fs::write(tree.join("init/main.c"), "int main;\n").unwrap();
        let slot = store.new_source().unwrap();
        of_directory(&tree, &slot).unwrap();
        std::fs::create_dir_all(slot.tree()).unwrap();
        unpack(&slot.archive(), &slot.tree()).unwrap();
        let (version, from) = ("6.12.1".to_owned(), "test".to_owned());
        store.add_source(slot, &Origin { version, from }, &|_, _| {}).unwrap()
    }

    #[test]
    fn a_source_is_patched_once_and_one_that_does_not_fit_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let ui = Ui::new(true, false);
        let with = |text: &str| patched(&store, base(&store), &[("one.patch".to_owned(), text.to_owned())], &ui);
        let (first, second) = (with(PATCH).unwrap(), with(PATCH).unwrap());
        let text = std::fs::read_to_string(first.tree.join("init/main.c")).unwrap();
        assert_eq!((text.as_str(), &first.sha256), ("int other;\n", &second.sha256));
        assert!(first.origin.from.starts_with("test (") && first.origin.from.contains("with one.patch ("));
        assert_eq!(store.sources().unwrap().len(), 2);
        let error = with(&PATCH.replace("int main", "int none")).unwrap_err();
        assert!(format!("{error:#}").contains("one.patch does not fit"), "{error:#}");
        assert_eq!(patched(&store, base(&store), &[], &ui).unwrap().origin.from, "test");
    }
}
