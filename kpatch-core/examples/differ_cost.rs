//! What one comparison of two objects costs: time by phase, and the peak of memory as the operating system counts it.
//!
//! `cargo xtask bench differ` runs this as a process of its own for each figure, so that no figure contains another's
//! memory. `differ_cost diff ORIG PATCHED` compares, `differ_cost hash ORIG PATCHED` only reads and hashes the files:
//! the least that anyone who looks at both files must do. One line of JSON comes out.

use std::error::Error;
use std::fs;
use std::time::Instant;

use kpatch_core::{Input, ObjectName, Phase, Stop, changes};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, orig, patched] = &arguments[..] else {
        return Err("expected: diff|hash ORIG PATCHED".into());
    };
    let mut times = Times(vec![("start", Instant::now())]);
    let (orig, patched) = (fs::read(orig)?, fs::read(patched)?);
    times.done("read files");
    let outcome = match what.as_str() {
        "diff" => diff(&orig, &patched, &mut times)?,
        "hash" => hash(&orig, &patched, &mut times),
        other => return Err(format!("`{other}` is neither diff nor hash").into()),
    };
    println!(
        "{{\"seconds\":{{{}}},\"peak_kib\":{},\"outcome\":{outcome:?}}}",
        times.json(),
        peak_kib()?
    );
    Ok(())
}

/// Moments, each with the name of the step that ended there.
struct Times(Vec<(&'static str, Instant)>);

impl Times {
    fn done(&mut self, step: &'static str) {
        self.0.push((step, Instant::now()));
    }

    fn json(&self) -> String {
        let steps = self.0.windows(2).map(|pair| {
            let took = pair[1].1.duration_since(pair[0].1).as_secs_f64();
            format!("\"{}\":{took:.4}", pair[1].0)
        });
        steps.collect::<Vec<_>>().join(",")
    }
}

fn diff(orig: &[u8], patched: &[u8], times: &mut Times) -> Result<String, Box<dyn Error>> {
    let inputs = [Input {
        name: "vmlinux.o".into(),
        parent: ObjectName::vmlinux(),
        orig: Some(orig),
        shipped: None,
        patched,
    }];
    let found = changes(&inputs, &mut |phase| {
        times.done(match phase {
            Phase::Correlate => "read and correlate",
            Phase::Compare => "compare",
            Phase::Select => "select",
        });
    });
    Ok(match found {
        Ok(found) => {
            let names: Vec<_> = found.functions.iter().map(|(_, name)| name.as_str()).collect();
            format!("{} pieces; patched: {}", found.pieces, names.join(" "))
        }
        Err(Stop::NoChange(_)) => "no change".into(),
        Err(Stop::Refused(refusals)) => {
            let some = refusals.iter().take(20).map(ToString::to_string);
            format!("{} refused: {}", refusals.len(), some.collect::<Vec<_>>().join("; "))
        }
        Err(Stop::Failed(error)) => return Err(error.into()),
    })
}

fn hash(orig: &[u8], patched: &[u8], times: &mut Times) -> String {
    let (one, other) = rayon::join(|| Sha256::digest(orig), || Sha256::digest(patched));
    times.done("hash");
    if one == other {
        "equal".into()
    } else {
        "different".into()
    }
}

/// proc_pid_status(5): the largest resident set so far, in KiB.
fn peak_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("/proc/self/status has no VmHWM")?.parse()?)
}
