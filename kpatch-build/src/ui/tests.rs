//! The user's view with outputs that are kept and a clock that stands still.

use anyhow::bail;

use super::outputs::testing::World;
use super::*;
use crate::progress::Progress;

fn ui(mode: Mode) -> (Ui, World) {
    let (outputs, world) = Outputs::for_tests(mode);
    (Ui::with(outputs), world)
}

/// Without the time stamps of the real clock.
fn events(world: &World) -> Vec<Value> {
    let mut events: Vec<Value> = world
        .events
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for event in &mut events {
        let stamp = event.as_object_mut().unwrap().remove("seconds");
        assert!(stamp.is_some_and(|stamp| stamp.is_f64()));
    }
    events
}

#[test]
fn a_plain_phase_says_how_far_it_is() {
    let (ui, world) = ui(Mode::Plain);
    ui.phase("build Linux 6.12", |phase| {
        phase.message("reading");
        world.wait(10);
        phase.tick();
        phase.expect_of("compile", "files", 1358);
        phase.steps(212);
        phase.message("kernel/sys.o");
        world.wait(98);
        phase.tick();
        Progress::expect(phase, "link", 2);
        world.wait(10);
        phase.tick();
        phase.steps(2);
        phase.message("hashing");
        phase.tick();
        phase.line("a line that must be seen");
        Ok(())
    })
    .unwrap();
    assert_eq!(
        world.err.text(),
        "\
.. build Linux 6.12
.. build Linux 6.12: reading, 10.0 s
.. build Linux 6.12: compile 212/1,358 files, about 9 min left
.. build Linux 6.12: link 0/2
.. build Linux 6.12: hashing, 1 min 58 s
a line that must be seen
ok build Linux 6.12 (1 min 58 s)
"
    );
    assert_eq!(world.out.text(), "");
}

#[test]
fn steps_may_be_counted_without_saying_what_they_are() {
    let (ui, world) = ui(Mode::Plain);
    ui.phase("6.12/x86_64/clang-19/small", |phase| {
        phase.expect_steps(89);
        phase.step();
        phase.tick();
        phase.message("building callbacks");
        phase.tick();
        Ok(())
    })
    .unwrap();
    let text = world.err.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[1..3],
        [
            ".. 6.12/x86_64/clang-19/small: 1/89",
            ".. 6.12/x86_64/clang-19/small: 1/89"
        ]
    );
}

#[test]
fn each_end_of_a_phase_has_its_word() {
    let (ui, world) = ui(Mode::Plain);
    let run = |result: Result<()>| ui.phase("p", |_| result).unwrap_err();
    run(Err(anyhow::anyhow!("no")));
    run(Err(Ending::NoChange("no function's code changed".into()).into()));
    let at = kpatch_core::Subject::file("a.o");
    let refusal = kpatch_core::Refusal::new(kpatch_core::codes::select::INIT_CODE, at, "is __init");
    run(Err(Ending::refused(refusal)));
    ui.phase("proof", |phase| {
        phase.fail();
        Ok(())
    })
    .unwrap();
    let text = world.err.text();
    let ends: Vec<_> = text.lines().filter(|line| !line.starts_with("..")).collect();
    assert_eq!(
        ends,
        [
            "failed p (0.0 s)",
            "done p (0.0 s)",
            "refused p (0.0 s)",
            "failed proof (0.0 s)"
        ]
    );
}

#[test]
fn quiet_shows_warnings_and_errors_only() {
    let (ui, world) = ui(Mode::Quiet);
    ui.phase("p", |phase| {
        phase.line("progress");
        Ok(())
    })
    .unwrap();
    ui.note("n");
    ui.say("result");
    ui.warn("w");
    ui.error(&anyhow::anyhow!("e"));
    assert_eq!(world.err.text(), "warning w\nerror: e\n");
    assert_eq!(world.out.text(), "");
}

#[test]
fn phases_are_recorded_with_their_steps_also_when_they_fail() {
    let (ui, _) = ui(Mode::Quiet);
    ui.phase("first", |phase| {
        phase.record("inner", Duration::from_millis(7));
        Ok(())
    })
    .unwrap();
    ui.phase("second", |_| -> Result<()> { bail!("no") }).unwrap_err();
    let shown = serde_json::to_string(&ui.phases()).unwrap();
    assert_eq!(
        shown,
        r#"[{"name":"first","milliseconds":0,"steps":[{"name":"inner","milliseconds":7}]},{"name":"second","milliseconds":0}]"#
    );
}

#[test]
fn events_tell_the_whole_run() {
    let (ui, world) = ui(Mode::Plain);
    ui.phase("p", |phase| {
        phase.expect_of("compile", "files", 10);
        phase.steps(5);
        world.wait(10);
        phase.tick();
        Ok(())
    })
    .unwrap();
    ui.note("n");
    ui.warn("w");
    ui.document(serde_json::json!({"a": 1})).unwrap();
    ui.ended(0);
    let expected = serde_json::json!([
        {"event": "phase-begun", "phase": "p"},
        {"event": "progress", "phase": "p", "doing": "", "done": 5, "total": 10, "seconds_left": 10},
        {"event": "phase-ended", "phase": "p", "outcome": "ok", "milliseconds": 10_000},
        {"event": "note", "text": "n"},
        {"event": "warning", "text": "w"},
        {"event": "ended", "exit_code": 0, "document": {"format": 1, "a": 1}},
    ]);
    assert_eq!(Value::from(events(&world)), expected);
    assert_eq!(world.out.text(), "{\n  \"format\": 1,\n  \"a\": 1\n}\n");
}
