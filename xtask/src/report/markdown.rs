//! A grid in Markdown, for the summary of a CI run and for a closing note.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::e2e::record::{CaseRecord, RunRecord};
use crate::e2e::{ALL, Outcome};
use kpatch_build::ui::seconds;

/// The summary: counts, the bad cases in full, then the grid.
pub fn summary(record: &RunRecord) -> String {
    let mut text = String::from("## End-to-end run\n\n");
    put(&mut text, format_args!("{}\n\n", counts(record)));
    bad(&mut text, record);
    places(&mut text, record);
    grid(&mut text, record);
    mutants(&mut text, record);
    text
}

fn counts(record: &RunRecord) -> String {
    let count = |outcome: Outcome| record.cases.iter().filter(|case| case.outcome == outcome).count();
    let counts = ALL
        .into_iter()
        .map(|outcome| (count(outcome), outcome))
        .filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(count, outcome)| format!("**{count}** {}", outcome.shown()))
        .collect();
    let took = seconds(Duration::from_secs_f64(record.seconds));
    format!("{} cases in {took}: {}", record.cases.len(), counts.join(", "))
}

fn bad(text: &mut String, record: &RunRecord) {
    for case in record.cases.iter().filter(|case| !case.outcome.is_good()) {
        let (outcome, name, axis) = (case.outcome.shown(), &case.case, &case.axis);
        put(text, format_args!("**{outcome}: {name}** on {axis}\n\n```\n"));
        // A fence inside the text would end the block.
        put(
            text,
            format_args!("{}\n{}\n```\n\n", case.detail.replace("```", "'''"), case.reproduce),
        );
    }
}

fn places(text: &mut String, record: &RunRecord) {
    text.push_str("| place | cases | seconds | seconds a case | boots | kernel build |\n|---|--:|--:|--:|--:|--:|\n");
    for axis in &record.axes {
        let cases = record.cases.iter().filter(|case| case.axis == axis.axis).count();
        let each = axis.seconds / u32::try_from(cases.max(1)).map_or(f64::INFINITY, f64::from);
        let baseline = axis
            .baseline_seconds
            .map_or_else(|| "-".to_owned(), |took| seconds(Duration::from_secs_f64(took)));
        let (name, boots) = (&axis.axis, axis.boots);
        put(
            text,
            format_args!(
                "| {name} | {cases} | {:.0} | {each:.1} | {boots} | {baseline} |\n",
                axis.seconds
            ),
        );
    }
    text.push('\n');
}

fn grid(text: &mut String, record: &RunRecord) {
    let names: BTreeSet<&str> = record.cases.iter().map(|case| case.case.as_str()).collect();
    let cells: BTreeMap<(&str, String), &CaseRecord> = record
        .cases
        .iter()
        .map(|case| ((case.case.as_str(), case.axis.to_string()), case))
        .collect();
    let axes: Vec<String> = record.axes.iter().map(|axis| axis.axis.to_string()).collect();
    put(
        text,
        format_args!("| case | {} |\n|---|{}\n", axes.join(" | "), "---|".repeat(axes.len())),
    );
    for name in names {
        let cell = |axis: &String| match cells.get(&(name, axis.clone())) {
            Some(case) => format!(
                "{} {:.1} s",
                mark(case.outcome),
                Duration::from_millis(case.build_ms + case.guest_ms).as_secs_f64()
            ),
            None => String::new(),
        };
        let row: Vec<String> = axes.iter().map(cell).collect();
        put(text, format_args!("| {name} | {} |\n", row.join(" | ")));
    }
}

fn mark(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✅",
        Outcome::Built => "🔨",
        Outcome::RefusedAsExpected => "⛔",
        Outcome::NoChangeAsExpected | Outcome::BootOnlyAsExpected => "➖",
        Outcome::KnownBad => "⚠️",
        _ => "❌",
    }
}

fn mutants(text: &mut String, record: &RunRecord) {
    if record.mutants.is_empty() {
        return;
    }
    let mut by_damage: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for mutant in &record.mutants {
        let row = by_damage.entry(&mutant.damage).or_default();
        row.0 += 1;
        row.1.insert(mutant.caught.as_deref().unwrap_or("**SURVIVED**"));
    }
    text.push_str("\n| damage | mutants | caught by |\n|---|--:|---|\n");
    for (damage, (count, by)) in by_damage {
        let by: Vec<&str> = by.into_iter().collect();
        put(text, format_args!("| {damage} | {count} | {} |\n", by.join(", ")));
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}
