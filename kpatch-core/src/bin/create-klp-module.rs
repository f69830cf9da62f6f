//! `create-klp-module`: turns the records of a linked patch module into livepatch relocations, for drivers that expect
//! kpatch's program of this name.

use std::io::Write as _;
use std::process::ExitCode;

use kpatch_core::klp;

const USAGE: &str = "usage: create-klp-module [-n] [--debug] INPUT.ko OUTPUT.ko

Converts a linked module with kpatch's intermediate sections to the format that livepatch loads.

  -n, --no-klp-arch-sections   accepted: kernels that want such sections are older than any this knows";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let known = ["-n", "--no-klp-arch-sections", "-d", "--debug"];
    let (options, files): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let result = match (&files[..], options.iter().find(|option| !known.contains(option))) {
        ([input, output], None) => convert(input, output),
        (_, Some(option)) => Err(format!("unknown option {option}\n{USAGE}")),
        _ => Err(format!("two files expected\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            drop(writeln!(std::io::stderr(), "create-klp-module: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn convert(input: &str, output: &str) -> Result<(), String> {
    let module = std::fs::read(input).map_err(|error| format!("cannot read {input}: {error}"))?;
    let converted = klp::from_records(&module).map_err(|error| error.to_string())?;
    std::fs::write(output, converted.bytes).map_err(|error| format!("cannot write {output}: {error}"))
}
