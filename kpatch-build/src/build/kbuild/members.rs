//! Which translation unit ends up where: in the image, in which module, or in something that is not the running kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::archive::ArchiveFile;

use super::cmdfile::CmdFile;
use super::distributed;
use super::facts::Config;
use super::link::{LinkCommand, LinkInput};
use super::modules::listed;
use super::trees::{Trees, normalise};
use super::tu::{Kind, Tu};

/// What an object was linked into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// The kernel image.
    Vmlinux,
    /// A module, named by its object before the last link: `fs/ext4/ext4.o`.
    Module(String),
    /// Anything else.
    Other(Other),
}

/// Code and data outside the image and the modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// The vDSO: mapped into every process, out of reach of a livepatch.
    Vdso,
    /// The real-mode trampoline.
    Realmode,
    /// The boot loader stub and decompressor; they ran once, before the kernel.
    Boot,
    /// The kexec purgatory.
    Purgatory,
    /// A program of the build machine.
    HostTool,
    /// The small file modpost writes for each module.
    ModuleInfo,
    /// Everything else: generated text, objects of the last link steps, objects that nothing uses.
    Rest,
}

/// One relocatable ThinLTO link of the build: of the image or of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinLink {
    /// The linker.
    pub linker: String,
    /// Options that decide what is generated.
    pub flags: Vec<String>,
    /// Objects in link order, relative to the build directory.
    pub inputs: Vec<Input>,
    /// Whether the build has kept what the link wrote, and the machine code of each object (see [`distributed`]).
    pub distributed: bool,
}

/// One object of a [`ThinLink`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Path relative to the build directory.
    pub path: String,
    /// The archive it is taken from only if something refers to it.
    pub lazy: Option<String>,
}

/// All links of a build.
#[derive(Debug, Clone)]
pub struct Members {
    /// The link of `vmlinux.o`.
    pub vmlinux: ThinLink,
    /// Objects of each module, keyed by the module's object.
    pub modules: BTreeMap<String, Vec<String>>,
    homes: BTreeMap<String, Vec<Home>>,
    /// Whether these are all links of the build: of a stock kernel only the touched files are known.
    pub is_complete: bool,
}

impl Members {
    /// What is known of a kernel without records: the homes of some objects.
    pub fn of_some(linker: &str, homes: BTreeMap<String, Vec<Home>>) -> Members {
        Members {
            vmlinux: ThinLink {
                linker: linker.to_owned(),
                flags: Vec::new(),
                inputs: Vec::new(),
                distributed: false,
            },
            modules: BTreeMap::new(),
            homes,
            is_complete: false,
        }
    }

    /// Reads the links of a build directory.
    pub fn read(build: &Path, config: &Config) -> Result<Members> {
        let distributed = config.is_distributed();
        let target = if distributed { distributed::INDEX } else { "vmlinux.o" };
        let words = link_words(build, target)?;
        let mut link =
            LinkCommand::parse(&words).with_context(|| format!("the recorded link of {target} is not understood"))?;
        link.absolute(build);
        let place = Place {
            ran_in: build,
            objects: build,
        };
        let vmlinux = ThinLink {
            inputs: inputs(place, &link)?,
            linker: link.linker,
            flags: link.flags,
            distributed,
        };
        Ok(Members::of(vmlinux, modules(place)?))
    }

    /// The modules that were built in a folder of their own. Of the image nothing is known, and nothing need be: what is
    /// compiled there is not part of it.
    pub fn of_folder(trees: &Trees) -> Result<Members> {
        let place = Place::of(trees);
        let modules = modules(place)?;
        let Some(module) = modules.keys().next() else {
            bail!("no module is listed in {}", trees.objects.display())
        };
        // The object of a module with a single source may not be linked at all.
        let ko = format!("{}.ko", module.strip_suffix(".o").unwrap_or(module));
        let image = ThinLink {
            linker: link_words(&trees.objects, &ko)?.swap_remove(0),
            flags: Vec::new(),
            inputs: Vec::new(),
            distributed: false,
        };
        Ok(Members::of(image, modules))
    }

    fn of(vmlinux: ThinLink, modules: BTreeMap<String, Vec<String>>) -> Members {
        let mut homes: BTreeMap<String, Vec<Home>> = BTreeMap::new();
        for input in &vmlinux.inputs {
            homes.entry(input.path.clone()).or_default().push(Home::Vmlinux);
        }
        for (module, objects) in &modules {
            for object in objects {
                homes
                    .entry(object.clone())
                    .or_default()
                    .push(Home::Module(module.clone()));
            }
        }
        Members {
            vmlinux,
            modules,
            homes,
            is_complete: true,
        }
    }

    /// Everything a TU is linked into; an object may be part of several modules.
    pub fn homes(&self, tu: &Tu) -> Vec<Home> {
        self.homes
            .get(&tu.object)
            .cloned()
            .unwrap_or_else(|| vec![Home::Other(elsewhere(tu))])
    }

