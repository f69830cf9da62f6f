//! The code that a stock kernel ships, and the proof that the touched files are part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::ObjectName;
use kpatch_core::codes::environment::NO_MODULE;
use kpatch_core::klp::Modinfo;
use kpatch_core::located::{self, Located, Memory};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Refusal, Subject};
use rayon::prelude::*;

use crate::build::kbuild::{Home, Kbuild, Kind, modules};
use crate::build::livepatch::Shipped;
use crate::kernel::StockKernel;
use crate::outcome::Ending;
use crate::supply::stock::vmlinuz;

/// The bytes of the image and of those modules that touched files belong to.
pub struct ShippedFiles {
    image: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    symvers: String,
    /// `vermagic` of the kernel's own modules.
    pub vermagic: Option<String>,
}

/// Everything that was proven.
pub struct Proven<'a> {
    vmlinux: Memory<'a>,
    modules: BTreeMap<ObjectName, Memory<'static>>,
    /// For each touched file and what it is part of, where it is.
    units: Vec<(String, ObjectName, Located)>,
    /// The same for a person and for programs.
    pub summary: Vec<Shipped>,
}

impl ShippedFiles {
    /// Reads them.
    ///
    /// # Errors
    /// [`NO_MODULE`] if a touched file is part of a module that the kernel's package does not have.
    pub fn read(stock: &StockKernel, kbuild: &Kbuild) -> Result<ShippedFiles> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let image = vmlinuz::unpack(&read(&stock.vmlinuz)?)
            .with_context(|| format!("cannot unpack {}", stock.vmlinuz.display()))?;
        let mut found = BTreeMap::new();
        for home in touched(kbuild).into_iter().flat_map(|(_, homes)| homes) {
            let Home::Module(module) = &home else { continue };
            let name = name_of(&home);
            let Some(path) = file_of(stock, module) else {
                let why = format!("{} has no module {name}, which the patch changes", stock.release);
                let refusal = Refusal::new(NO_MODULE, Subject::file(module), why);
                return Err(Ending::refused(refusal.hint("unpack the kernel's package as a whole")));
            };
            found.insert(name, unpacked(&path)?);
        }
        let symvers = stock.objects.join("Module.symvers");
        let vermagic = match found.values().next() {
            Some(module) => vermagic(module),
            None => first_module(stock)?.as_deref().and_then(vermagic),
        };
        Ok(ShippedFiles {
            image,
            modules: found,
            symvers: fs::read_to_string(&symvers).with_context(|| format!("cannot read {}", symvers.display()))?,
            vermagic,
        })
    }

    /// Proves that each touched file is as the kernel has it.
    ///
    /// # Errors
    /// [`Ending::Refused`] with everything that differs.
    pub fn prove(&self, kbuild: &Kbuild) -> Result<Proven<'_>> {
        let (vmlinux, modules) = rayon::join(
            || Memory::of_vmlinux(&self.image),
            || -> Result<BTreeMap<_, _>, kpatch_core::Error> {
                let module = |(name, bytes): (&ObjectName, &Vec<u8>)| {
                    Ok((name.clone(), Memory::of_module(name.clone(), bytes)?))
                };
                self.modules.iter().map(module).collect()
            },
        );
        let mut proven = Proven {
            vmlinux: vmlinux?,
            modules: modules?,
            units: Vec::new(),
            summary: Vec::new(),
        };
        let parts: Vec<(String, ObjectName)> = touched(kbuild)
            .into_iter()
            .flat_map(|(unit, homes)| homes.into_iter().map(move |home| (unit.clone(), name_of(&home))))
            .collect();
        let prove = |(unit, owner): &(String, ObjectName)| -> Result<Result<Located, Vec<Refusal>>> {
            let path = kbuild.trees.build.join(unit);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let memory = if owner.is_vmlinux() {
                &proven.vmlinux
            } else {
                &proven.modules[owner]
            };
            Ok(located::prove(unit, &bytes, memory))
        };
        let outcomes: Vec<_> = parts.par_iter().map(prove).collect::<Result<_>>()?;
        let mut refusals = Vec::new();
        for ((unit, owner), outcome) in parts.into_iter().zip(outcomes) {
            match outcome {
                Ok(located) => {
                    let source = kbuild.trees.place(&kbuild.tu(&unit)?.source);
                    proven.summary.push(Shipped::of(source.shown(), &owner, &located));
                    proven.units.push((unit, owner, located));
                }
                Err(more) => refusals.extend(more),
            }
        }
        if refusals.is_empty() {
            Ok(proven)
        } else {
            Err(Ending::Refused(refusals).into())
        }
    }
}

