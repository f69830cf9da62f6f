//! Kernels whose structures were shuffled when they were built (CONFIG_RANDSTRUCT).
//!
//! The order of members follows from a seed that the build folder has, so compiling again gives the same order. Whether it
//! is the right seed is not left to the comparison of objects: an original that uses no shuffled structure comes out the
//! same with any seed, and its patched version may use one.

use std::fs;
use std::path::Path;

use kpatch_core::{Refusal, Subject};
use memchr::memmem;
use sha2::{Digest as _, Sha256};

use super::facts::Config;

use kpatch_core::codes::environment::RANDSTRUCT;

/// What the compiler, or what makes its plugin, reads (scripts/basic/Makefile, 5.19 and later).
const SEED: &str = "scripts/basic/randstruct.seed";
/// Has the SHA-256 of the seed, which is part of the version magic of each module (scripts/gen-randstruct-seed.sh,
/// include/linux/vermagic.h).
const HASH: &str = "include/generated/randstruct_hash.h";
/// With GCC: has the seed compiled in (scripts/gcc-plugins/Makefile).
const PLUGIN: &str = "scripts/gcc-plugins/randomize_layout_plugin.so";

/// Why the order of members cannot be had again, if it was shuffled.
pub fn objection(config: &Config, build: &Path) -> Option<Refusal> {
    let plugin = config.is_on("GCC_PLUGIN_RANDSTRUCT");
    if !plugin && !config.is_on("RANDSTRUCT") {
        return None;
    }
    let (file, what) = missing(build, plugin)?;
    let why = format!("the members of structures were shuffled, and {what}");
    let hint = "use the build folder as the build left it: its seed gives the same order again";
    Some(Refusal::new(RANDSTRUCT, Subject::file(file), why).hint(hint))
}

fn missing(build: &Path, plugin: bool) -> Option<(&'static str, &'static str)> {
    let Ok(seed) = fs::read_to_string(build.join(SEED)) else {
        return Some((SEED, "the seed is not there"));
    };
    let seed = seed.trim();
    let hash: String = Sha256::digest(seed).iter().map(|byte| format!("{byte:02x}")).collect();
    if !fs::read_to_string(build.join(HASH)).is_ok_and(|text| text.contains(&format!("\"{hash}\""))) {
        return Some((HASH, "this seed is not the one of the kernel's version magic"));
    }
    let has_seed = |bytes: Vec<u8>| !seed.is_empty() && memmem::find(&bytes, seed.as_bytes()).is_some();
    if plugin && !fs::read(build.join(PLUGIN)).is_ok_and(has_seed) {
        return Some((PLUGIN, "the compiler's plugin with this seed is not there"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLANG: &str = "CONFIG_RANDSTRUCT=y\n";
    const GCC: &str = "CONFIG_RANDSTRUCT=y\nCONFIG_GCC_PLUGIN_RANDSTRUCT=y\n";

    fn put(build: &Path, file: &str, text: &str) {
        let path = build.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn refused(config: &str, build: &Path) -> Option<String> {
        let refusal = objection(&Config::parse(config), build)?;
        assert_eq!(refusal.code, RANDSTRUCT);
        refusal.at.file
    }

    #[test]
    fn the_seed_must_be_that_of_the_version_magic() {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path();
        assert_eq!(refused("", build), None);
        assert_eq!(refused(CLANG, build).as_deref(), Some(SEED));
        put(build, SEED, "abc\n");
        assert_eq!(refused(CLANG, build).as_deref(), Some(HASH), "no hash");
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        put(build, HASH, &format!("#define RANDSTRUCT_HASHED_SEED \"{hash}\"\n"));
        assert_eq!(refused(CLANG, build), None);
        put(build, SEED, "abd\n");
        assert_eq!(refused(CLANG, build).as_deref(), Some(HASH), "another seed");
    }

    #[test]
    fn a_plugin_must_have_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path();
        put(build, SEED, "abc\n");
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        put(build, HASH, &format!("#define RANDSTRUCT_HASHED_SEED \"{hash}\"\n"));
        assert_eq!(refused(GCC, build).as_deref(), Some(PLUGIN), "no plugin");
        put(build, PLUGIN, "\u{7f}ELF another seed");
        assert_eq!(
            refused(GCC, build).as_deref(),
            Some(PLUGIN),
            "a plugin with another seed"
        );
        put(build, PLUGIN, "\u{7f}ELF with abc in it");
        assert_eq!(refused(GCC, build), None);
        put(build, SEED, "\n");
        assert!(refused(GCC, build).is_some(), "no seed in the file");
    }
}
