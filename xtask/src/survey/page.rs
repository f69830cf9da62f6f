//! The page of a survey, in the style of the end-to-end report and with the same script: a row for each file that can be
//! searched and filtered, and behind it what was said about the file.

use maud::{Markup, html};

use super::codes;
use super::record::{ALL, Outcome, Record};
use super::tally::{CodeCount, Survey, percent};
use crate::report::layout::{self, Text};

const STYLE: &str = include_str!("page.css");

/// The most frequent reasons that are shown.
const MOST_CODES: usize = 20;

pub fn page(survey: &Survey) -> String {
    let title = format!("Livepatch survey: Linux {} to {}", survey.about.from, survey.about.to);
    let main = html! {
        (overview(survey))
        (areas(survey))
        (reasons(survey, "Why changes were refused", &[Outcome::Refused]))
        (reasons(survey, "What failed", &[Outcome::Stalled, Outcome::Failed, Outcome::Misbehaved]))
        (files(survey))
        (details(survey))
        (how(survey))
    };
    layout::page(&title, STYLE, &header(survey), &main)
}

fn header(survey: &Survey) -> Markup {
    let about = &survey.about;
    let bad = survey.count(Outcome::Misbehaved) > 0;
    let judged = survey.records.len();
    html! {
        p.verdict.good[!bad].bad[bad] {
            @if about.not_judged > 0 { "So far: " }
            (format!("{:.1} %", survey.share)) " of what changes this kernel can be livepatched"
        }
        p {
            (about.changed) " files differ. The kernel of " (Text(&about.place)) " is made of " (about.in_kernel) " of them; "
            (judged) " were tried, each as a patch of its own."
        }
        @if judged != about.in_kernel {
            p {
                "Not all of them were tried: " (about.left_out) " were left out as asked, " (about.not_judged)
                " are still to come."
            }
        }
    }
}

fn overview(survey: &Survey) -> Markup {
    let all: Vec<&Record> = survey.records.iter().collect();
    html! {
        section.whole #overview {
            (stack(&all, all.len()))
            ul.counts {
                @for outcome in ALL.into_iter().filter(|outcome| survey.count(*outcome) > 0) {
                    @let count = survey.count(outcome);
                    li {
                        button.count.(class(outcome)) type="button" data-outcome=(outcome.name()) aria-pressed="false" {
                            i.swatch.(fill(outcome)) {} b { (count) } " " (outcome.shown())
                            " " small { (format!("{:.1} %", percent(count, all.len()))) }
                        }
                    }
                }
            }
            @if survey.together > 0 {
                p {
                    "Of the livepatchable files, " (survey.together) " did not compile alone and came with the changes of \
                     other files."
                }
            }
        }
    }
}

/// One bar, cut by outcome.
fn stack(records: &[&Record], whole: usize) -> Markup {
    let count = |outcome: Outcome| records.iter().filter(|record| record.outcome == outcome).count();
    let parts = ALL.into_iter().map(|outcome| (outcome, count(outcome)));
    let parts: Vec<(Outcome, usize)> = parts.filter(|(_, count)| *count > 0).collect();
    let words = parts
        .iter()
        .map(|(outcome, count)| format!("{count} {}", outcome.shown()));
    let words = words.collect::<Vec<_>>().join(", ");
    html! {
        div.stack role="img" aria-label=(words) title=(words) {
            @for (outcome, count) in parts { i.(fill(outcome)) style=(width(count, whole)) {} }
        }
    }
}

fn areas(survey: &Survey) -> Markup {
    let areas = survey.areas();
    let most = areas.first().map_or(1, |(_, records)| records.len());
    let can = |records: &[&Record]| {
        let doing = records
            .iter()
            .filter(|record| record.outcome != Outcome::NoChange && record.outcome != Outcome::BootOnly)
            .count();
        let can = records.iter().filter(|record| is_good(record.outcome)).count();
        match doing {
            0 => "nothing to do".to_owned(),
            _ => format!("{can} of {doing} can"),
        }
    };
    html! {
        section.areas {
            h2 { "Where in the tree" }
            @for (name, records) in &areas {
                div.area {
                    span { (Text(name)) " " small { (records.len()) } }
                    (stack(records, most))
                    span.n { (can(records)) }
                }
            }
        }
    }
}

fn reasons(survey: &Survey, title: &str, outcomes: &[Outcome]) -> Markup {
    let counts = survey.codes(outcomes);
    let Some(most) = counts.first().map(|count| count.files) else {
        return html! {};
    };
    let table = html! {
        table.codes {
            thead {
                tr {
                    th { "Reason" } th { "Files" } th.n { "All" } th.n { "Only this" } th { "Could a person do better?" }
                }
            }
            tbody { @for count in counts.iter().take(MOST_CODES) { (reason(count, most)) } }
        }
    };
    html! {
        section {
            h2 { (title) }
            p { "A file may have several reasons. The dark part of a bar is of files that have no other." }
            (layout::wide(&table))
        }
    }
}

fn reason(count: &CodeCount, most: usize) -> Markup {
    let refused = fill(Outcome::Refused);
    html! {
        tr {
            th scope="row" { (codes::name(&count.code)) br; code { (Text(&count.code)) } }
            td.share {
                div.stack {
                    i.(refused) style=(width(count.alone, most)) {}
                    i.(refused) style={ (width(count.files - count.alone, most)) ";opacity:.45" } {}
                }
            }
            td.n { (count.files) }
            td.n { (count.alone) }
            td.better { (codes::better(&count.code)) }
        }
    }
}