impl Proven<'_> {
    /// The kernel's symbols, with the touched files where they were found.
    pub fn target<'a>(&'a self, files: &'a ShippedFiles) -> Result<Target<'a>> {
        let mut modules = BTreeMap::new();
        for (name, bytes) in &files.modules {
            modules.insert(name.clone(), Image::read(name.clone(), bytes, &[])?);
        }
        let mut target = Target {
            vmlinux: Image::of_memory(&self.vmlinux),
            modules,
            exports: Exports::parse(&files.symvers)?,
            partial: false,
        };
        for (unit, owner, located) in &self.units {
            let memory = if owner.is_vmlinux() {
                &self.vmlinux
            } else {
                &self.modules[owner]
            };
            if let Some(image) = target.image_mut(owner) {
                image.locate(memory, unit, &located.parts);
            }
        }
        Ok(target)
    }
}

/// The touched files that are part of the image or of a module.
fn touched(kbuild: &Kbuild) -> Vec<(String, BTreeSet<Home>)> {
    let native = kbuild.tus.values().filter(|tu| tu.kind == Kind::NativeC);
    let homes = native.map(|tu| {
        let homes = kbuild.members.homes(tu).into_iter();
        (
            tu.object.clone(),
            homes.filter(|home| !matches!(home, Home::Other(_))).collect(),
        )
    });
    homes.collect()
}

fn name_of(home: &Home) -> ObjectName {
    match home {
        Home::Module(module) => ObjectName::module(&modules::name_of_ko(Path::new(module))),
        Home::Vmlinux | Home::Other(_) => ObjectName::vmlinux(),
    }
}

/// The endings that a module has, compressed in the ways that the kernel knows (kernel/module/Kconfig).
const ENDINGS: [&str; 4] = ["ko", "ko.xz", "ko.zst", "ko.gz"];

fn file_of(stock: &StockKernel, module: &str) -> Option<PathBuf> {
    // What was added later lies beside the kernel's own: `extra`, `updates`.
    let roots = [stock.modules.join("kernel"), stock.modules.clone()];
    let paths = |root: &PathBuf| ENDINGS.map(|ending| root.join(module).with_extension(ending));
    roots.iter().flat_map(paths).find(|path| path.is_file())
}

/// The first module of the kernel's list that is there.
fn first_module(stock: &StockKernel) -> Result<Option<Vec<u8>>> {
    let listed = modules::listed(&stock.modules)?;
    let path = |stem: &String| {
        let object = format!("{}.o", stem.strip_prefix("kernel/").unwrap_or(stem));
        file_of(stock, &object)
    };
    listed.iter().find_map(path).map(|path| unpacked(&path)).transpose()
}

fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    unpack(bytes).with_context(|| format!("cannot unpack {}", path.display()))
}

/// No module is larger.
const LARGEST: u64 = 256 << 20;
/// Memory that unpacking may take, in KiB.
const DICTIONARY_KIB: u32 = 64 << 10;

/// The bytes of a module file, by what they start with.
fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let stream = &bytes[..];
    let read: Box<dyn Read> = match stream {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(stream)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, DICTIONARY_KIB))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(stream);
            Box::new(decoder.map_err(|error| anyhow::anyhow!("it is no zstd stream: {error}"))?)
        }
        _ => return Ok(bytes),
    };
    let mut module = Vec::new();
    let size = read.take(LARGEST + 1).read_to_end(&mut module)?;
    anyhow::ensure!(size as u64 <= LARGEST, "it unpacks to more than {LARGEST} bytes");
    Ok(module)
}

fn vermagic(module: &[u8]) -> Option<String> {
    Modinfo::read(module).value("vermagic").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn modules_are_unpacked_by_what_they_start_with() {
        let plain = b"\x7fELF and more".to_vec();
        assert_eq!(unpack(plain.clone()).unwrap(), plain);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(unpack(packed.clone()).unwrap(), plain);
        assert!(unpack(packed[..packed.len() - 4].to_vec()).is_err(), "cut off");
        for start in [&b"\xfd7zXZ\0"[..], b"\x28\xb5\x2f\xfd"] {
            assert!(unpack([start, b"damaged"].concat()).is_err());
        }
    }

    #[test]
    fn objects_of_modules_have_the_names_of_the_running_kernel() {
        assert!(name_of(&Home::Vmlinux).is_vmlinux());
        assert_eq!(
            name_of(&Home::Module("sound/snd-a.o".into())),
            ObjectName::module("snd_a")
        );
    }
}
