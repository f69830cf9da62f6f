//! A small run with one case of each kind, for tests of the report.

use crate::e2e::Outcome;
use crate::e2e::record::*;
use kpatch_build::kernel::Arch;
use kpatch_build::supply::place::Place;

pub fn axis(config: &str) -> Place {
    Place {
        series: "6.12".into(),
        version: "6.12.107".into(),
        arch: Arch::X86_64,
        toolchain: "clang-19".into(),
        config: config.into(),
    }
}

pub fn record() -> RunRecord {
    let about = |config: &str| AxisRecord {
        axis: axis(config),
        release: "6.12.107".into(),
        build: "key".into(),
        baseline_seconds: Some(808.0),
        seconds: 25.0,
        boots: 2,
        boot_seconds: 2.3,
        accelerator: "TCG".into(),
    };
    RunRecord {
        format: FORMAT,
        command: "cargo xtask e2e".into(),
        shard: "1/1".into(),
        jobs: 2,
        date: "2026-01-02 03:04 UTC".into(),
        tool: "0123456789ab-01234567".into(),
        host: "x86_64".into(),
        seconds: 75.0,
        axes: vec![about("distro"), about("small")],
        cases: vec![
            case("distro", "bad-one", Outcome::Panic),
            case("small", "bad-one", Outcome::BehaviourWrong),
            case("small", "good-one", Outcome::Passed),
            case("small", "no-machine", Outcome::Infrastructure),
            case("small", "refuse-this", Outcome::RefusedAsExpected),
        ],
        mutants: vec![MutantRecord {
            case: "good-one".into(),
            damage: "wrong-addend".into(),
            detail: ".text+0x4".into(),
            caught: None,
        }],
    }
}

pub fn case(config: &str, name: &str, outcome: Outcome) -> CaseRecord {
    let detail = if outcome.is_good() { "" } else { "step <1> & \"2\"\x07" };
    CaseRecord {
        axis: axis(config),
        case: name.into(),
        why: "Because of <b>this</b>.".into(),
        expected: "patched: vmlinux: f".into(),
        outcome,
        detail: detail.into(),
        reproduce: format!("cargo xtask e2e --case {name} --kernel 6.12"),
        kept: None,
        patches: vec![PatchText {
            name: "a.patch".into(),
            text: "--- a/f.c\n+++ b/f.c\n@@ -1 +1 @@\n-old\n+new </script>\n".into(),
        }],
        functions: vec![FunctionRecord {
            object: "vmlinux".into(),
            name: "f".into(),
            sympos: 0,
            reason: "changed: size 1 -> 2".into(),
        }],
        snapshot: "verdict: patched\n".into(),
        refusals: Vec::new(),
        steps: vec![Timing {
            name: "thin link".into(),
            ms: 900,
        }],
        build_ms: 5000,
        guest_ms: 400,
        plans: vec![PlanRecord {
            name: name.into(),
            outcome: "passed".into(),
            detail: "passed".into(),
            steps: vec![StepRecord {
                label: "check before load".into(),
                ms: 10,
                output: "a\x1b[31mb".into(),
                kernel: vec!["livepatch: enabling".into()],
            }],
        }],
    }
}