fn files(survey: &Survey) -> Markup {
    let row = |index: usize, record: &Record| {
        let why: Vec<&str> = record.codes.iter().map(|code| codes::name(code)).collect();
        html! {
            tr data-case=(Text(&record.file)) {
                th scope="row" {
                    @for (part, text) in record.file.split('/').enumerate() {
                        @if part > 0 { "/" wbr; }
                        (Text(text))
                    }
                }
                td data-outcome=(record.outcome.name()) {
                    a.cell.(class(record.outcome)) href={ "#f" (index) } { (record.outcome.shown()) }
                }
                td.why { (Text(&why.join(", "))) }
                td.n { (record.functions.len()) }
                td.n { (format!("{:.1}", record.seconds)) }
            }
        }
    };
    let table = html! {
        table.grid.files {
            thead {
                tr { th { "File" } th { "Outcome" } th { "Reason" } th.n { "Functions" } th.n { "Seconds" } }
            }
            tbody { @for (index, record) in survey.records.iter().enumerate() { (row(index, record)) } }
        }
    };
    html! {
        section {
            h2 { "Each file" }
            (layout::search("Find a file"))
            (layout::wide(&table))
        }
    }
}

fn details(survey: &Survey) -> Markup {
    let mut records: Vec<(usize, &Record)> = survey.records.iter().enumerate().collect();
    // What is wrong comes first; otherwise the order stays.
    records.sort_by_key(|(_, record)| !is_bad(record.outcome));
    html! {
        section {
            h2 { "What was said about them" }
            @for (index, record) in records { (file(index, record)) }
        }
    }
}

fn file(index: usize, record: &Record) -> Markup {
    let units = match record.units {
        1 => "part of one object".to_owned(),
        units => format!("part of {units} objects"),
    };
    html! {
        details.case id={ "f" (index) } data-case=(Text(&record.file)) open[is_bad(record.outcome)] {
            summary {
                span.chip.(class(record.outcome)) { (record.outcome.shown()) }
                " " (Text(&record.file)) " " small { (units) }
            }
            @if !record.with.is_empty() {
                p { "Together with " (Text(&record.with.join(", "))) ", without which it does not compile." }
            }
            @if !record.functions.is_empty() {
                ul.functions { @for function in &record.functions { li { code { (Text(function)) } } } }
            }
            @if !record.detail.is_empty() { pre { (Text(&record.detail)) } }
        }
    }
}

fn how(survey: &Survey) -> Markup {
    let about = &survey.about;
    let (from, to) = (&about.from, &about.to);
    let tools: Vec<&str> = about.tools.iter().map(String::as_str).collect();
    html! {
        section {
            h2 { "How this was made" }
            p {
                "The sources of " (from) " and " (to) " were compared. Each changed file that the kernel was compiled from, \
                 headers included, became a patch and went through " code { "build-patch" } ". A file whose change does not \
                 compile alone was tried again with the changes of the files that the compiler asked for. Every module was \
                 loaded in a booted " (from) ": its functions had to be listed as patched, every task had to switch over, the \
                 module had to be disabled and removed, and the kernel log had to stay clean. Whether the new code does what \
                 its author wanted was not looked at: that takes a check for each fix."
            }
            p {
                "A file is not a fix. One fix often changes several files, and one file often has several fixes, of which one \
                 may be refused and take the others with it; so the share of fixes that can be livepatched is another number."
            }
            p.dim { "State of the tool: " (Text(&tools.join(", "))) }
            (layout::command("Reproduce", &format!("cargo xtask survey --from {from} --to {to}")))
        }
    }
}

fn width(count: usize, whole: usize) -> String {
    format!("width:{:.2}%", percent(count, whole))
}

fn fill(outcome: Outcome) -> String {
    format!("fill-{}", outcome.name())
}

fn is_good(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Livepatchable | Outcome::Built)
}

fn is_bad(outcome: Outcome) -> bool {
    outcome >= Outcome::Failed
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Livepatchable | Outcome::Built => "good",
        Outcome::NoChange | Outcome::BootOnly | Outcome::NeedsOthers => "plain",
        Outcome::Refused | Outcome::Stalled => "odd",
        Outcome::Failed | Outcome::Misbehaved => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::tests::survey;
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_no_text_becomes_markup() {
        let page = page(&survey());
        for outside in ["http://", "https://", "src=", "<link", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("why &lt;b&gt;") && !page.contains("why <b>"));
    }

    #[test]
    fn every_file_has_a_row_that_leads_to_its_details() {
        let page = page(&survey());
        for (index, record) in survey().records.iter().enumerate() {
            assert!(page.contains(&format!("href=\"#f{index}\"")));
            assert!(page.contains(&format!("id=\"f{index}\" data-case=\"{}\"", record.file)));
        }
    }

    #[test]
    fn reasons_have_names_and_advice() {
        let page = page(&survey());
        assert!(page.contains("initial data changed<br><code>select.data-changed</code>"));
        assert!(page.contains(codes::better("select.data-changed")));
    }
}
