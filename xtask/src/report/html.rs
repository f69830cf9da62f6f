//! The page of an end-to-end run.
//!
//! Everything is in the page as HTML, so it can be read without JavaScript; the script only filters the grid.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use maud::{Markup, html};

use super::layout::{self, Text};
use crate::e2e::record::{AxisRecord, CaseRecord, MutantRecord, PlanRecord, RunRecord};
use crate::e2e::{ALL, Outcome};
use kpatch_build::ui::seconds;

pub fn page(record: &RunRecord) -> String {
    let bad = worst_first(record);
    let good: Vec<&CaseRecord> = record.cases.iter().filter(|case| case.outcome.is_good()).collect();
    let main = html! {
        (overview(record))
        (cases("Not as expected", &bad))
        (grid(record))
        (chart(record))
        (mutants(record))
        (cases(if bad.is_empty() { "Each case" } else { "The other cases" }, &good))
    };
    layout::page("Livepatch cases", "", &header(record, bad.len()), &main)
}

/// The cases that are not as expected, the worst first.
pub(super) fn worst_first(record: &RunRecord) -> Vec<&CaseRecord> {
    let mut bad: Vec<&CaseRecord> = record.cases.iter().filter(|case| !case.outcome.is_good()).collect();
    bad.sort_by_key(|case| Reverse(case.outcome));
    bad
}

/// The names of all cases: those with a result that is not as expected first, the worst of them on top.
pub(super) fn names_worst_first(record: &RunRecord) -> Vec<&str> {
    let mut worst: BTreeMap<&str, Option<Outcome>> = BTreeMap::new();
    for case in &record.cases {
        let bad = Some(case.outcome).filter(|outcome| !outcome.is_good());
        let known = worst.entry(&case.case).or_default();
        *known = (*known).max(bad);
    }
    let mut names: Vec<(&str, Option<Outcome>)> = worst.into_iter().collect();
    names.sort_by_key(|(_, outcome)| Reverse(*outcome));
    names.into_iter().map(|(name, _)| name).collect()
}

/// Each damage with its modules.
pub(super) fn by_damage(mutants: &[MutantRecord]) -> BTreeMap<&str, Vec<&MutantRecord>> {
    let mut damages: BTreeMap<&str, Vec<&MutantRecord>> = BTreeMap::new();
    for mutant in mutants {
        damages.entry(&mutant.damage).or_default().push(mutant);
    }
    damages
}

fn header(record: &RunRecord, bad: usize) -> Markup {
    let verdict = match bad {
        0 => "All results as expected".to_owned(),
        1 => "1 result is not as expected".to_owned(),
        _ => format!("{bad} results are not as expected"),
    };
    let places = match record.axes.len() {
        1 => "one kernel".to_owned(),
        count => format!("{count} kernels"),
    };
    let commit = record.tool.split('-').next().unwrap_or_default();
    html! {
        p.verdict.good[bad == 0].bad[bad > 0] { (verdict) }
        p { (record.cases.len()) " cases on " (places) " in " (time(record.seconds)) }
        p.dim {
            (Text(&record.date))
            @if !commit.is_empty() { ", tool at commit " code { (Text(commit)) } }
            @if !record.host.is_empty() { ", on a host of architecture " (Text(&record.host)) }
        }
    }
}

fn overview(record: &RunRecord) -> Markup {
    let count = |outcome: Outcome| record.cases.iter().filter(|case| case.outcome == outcome).count();
    // The worst first, but what is good in its own order.
    let (good, bad): (Vec<Outcome>, Vec<Outcome>) = ALL.into_iter().partition(|outcome| outcome.is_good());
    let outcomes = bad.into_iter().rev().chain(good);
    let table = html! {
        table.places {
            thead {
                tr {
                    th { "Kernel" } th { "Release" } th.n { "Cases" } th.n { "Time" } th.n { "Per case" } th.n { "Boots" }
                    th.n { "Boot to first output" } th { "Accelerator" } th.n { "Kernel build" }
                }
            }
            tbody { @for axis in &record.axes { (place(record, axis)) } }
        }
    };
    html! {
        section #overview {
            ul.counts {
                @for outcome in outcomes.filter(|outcome| count(*outcome) > 0) {
                    li {
                        button.count.(class(outcome)) type="button" data-outcome=(name(outcome)) aria-pressed="false" {
                            b { (count(outcome)) } " " (outcome.shown().to_lowercase())
                        }
                    }
                }
            }
            (layout::search("Find a case"))
            (layout::wide(&table))
        }
    }
}

