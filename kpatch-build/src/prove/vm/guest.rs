//! The guest's root file system: our static init program, compiled on first use, a static busybox, and the plan.
//!
//! The init program is compiled here, since nobody can review a binary in a source tree. It is cached under the hash of
//! its inputs, so it is compiled once.

use std::path::{Path, PathBuf};

use anyhow::Context;
use object::read::elf::{FileHeader, ProgramHeader};
use sha2::{Digest, Sha256};

use super::initramfs::Archive;
use super::plan::Plan;
use super::{BootRequest, args, child};
use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::sh;

/// The sources, in the order of the compiler's command line.
const SOURCES: &[(&str, &str)] = &[
    ("guest.h", include_str!("guest/guest.h")),
    ("util.c", include_str!("guest/util.c")),
    ("channel.c", include_str!("guest/channel.c")),
    ("livepatch.c", include_str!("guest/livepatch.c")),
    ("steps.c", include_str!("guest/steps.c")),
    ("init.c", include_str!("guest/init.c")),
];
const FLAGS: &[&str] = &["-static", "-O2", "-Wall", "-Wextra"];

/// The two programs every guest needs.
#[derive(Debug)]
pub struct Tools {
    init: PathBuf,
    busybox: PathBuf,
}

impl Tools {
    /// Finds busybox, and compiles the guest program unless the cache has it.
    pub fn find(request: &BootRequest) -> anyhow::Result<Tools> {
        let busybox = match &request.busybox {
            Some(path) => path.clone(),
            None => child::on_path("busybox").ok_or_else(|| no_busybox("busybox is not installed"))?,
        };
        let bytes = std::fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?;
        check_static(&bytes, request.arch).map_err(|why| no_busybox(&format!("{}: {why}", busybox.display())))?;
        Ok(Tools {
            init: compiled_init(request.arch, &request.cache)?,
            busybox,
        })
    }
}

fn no_busybox(why: &str) -> anyhow::Error {
    Ending::infrastructure(format!(
        "{why}; the guest needs a static busybox of its architecture (busybox-static)"
    ))
}

/// Refuses a program that the guest cannot run: another architecture, or dynamically linked.
fn check_static(elf: &[u8], arch: Arch) -> Result<(), String> {
    let header = object::elf::FileHeader64::<object::Endianness>::parse(elf).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    let machine = match arch {
        Arch::X86_64 => object::elf::EM_X86_64,
        Arch::Ppc64le => object::elf::EM_PPC64,
        Arch::Arm64 => object::elf::EM_AARCH64,
        Arch::S390x => object::elf::EM_S390,
    };
    if header.e_machine(endian) != machine {
        return Err("it is for another architecture".to_owned());
    }
    let segments = header.program_headers(endian, elf).map_err(|error| error.to_string())?;
    if segments
        .iter()
        .any(|segment| segment.p_type(endian) == object::elf::PT_INTERP)
    {
        return Err("it is linked dynamically".to_owned());
    }
    Ok(())
}

/// The compiler for programs of the guest: the machine's own, if it has the guest's architecture.
pub fn compiler(arch: Arch) -> String {
    match Arch::of_this_machine() {
        Some(own) if own == arch => "gcc".to_owned(),
        _ => format!("{}-gcc", arch.triplet()),
    }
}

/// The guest program for this architecture, from the cache or compiled into it.
fn compiled_init(arch: Arch, cache: &Path) -> anyhow::Result<PathBuf> {
    let program = cache.join(format!("guest-init-{}", init_key(arch)));
    if program.is_file() {
        return Ok(program);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    let folder = tempfile::tempdir_in(cache).with_context(|| format!("create a folder in {}", cache.display()))?;
    for (name, text) in SOURCES {
        let path = folder.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let units = SOURCES.iter().map(|(name, _)| name).filter(|name| name.ends_with(".c"));
    let mut command = sh::command(compiler(arch));
    command
        .current_dir(folder.path())
        .args(FLAGS)
        .args(["-o", "init"])
        .args(units);
    sh::output(&mut command).context("compile the guest program; it needs a compiler and a static libc")?;
    // Renamed into place, so that a concurrent run never sees a partial file.
    let built = folder.path().join("init");
    std::fs::rename(&built, &program).with_context(|| format!("move {} to {}", built.display(), program.display()))?;
    Ok(program)
}

/// Hash of the inputs of the program: sources, compiler, flags, and the architecture, since a store can be taken to another
/// machine, where `gcc` is for another one.
fn init_key(arch: Arch) -> String {
    let mut hash = Sha256::new();
    let compiler = compiler(arch);
    let texts = SOURCES.iter().flat_map(|(name, text)| [*name, *text]);
    let target = [compiler.as_str(), arch.name()];
    for part in texts.chain(FLAGS.iter().copied()).chain(target) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Writes the root file system of one boot into `folder` and returns its path. It is not compressed: QEMU reads it from
/// the page cache, and unpacking would cost more than it saves.
pub fn write_initramfs(arch: Arch, tools: &Tools, plan: &Plan, nonce: u64, folder: &Path) -> anyhow::Result<PathBuf> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {} for the guest", path.display()));
    let mut archive = Archive::new();
    archive.file("/init", 0o755, read(&tools.init)?);
    archive.file("/bin/busybox", 0o755, read(&tools.busybox)?);
    archive.file(
        "/plan",
        0o644,
        plan.encode(nonce, args::channel_device(arch)).into_bytes(),
    );
    for (path, file) in plan.files()? {
        archive.file(path, file.mode, read(&file.host_path)?);
    }
    let path = folder.join("initramfs.cpio");
    std::fs::write(&path, archive.bytes()).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header for little-endian `machine` with one program header of this type.
    fn elf(machine: u16, segment: u32) -> Vec<u8> {
        let mut bytes = vec![0u8; 64 + 56];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[20] = 1;
        bytes[32] = 64;
        bytes[52] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&segment.to_le_bytes());
        bytes
    }

    #[test]
    fn a_static_program_of_the_architecture_is_accepted() {
        assert_eq!(check_static(&elf(62, 1), Arch::X86_64), Ok(()));
        assert_eq!(check_static(&elf(21, 1), Arch::Ppc64le), Ok(()));
        assert_eq!(check_static(&elf(183, 1), Arch::Arm64), Ok(()));
    }

    #[test]
    fn others_are_refused() {
        assert_eq!(
            check_static(&elf(62, 3), Arch::X86_64),
            Err("it is linked dynamically".into())
        );
        assert_eq!(
            check_static(&elf(62, 1), Arch::Ppc64le),
            Err("it is for another architecture".into())
        );
        assert!(check_static(b"#!/bin/sh", Arch::X86_64).is_err());
    }

    #[test]
    fn the_key_depends_on_the_architecture() {
        assert_ne!(init_key(Arch::X86_64), init_key(Arch::Ppc64le));
    }
}