    /// The link of a module, from what kbuild recorded for its object.
    pub fn module_link(&self, trees: &Trees, module: &str) -> Result<ThinLink> {
        let words = link_words(&trees.objects, module)?;
        let mut link =
            LinkCommand::parse(&words).with_context(|| format!("the recorded link of {module} is not understood"))?;
        link.absolute(&trees.build);
        let inputs = inputs(Place::of(trees), &link)?;
        let listed = self
            .modules
            .get(module)
            .with_context(|| format!("{module} is not a module of this build"))?;
        if !inputs.iter().map(|input| &input.path).eq(listed) {
            bail!("the recorded link of {module} and its list of objects disagree");
        }
        Ok(ThinLink {
            linker: link.linker,
            flags: link.flags,
            inputs,
            distributed: false,
        })
    }
}

/// How records spell objects: relative to where they ran, or absolute.
#[derive(Clone, Copy)]
struct Place<'a> {
    ran_in: &'a Path,
    /// What names of objects count from here.
    objects: &'a Path,
}

impl<'a> Place<'a> {
    fn of(trees: &'a Trees) -> Self {
        Place {
            ran_in: &trees.build,
            objects: &trees.objects,
        }
    }

    /// The name that an object has here.
    fn name(&self, spelt: &str) -> String {
        let path = normalise(Path::new(spelt));
        let below = normalise(&self.ran_in.join(&path));
        let below = below.strip_prefix(self.objects).unwrap_or(&path);
        below.to_string_lossy().into_owned()
    }
}

/// The linker's command among those recorded for an object: the first one, or for a module with a single source the one
/// after the compiler.
fn link_words(build: &Path, object: &str) -> Result<Vec<String>> {
    let path = build.join(object);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .context("an object without a name")?;
    let path = path.with_file_name(format!(".{name}.cmd"));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let commands = CmdFile::new(text)
        .commands()
        .with_context(|| format!("{} is not understood", path.display()))?;
    let links = |command: &&Vec<String>| {
        command[0]
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("ld") || name.contains("-ld"))
    };
    commands
        .iter()
        .find(links)
        .cloned()
        .with_context(|| format!("{} does not record a link", path.display()))
}

fn inputs(place: Place<'_>, link: &LinkCommand) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for input in &link.inputs {
        match input {
            LinkInput::List(list) => {
                inputs.extend(
                    object_list(place, &place.ran_in.join(list))?
                        .into_iter()
                        .map(|path| Input { path, lazy: None }),
                );
            }
            LinkInput::File(path, whole) if path.ends_with(".a") => {
                let lazy = (!whole).then(|| path.clone());
                let members = thin_archive(place.ran_in, path)?;
                inputs.extend(members.into_iter().map(|path| Input {
                    path,
                    lazy: lazy.clone(),
                }));
            }
            LinkInput::File(path, _) => inputs.push(Input {
                path: place.name(path),
                lazy: None,
            }),
        }
    }
    Ok(inputs)
}

/// The members of a thin archive, relative to the build directory.
fn thin_archive(build: &Path, archive: &str) -> Result<Vec<String>> {
    let path = build.join(archive);
    let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ArchiveFile::parse(data.as_slice()).with_context(|| format!("{} is no archive", path.display()))?;
    if !file.is_thin() {
        bail!(
            "{} is not a thin archive; its members cannot be told apart",
            path.display()
        );
    }
    let folder = Path::new(archive).parent().unwrap_or(Path::new(""));
    let mut members = Vec::new();
    for member in file.members() {
        let member = member.with_context(|| format!("{} is damaged", path.display()))?;
        let name = std::str::from_utf8(member.name()).with_context(|| format!("a name in {}", path.display()))?;
        let name = normalise(&folder.join(name));
        members.push(name.to_str().context("an archive member without a name")?.to_owned());
    }
    Ok(members)
}

fn modules(place: Place<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut modules = BTreeMap::new();
    for stem in listed(place.objects)? {
        let stem = place.name(&stem);
        let objects = object_list(place, &place.objects.join(format!("{stem}.mod")))?;
        if objects.is_empty() {
            bail!("{stem}.mod lists no object");
        }
        modules.insert(format!("{stem}.o"), objects);
    }
    Ok(modules)
}

fn object_list(place: Place<'_>, path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.split_whitespace().map(|name| place.name(name)).collect())
}

fn elsewhere(tu: &Tu) -> Other {
    let path = tu.object.as_str();
    if let Some(other) = Other::of_path(path) {
        other
    } else if tu.kind == Kind::Host || path.starts_with("scripts/") || path.starts_with("tools/") {
        Other::HostTool
    } else if path.ends_with(".mod.o") || path.ends_with("module-common.o") {
        Other::ModuleInfo
    } else {
        Other::Rest
    }
}

impl Other {
    /// What is wrong with asking for a link of it.
    pub fn no_link(self) -> anyhow::Error {
        anyhow::anyhow!("{self:?} is linked into neither the image nor a module")
    }

