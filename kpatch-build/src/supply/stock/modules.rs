//! The modules that a distribution ships: plain or compressed files below `lib/modules/RELEASE`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::supply::store::files_below;

/// Endings of the files; the kernel's own order (scripts/Makefile.modinst).
const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// No module is larger when it is unpacked.
const LARGEST: u64 = 256 << 20;
/// Memory that unpacking may take, in KiB.
const DICTIONARY_KIB: u32 = 64 << 10;

/// The name that the running kernel has for a module, from its file; `None` if this is no module.
pub fn name_of(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    Some(stem.replace('-', "_"))
}

/// The files of all modules by name.
pub fn files(modules: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let is_module = |name: &str| ENDINGS.iter().any(|ending| name.ends_with(ending));
    let found = files_below(modules, &is_module).with_context(|| format!("cannot read {}", modules.display()))?;
    Ok(found
        .into_iter()
        .filter_map(|file| Some((name_of(&file)?, file)))
        .collect())
}

/// Names of what could be modules and is part of the image.
pub fn built_in(modules: &Path) -> Result<BTreeSet<String>> {
    let path = modules.join("modules.builtin");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| name_of(Path::new(line))).collect())
}

/// The contents of a module's file.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.to_string_lossy();
    let input = bytes.as_slice();
    let mut contents = Vec::new();
    let unpacked: Result<()> = if name.ends_with(".xz") {
        unpack(
            lzma_rust2::XzReader::new_mem_limit(input, true, DICTIONARY_KIB),
            &mut contents,
        )
    } else if name.ends_with(".zst") {
        let decoder = ruzstd::decoding::StreamingDecoder::new(input);
        decoder
            .map_err(|error| anyhow::anyhow!("{error}"))
            .and_then(|decoder| unpack(decoder, &mut contents))
    } else if name.ends_with(".gz") {
        unpack(flate2::read::MultiGzDecoder::new(input), &mut contents)
    } else {
        return Ok(bytes);
    };
    unpacked.with_context(|| format!("cannot unpack {}", file.display()))?;
    Ok(contents)
}

fn unpack(from: impl Read, into: &mut Vec<u8>) -> Result<()> {
    from.take(LARGEST + 1).read_to_end(into)?;
    ensure!(into.len() as u64 <= LARGEST, "larger than any module");
    Ok(())
}

/// The modules that a module needs loaded before it, by its `.modinfo`.
pub fn depends(module: &[u8]) -> Vec<String> {
    let modinfo = kpatch_core::klp::Modinfo::read(module);
    let names = modinfo.value("depends").unwrap_or_default().split(',');
    names
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a module of a test` by `xz`, `zstd` and `gzip`.
    const XZ: &str = "fd377a585a0000016922de360200210116000000742fe5a301001161206d6f64756c65206f66206120746573740000001e9101b70\
        00126124747e1109042990d010000000001595a";
    const ZSTD: &str = "28b52ffd241291000061206d6f64756c65206f662061207465737465bc9fb6";
    const GZIP: &str = "1f8b08000000000000034b54c8cd4f29cd4955c84f53485428492d2e01001e9101b712000000";

    #[test]
    fn names_are_those_of_the_running_kernel() {
        assert_eq!(name_of(Path::new("/x/snd-hda.ko.xz")).as_deref(), Some("snd_hda"));
        assert_eq!(name_of(Path::new("overlay.ko")).as_deref(), Some("overlay"));
        assert_eq!(name_of(Path::new("modules.dep")), None);
    }

    #[test]
    fn modules_are_found_and_read_whichever_way_they_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("kernel/net");
        fs::create_dir_all(&deep).unwrap();
        let bytes = |hex: &str| -> Vec<u8> {
            let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(digit).collect()
        };
        fs::write(deep.join("a.ko"), "a module of a test").unwrap();
        for (name, hex) in [("b-x.ko.xz", XZ), ("c.ko.zst", ZSTD), ("d.ko.gz", GZIP)] {
            fs::write(deep.join(name), bytes(hex)).unwrap();
        }
        fs::write(folder.path().join("modules.builtin"), "kernel/fs/ext-4.ko\n").unwrap();
        let found = files(folder.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b_x", "c", "d"]);
        assert!(found.values().all(|file| read(file).unwrap() == b"a module of a test"));
        assert!(built_in(folder.path()).unwrap().contains("ext_4"));
        let mut damaged = bytes(XZ);
        damaged[30] ^= 1;
        fs::write(deep.join("b-x.ko.xz"), damaged).unwrap();
        assert!(read(&found["b_x"]).unwrap_err().to_string().contains("b-x.ko.xz"));
    }
}