fn place(record: &RunRecord, axis: &AxisRecord) -> Markup {
    let cases = record.cases.iter().filter(|case| case.axis == axis.axis).count();
    let each = axis.seconds / u32::try_from(cases.max(1)).map_or(f64::INFINITY, f64::from);
    html! {
        tr {
            th scope="row" { (Text(&axis.axis.to_string())) }
            td { (Text(&axis.release)) }
            td.n { (cases) }
            td.n { (time(axis.seconds)) }
            td.n { (format!("{each:.1} s")) }
            td.n { (axis.boots) }
            td.n { (format!("{:.1} s", axis.boot_seconds)) }
            td { (Text(&axis.accelerator)) }
            td.n { (axis.baseline_seconds.map_or_else(|| "-".to_owned(), time)) }
        }
    }
}

fn grid(record: &RunRecord) -> Markup {
    let found = |name: &str, axis: &AxisRecord| {
        let mut cases = record.cases.iter();
        cases.find(|case| case.case == name && case.axis == axis.axis)
    };
    let table = html! {
        table.grid {
            thead { tr { th { "Case" } @for axis in &record.axes { (column(axis)) } } }
            tbody {
                @for name in names_worst_first(record) {
                    tr data-case=(Text(name)) {
                        th scope="row" { (Text(name)) }
                        @for axis in &record.axes {
                            @match found(name, axis) {
                                Some(case) => { (cell(case)) }
                                None => { td.none {} }
                            }
                        }
                    }
                }
            }
        }
    };
    html! {
        section { h2 { "Cases and kernels" } (layout::wide(&table)) }
    }
}

/// What a column is for on its first line, how it was built on the second.
fn column(axis: &AxisRecord) -> Markup {
    let name = axis.axis.to_string();
    let cut = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at);
    html! {
        th { (Text(&name[..cut])) br; small { (Text(name[cut..].trim_start_matches('/'))) } }
    }
}

fn cell(case: &CaseRecord) -> Markup {
    html! {
        td data-outcome=(name(case.outcome)) {
            a.cell.(class(case.outcome)) href={ "#" (id(case)) } {
                (case.outcome.shown().to_lowercase()) " " span { (took(case)) }
            }
        }
    }
}

