use kpatch_build::build::livepatch::{self, Request};
use kpatch_build::kernel::{Arch, Kernel};
use kpatch_build::supply::stock::{StockKernel, Tools};
use std::path::PathBuf;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let work = PathBuf::from(&args[0]);
    let patches: Vec<PathBuf> = args[1..]
        .iter()
        .map(|p| PathBuf::from(p).canonicalize().unwrap())
        .collect();
    let w = std::env::var("STOCK").unwrap_or("/tmp/way".into());
    let release = std::env::var("RELEASE").unwrap_or("6.1.0-47-cloud-amd64".into());
    let source = std::env::var("SOURCE").unwrap_or(format!("{w}/linux-source-6.1"));
    let stock = StockKernel {
        release: release.clone(),
        version: "6.1.170-3".into(),
        arch: Arch::X86_64,
        source: source.into(),
        objects: format!("{w}/objects-clean").into(),
        vmlinuz: format!("{w}/root/boot/vmlinuz-{release}").into(),
        modules: format!("{w}/root/lib/modules/{release}").into(),
        vmlinux: None,
        tools: Tools {
            path: vec![],
            make: vec![std::env::var("CC").unwrap_or("CC=gcc-12".into())],
        },
        build_id: "x".into(),
    };
    let name = kpatch_build::build::module::livepatch_name(&patches);
    let request = Request {
        kernel: Kernel::Stock(&stock),
        patches: &patches,
        name: &name,
        replace: true,
        accept: &[],
        dry_run: std::env::var("DRY").is_ok(),
        work: &work,
        cache: &PathBuf::from("/tmp/way/cache"),
        jobs: 2,
    };
    let t = std::time::Instant::now();
    match livepatch::build(&request, &()) {
        Ok(built) => {
            for s in &built.shipped {
                println!("proven: {s}");
            }
            for f in built.functions() {
                println!("{} {} {:?}", f.object, f.name, f.sympos);
            }
            println!("{:?}", built.module.as_ref().map(|m| (&m.path, m.symbols, &m.warnings)));
            for (s, d) in &built.timings {
                println!("  {s}: {d:?}");
            }
        }
        Err(e) => println!("ERROR {e:#}"),
    }
    println!("{:?}", t.elapsed());
    Ok(())
}
