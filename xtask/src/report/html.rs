//! The report as one page that needs nothing else: no server, no network, no second file.
//!
//! Everything is in the page as HTML, so it can be read without JavaScript; the script only filters the grid.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::escaped;
use crate::e2e::record::{AxisRecord, CaseRecord, PlanRecord, RunRecord};
use crate::e2e::{ALL, Outcome};
use kpatch_build::ui::seconds;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub fn page(record: &RunRecord) -> String {
    let mut page = Page {
        record,
        text: String::new(),
    };
    page.head();
    page.overview();
    page.grid();
    page.chart();
    page.mutants();
    page.details();
    page.put(format_args!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    page.text
}

struct Page<'r> {
    record: &'r RunRecord,
    text: String,
}

impl Page<'_> {
    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("writing to a String cannot fail");
    }

    fn head(&mut self) {
        let bad = self.record.cases.iter().filter(|case| !case.outcome.is_good()).count();
        let title = if bad == 0 {
            "all as it should be".to_owned()
        } else {
            format!("{bad} not as it should be")
        };
        let took = seconds(Duration::from_secs_f64(self.record.seconds));
        let (count, axes) = (self.record.cases.len(), self.record.axes.len());
        let places = if axes == 1 {
            "one kernel".to_owned()
        } else {
            format!("{axes} kernels")
        };
        self.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Livepatch cases: {title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>Livepatch cases</h1>\n\
             <p class=\"verdict {}\">{title}</p>\n<p>{count} cases on {places} in {took}</p>\n</header>\n<main>\n",
            if bad == 0 { "good" } else { "bad" }
        ));
    }

    fn overview(&mut self) {
        self.put(format_args!("<section id=\"overview\">\n<ul class=\"counts\">\n"));
        for outcome in ALL {
            let count = self.record.cases.iter().filter(|case| case.outcome == outcome).count();
            if count > 0 {
                let (class, name) = (class(outcome), name(outcome));
                self.put(format_args!(
                    "<li><button type=\"button\" class=\"count {class}\" data-outcome=\"{name}\" aria-pressed=\"false\">\
                     <b>{count}</b> {}</button></li>\n",
                    outcome.shown().to_lowercase()
                ));
            }
        }
        self.put(format_args!(
            "</ul>\n<label class=\"find\">Find a case <input type=\"search\" id=\"find\" autocomplete=\"off\"></label>\n"
        ));
        self.put(format_args!("<div class=\"scroll\"><table class=\"places\">\n<thead><tr><th>Kernel<th>Release<th class=\"n\">Cases<th class=\"n\">Time<th class=\"n\">Per case<th class=\"n\">Boots<th class=\"n\">To first sign<th>CPU<th class=\"n\">Kernel build</tr></thead>\n<tbody>\n"));
        for axis in &self.record.axes {
            self.place(axis);
        }
        self.put(format_args!("</tbody></table></div>\n</section>\n"));
    }

    fn place(&mut self, axis: &AxisRecord) {
        let cases = self.record.cases.iter().filter(|case| case.axis == axis.axis).count();
        let each = axis.seconds / u32::try_from(cases.max(1)).map_or(f64::INFINITY, f64::from);
        let build = axis
            .baseline_seconds
            .map_or_else(|| "-".to_owned(), |took| seconds(Duration::from_secs_f64(took)));
        let took = seconds(Duration::from_secs_f64(axis.seconds));
        let (name, release) = (escaped(&axis.axis.to_string()), escaped(&axis.release));
        let accelerator = escaped(&axis.accelerator);
        self.put(format_args!(
            "<tr><th scope=\"row\">{name}<td>{release}<td class=\"n\">{cases}<td class=\"n\">{took}<td class=\"n\">{each:.1} s\
             <td class=\"n\">{}<td class=\"n\">{:.1} s<td>{accelerator}<td class=\"n\">{build}</tr>\n",
            axis.boots, axis.boot_seconds
        ));
    }

    fn grid(&mut self) {
        let axes = &self.record.axes;
        self.put(format_args!(
            "<section>\n<h2>Cases and kernels</h2>\n<div class=\"scroll\"><table class=\"grid\">\n<thead><tr><th>Case"
        ));
        for axis in axes {
            let name = escaped(&axis.axis.to_string());
            // What a column is for on its first line, how it was built on the second.
            let cut = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at);
            let (what, how) = (&name[..cut], name[cut..].trim_start_matches('/'));
            self.put(format_args!("<th>{what}<br><small>{how}</small>"));
        }
        self.put(format_args!("</tr></thead>\n<tbody>\n"));
        let names: BTreeSet<&str> = self.record.cases.iter().map(|case| case.case.as_str()).collect();
        for case in names {
            let shown = escaped(case);
            self.put(format_args!("<tr data-case=\"{shown}\"><th scope=\"row\">{shown}"));
            for axis in axes {
                let found = self
                    .record
                    .cases
                    .iter()
                    .find(|row| row.case == case && row.axis == axis.axis);
                match found {
                    Some(found) => self.cell(found),
                    None => self.put(format_args!("<td class=\"none\">")),
                }
            }
            self.put(format_args!("</tr>\n"));
        }
        self.put(format_args!("</tbody></table></div>\n</section>\n"));
    }

    fn cell(&mut self, case: &CaseRecord) {
        let (class, name, id) = (class(case.outcome), name(case.outcome), id(case));
        let took = seconds(Duration::from_millis(case.build_ms + case.guest_ms));
        self.put(format_args!(
            "<td data-outcome=\"{name}\"><a class=\"cell {class}\" href=\"#{id}\">{} <span>{took}</span></a>",
            case.outcome.shown().to_lowercase()
        ));
    }

    /// Bars of HTML: they follow the width of the screen, and their numbers can be read aloud and copied.
    fn chart(&mut self) {
        let built: Vec<&CaseRecord> = self.record.cases.iter().collect();
        let longest = built
            .iter()
            .map(|case| case.build_ms + case.guest_ms)
            .max()
            .unwrap_or(1)
            .max(1);
        self.put(format_args!(
            "<section>\n<h2>Times</h2>\n<p class=\"legend\"><i class=\"bar build\"></i> build <i class=\"bar guest\"></i> in the guest</p>\n"
        ));
        for axis in &self.record.axes {
            let mut own: Vec<&CaseRecord> = built.iter().copied().filter(|case| case.axis == axis.axis).collect();
            own.sort_by_key(|case| std::cmp::Reverse(case.build_ms + case.guest_ms));
            let name = escaped(&axis.axis.to_string());
            self.put(format_args!(
                "<details class=\"chart\" open><summary>{name}</summary>\n<div class=\"bars\">\n"
            ));
            for case in own {
                let share = |ms: u64| 100.0 * to_f64(ms) / to_f64(longest);
                let (build, guest) = (share(case.build_ms), share(case.guest_ms));
                let took = seconds(Duration::from_millis(case.build_ms + case.guest_ms));
                let (shown, id) = (escaped(&case.case), id(case));
                self.put(format_args!(
                    "<a class=\"row\" href=\"#{id}\" data-case=\"{shown}\"><span class=\"label\">{shown}</span><span class=\"track\">\
                     <i class=\"bar build\" style=\"width:{build:.2}%\"></i><i class=\"bar guest\" style=\"width:{guest:.2}%\"></i></span>\
                     <span class=\"n\">{took}</span></a>\n"
                ));
            }
            self.put(format_args!("</div></details>\n"));
        }
        self.put(format_args!("</section>\n"));
    }

    fn mutants(&mut self) {
        if self.record.mutants.is_empty() {
            return;
        }
        let mut damages: BTreeMap<&str, Vec<&crate::e2e::record::MutantRecord>> = BTreeMap::new();
        for mutant in &self.record.mutants {
            damages.entry(&mutant.damage).or_default().push(mutant);
        }
        self.put(format_args!(
            "<section>\n<h2>Damaged modules</h2>\n<p>Each good module was damaged one rule at a time; the check or the booted machine must notice.</p>\n\
             <div class=\"scroll\"><table>\n<thead><tr><th>Damage<th class=\"n\">Caught<th>By</tr></thead>\n<tbody>\n"
        ));
        for (damage, mutants) in damages {
            let caught = mutants.iter().filter(|mutant| mutant.caught.is_some()).count();
            let by: BTreeSet<&str> = mutants
                .iter()
                .map(|mutant| mutant.caught.as_deref().unwrap_or("SURVIVED"))
                .collect();
            let by: Vec<String> = by.into_iter().map(escaped).collect();
            let class = if caught == mutants.len() { "good" } else { "bad" };
            self.put(format_args!(
                "<tr class=\"{class}\"><th scope=\"row\">{}<td class=\"n\">{caught} of {}<td>{}</tr>\n",
                escaped(damage),
                mutants.len(),
                by.join("<br>")
            ));
        }
        self.put(format_args!("</tbody></table></div>\n</section>\n"));
    }

    fn details(&mut self) {
        self.put(format_args!("<section>\n<h2>Each case</h2>\n"));
        let record = self.record;
        for case in &record.cases {
            self.case(case);
        }
        self.put(format_args!("</section>\n"));
    }

    fn case(&mut self, case: &CaseRecord) {
        let (class, id, name) = (class(case.outcome), id(case), escaped(&case.case));
        let axis = escaped(&case.axis.to_string());
        // What is wrong should be seen without a click.
        let open = if case.outcome.is_good() { "" } else { " open" };
        self.put(format_args!(
            "<details class=\"case\" id=\"{id}\" data-case=\"{name}\"{open}>\n<summary><span class=\"chip {class}\">{}</span> {name} \
             <small>{axis}</small></summary>\n<p>{}</p>\n<p class=\"dim\">Expected: {}</p>\n",
            case.outcome.shown().to_lowercase(),
            escaped(&case.why),
            escaped(&case.expected)
        ));
        if !case.detail.is_empty() {
            self.put(format_args!("<pre class=\"detail\">{}</pre>\n", escaped(&case.detail)));
        }
        self.functions(case);
        for refusal in &case.refusals {
            self.put(format_args!("<pre>{}</pre>\n", escaped(refusal)));
        }
        for patch in &case.patches {
            self.put(format_args!(
                "<details><summary>{}</summary>\n<pre class=\"diff\">{}</pre></details>\n",
                escaped(&patch.name),
                coloured(&patch.text)
            ));
        }
        if !case.snapshot.is_empty() {
            self.put(format_args!(
                "<details><summary>What is in the module</summary>\n<pre>{}</pre></details>\n",
                escaped(&case.snapshot)
            ));
        }
        for plan in &case.plans {
            self.plan(plan);
        }
        self.steps(case);
        self.put(format_args!(
            "<p class=\"dim\">Again: <code>{}</code></p>\n",
            escaped(&case.reproduce)
        ));
        if let Some(kept) = &case.kept {
            self.put(format_args!(
                "<p class=\"dim\">Kept: <code>{}</code></p>\n",
                escaped(kept)
            ));
        }
        self.put(format_args!("</details>\n"));
    }

    fn functions(&mut self, case: &CaseRecord) {
        if case.functions.is_empty() {
            return;
        }
        self.put(format_args!("<ul class=\"functions\">\n"));
        for function in &case.functions {
            let position = match function.sympos {
                0 => String::new(),
                position => format!(", number {position} of its name"),
            };
            self.put(format_args!(
                "<li><code>{}:{}</code>{position}<br><small>{}</small></li>\n",
                escaped(&function.object),
                escaped(&function.name),
                escaped(&function.reason)
            ));
        }
        self.put(format_args!("</ul>\n"));
    }

    fn plan(&mut self, plan: &PlanRecord) {
        self.put(format_args!(
            "<details><summary>In the guest: {} ({})</summary>\n<ol class=\"steps\">\n",
            escaped(&plan.name),
            escaped(&plan.outcome)
        ));
        for step in &plan.steps {
            let took = seconds(Duration::from_millis(step.ms));
            self.put(format_args!("<li>{} <small>{took}</small>", escaped(&step.label)));
            let mut output = step.output.trim().to_owned();
            for line in &step.kernel {
                output.push_str("\n[kernel] ");
                output.push_str(line);
            }
            if !output.trim().is_empty() {
                self.put(format_args!("<pre>{}</pre>", escaped(output.trim())));
            }
            self.put(format_args!("</li>\n"));
        }
        self.put(format_args!("</ol></details>\n"));
    }

    fn steps(&mut self, case: &CaseRecord) {
        if case.steps.is_empty() {
            return;
        }
        self.put(format_args!(
            "<details><summary>Build, {}</summary>\n<table><tbody>\n",
            seconds(Duration::from_millis(case.build_ms))
        ));
        for step in &case.steps {
            let took = seconds(Duration::from_millis(step.ms));
            self.put(format_args!(
                "<tr><td>{}<td class=\"n\">{took}</tr>\n",
                escaped(&step.name)
            ));
        }
        self.put(format_args!("</tbody></table></details>\n"));
    }
}

/// A patch with its lines marked.
fn coloured(patch: &str) -> String {
    let line = |line: &str| {
        let text = escaped(line);
        match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++") => format!("<ins>{text}</ins>"),
            Some(b'-') if !line.starts_with("---") => format!("<del>{text}</del>"),
            Some(b'@') => format!("<b>{text}</b>"),
            _ => text,
        }
    };
    patch.lines().map(line).collect::<Vec<_>>().join("\n")
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
        Outcome::RefusedAsExpected | Outcome::NoChangeAsExpected => "plain",
        Outcome::KnownBad | Outcome::Infrastructure => "odd",
        _ => "bad",
    }
}

fn to_f64(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