/// Bars of HTML: they follow the width of the screen, and their numbers can be read aloud and copied.
fn chart(record: &RunRecord) -> Markup {
    let longest = record.cases.iter().map(whole).max().unwrap_or(1).max(1);
    let bar = |kind: &str, ms: u64| {
        let share = 100.0 * to_f64(ms) / to_f64(longest);
        html! { i.bar.(kind) style=(format!("width:{share:.2}%")) {} }
    };
    let own = |axis: &AxisRecord| {
        let mut own: Vec<&CaseRecord> = record.cases.iter().filter(|case| case.axis == axis.axis).collect();
        own.sort_by_key(|case| Reverse(whole(case)));
        own
    };
    html! {
        section {
            h2 { "Times" }
            p.legend { i.bar.build {} " build " i.bar.guest {} " in the guest" }
            @for axis in &record.axes {
                details.chart open {
                    summary { (Text(&axis.axis.to_string())) }
                    div.bars {
                        @for case in own(axis) {
                            a.row href={ "#" (id(case)) } data-case=(Text(&case.case)) {
                                span.label { (Text(&case.case)) }
                                span.track { (bar("build", case.build_ms)) (bar("guest", case.guest_ms)) }
                                span.n { (took(case)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mutants(record: &RunRecord) -> Markup {
    if record.mutants.is_empty() {
        return html! {};
    }
    let row = |damage: &str, mutants: &[&MutantRecord]| {
        let caught = mutants.iter().filter(|mutant| mutant.caught.is_some()).count();
        let by = mutants
            .iter()
            .map(|mutant| mutant.caught.as_deref().unwrap_or("SURVIVED"));
        let all = caught == mutants.len();
        html! {
            tr.good[all].bad[!all] {
                th scope="row" { (Text(damage)) }
                td.n { (caught) " of " (mutants.len()) }
                td { @for by in by.collect::<BTreeSet<&str>>() { div { (Text(by)) } } }
            }
        }
    };
    let table = html! {
        table {
            thead { tr { th { "Damage" } th.n { "Caught" } th { "By" } } }
            tbody { @for (damage, mutants) in by_damage(&record.mutants) { (row(damage, &mutants)) } }
        }
    };
    html! {
        section {
            h2 { "Damaged modules" }
            p { "Each good module was damaged one rule at a time; the check or the booted machine must notice." }
            (layout::wide(&table))
        }
    }
}

fn cases(title: &str, cases: &[&CaseRecord]) -> Markup {
    if cases.is_empty() {
        return html! {};
    }
    html! {
        section { h2 { (title) } @for one in cases { (case(one)) } }
    }
}

fn case(case: &CaseRecord) -> Markup {
    html! {
        // What is wrong should be seen without a click.
        details.case #(id(case)) data-case=(Text(&case.case)) open[!case.outcome.is_good()] {
            summary {
                span.chip.(class(case.outcome)) { (case.outcome.shown().to_lowercase()) }
                " " (Text(&case.case)) " " small { (Text(&case.axis.to_string())) }
            }
            p { (Text(&case.why)) }
            p.dim { "Expected: " (Text(&case.expected)) }
            @if !case.detail.is_empty() { pre.detail { (Text(&case.detail)) } }
            (functions(case))
            // A case that failed has them in its detail.
            @for refusal in case.refusals.iter().filter(|refusal| !case.detail.contains(*refusal)) {
                pre { (Text(refusal)) }
            }
            @for patch in &case.patches {
                details { summary { (Text(&patch.name)) } pre.diff { (coloured(&patch.text)) } }
            }
            // Without functions there is no module, and the refusals have been told.
            @if !case.snapshot.is_empty() && !case.functions.is_empty() {
                details { summary { "What is in the module" } pre { (Text(&case.snapshot)) } }
            }
            @for plan in &case.plans { (in_the_guest(plan)) }
            (steps(case))
            (layout::command("Reproduce", &case.reproduce))
            @if let Some(kept) = &case.kept { p.dim { "Kept: " code { (Text(kept)) } } }
        }
    }
}

fn functions(case: &CaseRecord) -> Markup {
    if case.functions.is_empty() {
        return html! {};
    }
    html! {
        ul.functions {
            @for function in &case.functions {
                li {
                    code { (Text(&function.object)) ":" (Text(&function.name)) }
                    @if function.sympos > 0 { ", number " (function.sympos) " of its name" }
                    br;
                    small { (Text(&function.reason)) }
                }
            }
        }
    }
}

fn in_the_guest(plan: &PlanRecord) -> Markup {
    let output = |step: &crate::e2e::record::StepRecord| {
        let mut output = step.output.trim().to_owned();
        for line in &step.kernel {
            output.push_str("\n[kernel] ");
            output.push_str(line);
        }
        output.trim().to_owned()
    };
    html! {
        details {
            summary { "In the guest: " (Text(&plan.name)) " (" (Text(&plan.outcome)) ")" }
            ol.steps {
                @for step in &plan.steps {
                    @let output = output(step);
                    li {
                        (Text(&step.label)) " " small { (seconds(Duration::from_millis(step.ms))) }
                        @if !output.is_empty() { pre { (Text(&output)) } }
                    }
                }
            }
        }
    }
}

fn steps(case: &CaseRecord) -> Markup {
    if case.steps.is_empty() {
        return html! {};
    }
    html! {
        details {
            summary { "Build, " (seconds(Duration::from_millis(case.build_ms))) }
            table {
                tbody {
                    @for step in &case.steps {
                        tr { td { (Text(&step.name)) } td.n { (seconds(Duration::from_millis(step.ms))) } }
                    }
                }
            }
        }
    }
}

/// A patch with its lines marked.
fn coloured(patch: &str) -> Markup {
    html! {
        @for (index, line) in patch.lines().enumerate() {
            @if index > 0 { "\n" }
            @match line.as_bytes().first() {
                Some(b'+') if !line.starts_with("+++") => { ins { (Text(line)) } }
                Some(b'-') if !line.starts_with("---") => { del { (Text(line)) } }
                Some(b'@') => { b { (Text(line)) } }
                _ => { (Text(line)) }
            }
        }
    }
}

/// What a link inside the page goes to.
fn id(case: &CaseRecord) -> String {
    format!("{}/{}", case.axis, case.case)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

fn name(outcome: Outcome) -> String {
    outcome.shown().to_lowercase().replace(' ', "-")
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed | Outcome::Built => "good",
        Outcome::RefusedAsExpected | Outcome::NoChangeAsExpected | Outcome::BootOnlyAsExpected => "plain",
        Outcome::KnownBad | Outcome::Infrastructure => "odd",
        _ => "bad",
    }
}

/// Building and booting, in milliseconds.
fn whole(case: &CaseRecord) -> u64 {
    case.build_ms + case.guest_ms
}

fn took(case: &CaseRecord) -> String {
    seconds(Duration::from_millis(whole(case)))
}

fn time(took: f64) -> String {
    seconds(Duration::from_secs_f64(took))
}

fn to_f64(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
