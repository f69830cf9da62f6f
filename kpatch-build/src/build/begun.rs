//! How a run begins: the kernel or the folder with modules is read, and kbuild is started for the module to be.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use kpatch_core::Refusal;

use crate::build::kbuild::{Kbuild, folder};
use crate::build::livepatch::Request;
use crate::build::module::{self, Linking};
use crate::build::stock::{self, Opened, Wanted};
use crate::build::timings::Timings;
use crate::kernel::{Kernel, KernelBuild, StockKernel};
use crate::outcome::Ending;
use crate::progress::Progress;
use crate::supply::store::cache::Hashes;

/// A run that has got so far that patches can be applied and compiled.
pub struct Begun {
    /// The kernel.
    pub kernel: KernelBuild,
    /// What was compiled, and how.
    pub kbuild: Kbuild,
    /// kbuild at work; nothing for a dry run.
    pub linking: Option<Linking>,
    /// For a stock kernel: its image, unpacked.
    pub image: Option<Vec<u8>>,
    /// For a stock kernel: objects of the sources that the patches themselves change.
    pub edited: BTreeSet<String>,
    /// Hashes that are known already.
    pub hashes: Hashes,
    /// For a stock kernel: why no more than a few files were prepared.
    pub too_many: Option<Refusal>,
}

impl Begun {
    /// Begins.
    ///
    /// # Errors
    /// [`Ending::Usage`] if a folder with modules is named for a kernel that left no records of its build.
    pub fn new(request: &Request<'_>, progress: &dyn Progress, timings: &mut Timings) -> Result<Begun> {
        match (request.kernel, request.module_dir) {
            (Kernel::Recorded(kernel), _) => recorded(request, kernel, progress, timings),
            (Kernel::Stock(stock), None) => unrecorded(request, stock, progress, timings),
            (Kernel::Stock(stock), Some(_)) => Err(folder::no_records(&stock.release)),
        }
    }
}

fn recorded(
    request: &Request<'_>,
    kernel: &KernelBuild,
    progress: &dyn Progress,
    timings: &mut Timings,
) -> Result<Begun> {
    progress.message("reading the kernel build");
    let kbuild = timings.of("read the build", || match request.module_dir {
        Some(folder) => Kbuild::of_folder(kernel, folder),
        None => Kbuild::read(kernel),
    })?;
    let moved = kbuild.trees.recorded.is_some();
    let tools = Tools {
        compiler: &kbuild.compiler,
        makefile: moved.then(|| kbuild.trees.source.join("Makefile")),
        path: &kbuild.path,
        make: &kbuild.make,
    };
    Ok(Begun {
        linking: start_linking(request, kernel, tools)?,
        kernel: kernel.clone(),
        kbuild,
        image: None,
        edited: BTreeSet::new(),
        hashes: Hashes::default(),
        too_many: None,
    })
}

fn unrecorded(
    request: &Request<'_>,
    stock: &StockKernel,
    progress: &dyn Progress,
    timings: &mut Timings,
) -> Result<Begun> {
    progress.message("making a folder for kbuild");
    let folder = request.work.join("kernel");
    let opened = timings.of("make a folder for kbuild", || Opened::new(stock, &folder))?;
    let kernel = opened.kernel.clone();
    let tools = Tools {
        compiler: &opened.compiler,
        makefile: None,
        path: &stock.tools.path,
        make: &stock.tools.make,
    };
    let linking = start_linking(request, &kernel, tools)?;
    let wanted = Wanted {
        patches: request.patches,
        fuzz: request.fuzz,
        all_readers: request.all_readers,
    };
    let (prepared, image) = timings.of("compile as the kernel's build did", || {
        rayon::join(
            || opened.prepare(&wanted, request.cache, request.jobs, progress),
            || stock::image(stock),
        )
    });
    let prepared = prepared?;
    Ok(Begun {
        kernel,
        kbuild: prepared.kbuild,
        linking,
        image: Some(image?),
        edited: prepared.edited,
        hashes: prepared.hashes,
        too_many: prepared.too_many,
    })
}

/// What kbuild links modules with; the fields of [`module::Start`] of these names.
struct Tools<'a> {
    compiler: &'a str,
    makefile: Option<PathBuf>,
    path: &'a [PathBuf],
    make: &'a [String],
}

/// kbuild starts before anything else, since much of what it does depends on no patch; see [`Linking`].
fn start_linking(request: &Request<'_>, kernel: &KernelBuild, tools: Tools<'_>) -> Result<Option<Linking>> {
    if let Some(refusal) = module::taken(kernel, request.module_dir, request.name)? {
        return Err(Ending::refused(refusal));
    }
    if request.dry_run {
        return Ok(None);
    }
    let start = module::Start {
        kernel,
        compiler: tools.compiler,
        makefile: tools.makefile,
        path: tools.path,
        make: tools.make,
        name: request.name,
        work: &module_folder(request),
        jobs: request.jobs,
    };
    Linking::start(&start).map(Some)
}

/// The folder in which kbuild links.
pub fn module_folder(request: &Request<'_>) -> PathBuf {
    request.work.join("module")
}