    /// What a folder says about everything in it, built or not.
    pub fn of_path(path: &str) -> Option<Other> {
        if path.contains("/vdso") {
            Some(Other::Vdso)
        } else if path.contains("realmode/rm/") {
            Some(Other::Realmode)
        } else if path.starts_with("arch/") && path.split('/').nth(2) == Some("boot") {
            Some(Other::Boot)
        } else if path.contains("/purgatory/") {
            Some(Other::Purgatory)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{links, put};
    use super::*;

    fn trees(build: &Path) -> Trees {
        Trees {
            source: "/s".into(),
            build: build.to_owned(),
            objects: build.to_owned(),
            recorded: None,
        }
    }

    fn build() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path();
        links(build);
        put(build, "modules.order", b"fs/ext4/ext4.o\nfs/mbcache.o\n");
        put(build, "fs/mbcache.mod", b"fs/mbcache.o\n");
        put(
            build,
            "fs/.mbcache.o.cmd",
            b"savedcmd_fs/mbcache.o := clang -c -o fs/mbcache.o /s/fs/mbcache.c  ; ld.lld -m x -r -o fs/.tmp_mbcache.o \
              fs/mbcache.o; mv fs/.tmp_mbcache.o fs/mbcache.o\n",
        );
        folder
    }

    #[test]
    fn image_and_modules() {
        let folder = build();
        let members = Members::read(folder.path(), &Config::default()).unwrap();
        let listed: Vec<_> = members
            .vmlinux
            .inputs
            .iter()
            .map(|i| (i.path.as_str(), i.lazy.as_deref()))
            .collect();
        assert_eq!(
            listed,
            [
                ("init/main.o", None),
                ("fs/open.o", None),
                ("lib/string.o", Some("lib/lib.a"))
            ]
        );
        let link = members.module_link(&trees(folder.path()), "fs/ext4/ext4.o").unwrap();
        assert_eq!(link.inputs.len(), 2);
        let link = members.module_link(&trees(folder.path()), "fs/mbcache.o").unwrap();
        assert_eq!(
            (link.inputs[0].path.as_str(), link.flags.join(" ").as_str()),
            ("fs/mbcache.o", "-m x -r")
        );
    }

    #[test]
    fn modules_of_a_folder_are_named_from_there_however_their_records_spell_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        // Up to 6.12 commands run in the kernel's build directory, later in the folder.
        for (ran_in, spelt) in [("/kernel", format!("{root}/")), (root, "./".to_owned())] {
            let trees = Trees {
                build: ran_in.into(),
                ..trees(folder.path())
            };
            put(folder.path(), "modules.order", format!("{spelt}s/two.o\n").as_bytes());
            put(
                folder.path(),
                "s/two.mod",
                format!("{spelt}s/a.o\n{spelt}b.o\n").as_bytes(),
            );
            let link = format!("savedcmd_{spelt}s/two.o := ld.lld -r -o {spelt}s/two.o @{spelt}s/two.mod\n");
            put(folder.path(), "s/.two.o.cmd", link.as_bytes());
            put(
                folder.path(),
                "s/.two.ko.cmd",
                b"savedcmd_s/two.ko := ld.lld -r -o s/two.ko s/two.o\n",
            );
            let members = Members::of_folder(&trees).unwrap();
            assert_eq!(members.modules["s/two.o"], ["s/a.o", "b.o"]);
            let link = members.module_link(&trees, "s/two.o").unwrap();
            let inputs: Vec<_> = link.inputs.iter().map(|input| input.path.as_str()).collect();
            assert_eq!(inputs, ["s/a.o", "b.o"]);
            assert_eq!((members.vmlinux.linker.as_str(), members.is_complete), ("ld.lld", true));
        }
    }

    #[test]
    fn an_image_that_was_linked_in_two_halves() {
        let folder = build();
        put(
            folder.path(),
            "builtin.order",
            b"init/main.o\nfs/open.o\nlib/string.o\n",
        );
        put(
            folder.path(),
            ".vmlinux.thinlto-index.cmd",
            b"savedcmd_vmlinux.thinlto-index := ld.lld -m x -r --thinlto-index-only=vmlinux.thinlto-index @builtin.order\n",
        );
        let members = Members::read(folder.path(), &Config::parse("CONFIG_LTO_CLANG_THIN_DIST=y")).unwrap();
        let image = &members.vmlinux;
        assert_eq!((image.flags.join(" ").as_str(), image.inputs.len()), ("-m x -r", 3));
        assert!(image.distributed && image.inputs.iter().all(|input| input.lazy.is_none()));
        let module = members.module_link(&trees(folder.path()), "fs/ext4/ext4.o").unwrap();
        assert!(!module.distributed, "modules are linked in one step");
    }

    #[test]
    fn a_list_that_disagrees_is_an_error() {
        let folder = build();
        let members = Members::read(folder.path(), &Config::default()).unwrap();
        put(folder.path(), "fs/ext4/ext4.mod", b"fs/ext4/super.o\n");
        assert!(
            members
                .module_link(&trees(folder.path()), "fs/ext4/ext4.o")
                .unwrap_err()
                .to_string()
                .contains("disagree")
        );
    }
}
