//! The cases of the corpus as tests that other runners (cargo-nextest, editors) can list, filter and run.
//!
//! They need a kernel and QEMU, so `cargo test` has none of them unless `KPATCH_E2E` says where they are to run, e.g.
//! `KPATCH_E2E="--kernel 6.12" cargo nextest run -p xtask --test e2e`.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Ok(place) = std::env::var("KPATCH_E2E") else {
        let arguments = libtest_mimic::Arguments::from_iter(std::iter::once("e2e".to_owned()).chain(arguments));
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "our own program, which cleans the environment of what it starts"
    )]
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("e2e").args(place.split_whitespace());
    // Without an option of the harness the run would print its own table.
    command.arg("--").arg("--color=never").args(arguments);
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => panic!("cannot start our own program: {error}"),
    }
}
