//! A survey as one page that needs nothing else, in the style of the end-to-end report and with the same script: a row
//! for each file that can be searched and filtered, and behind it what was said about the file.

use std::fmt::Write as _;

use super::codes;
use super::record::{ALL, Outcome, Record};
use super::tally::{CodeCount, Survey, percent};
use crate::report::escaped;

const STYLE: &str = include_str!("../report/page.css");
const OWN_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("../report/page.js");

/// The most frequent reasons that are shown.
const MOST_CODES: usize = 20;

/// The page.
pub fn page(survey: &Survey) -> String {
    let mut page = Page {
        survey,
        text: String::new(),
    };
    page.head();
    page.overview();
    page.areas();
    page.codes("Why changes were refused", &[Outcome::Refused]);
    page.codes("What failed", &[Outcome::Stalled, Outcome::Failed, Outcome::Misbehaved]);
    page.files();
    page.details();
    page.how();
    page.put(format_args!(
        "</main>\n<footer></footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    ));
    page.text
}

struct Page<'s> {
    survey: &'s Survey,
    text: String,
}

impl Page<'_> {
    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("writing to a String cannot fail");
    }

    fn head(&mut self) {
        let about = &self.survey.about;
        let (from, to, place) = (escaped(&about.from), escaped(&about.to), escaped(&about.place));
        let bad = self.survey.count(Outcome::Misbehaved);
        let class = if bad == 0 { "good" } else { "bad" };
        let (share, changed, in_kernel, judged) = (
            self.survey.share,
            about.changed,
            about.in_kernel,
            self.survey.records.len(),
        );
        let so_far = if about.not_judged == 0 { "" } else { "So far: " };
        let partial = if judged == in_kernel {
            String::new()
        } else {
            let (left_out, waiting) = (about.left_out, about.not_judged);
            format!(
                "<p>Not all of them were tried: {left_out} were left out as asked, {waiting} are still to come.</p>\n"
            )
        };
        self.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Livepatch survey: Linux {from} to {to}</title>\n\
             <style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<header>\n<h1>Livepatch survey: Linux {from} to {to}</h1>\n\
             <p class=\"verdict {class}\">{so_far}{share:.1} % of what changes this kernel can be livepatched</p>\n\
             <p>{changed} files differ. The kernel of {place} is made of {in_kernel} of them; {judged} were tried, each as \
             a patch of its own.</p>\n{partial}</header>\n<main>\n"
        ));
    }

    fn overview(&mut self) {
        let all: Vec<&Record> = self.survey.records.iter().collect();
        self.put(format_args!("<section id=\"overview\" class=\"whole\">\n"));
        self.stack(&all, all.len());
        self.put(format_args!("<ul class=\"counts\">\n"));
        for outcome in ALL {
            let count = self.survey.count(outcome);
            if count > 0 {
                let (class, name, shown) = (class(outcome), outcome.name(), outcome.shown());
                let share = percent(count, all.len());
                self.put(format_args!(
                    "<li><button type=\"button\" class=\"count {class}\" data-outcome=\"{name}\" aria-pressed=\"false\">\
                     <i class=\"swatch fill-{name}\"></i><b>{count}</b> {shown} <small>{share:.1} %</small></button></li>\n"
                ));
            }
        }
        self.put(format_args!("</ul>\n"));
        if self.survey.together > 0 {
            self.put(format_args!(
                "<p>Of the livepatchable files, {} did not compile alone and came with the changes of other files.</p>\n",
                self.survey.together
            ));
        }
        self.put(format_args!("</section>\n"));
    }

    /// One bar, cut by outcome.
    fn stack(&mut self, records: &[&Record], whole: usize) {
        let count = |outcome: Outcome| records.iter().filter(|record| record.outcome == outcome).count();
        let parts: Vec<(Outcome, usize)> = ALL.into_iter().map(|outcome| (outcome, count(outcome))).collect();
        let words: Vec<String> = parts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| format!("{count} {}", outcome.shown()))
            .collect();
        let words = words.join(", ");
        self.put(format_args!(
            "<div class=\"stack\" role=\"img\" aria-label=\"{words}\" title=\"{words}\">"
        ));
        for (outcome, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            let (name, share) = (outcome.name(), percent(count, whole));
            self.put(format_args!(
                "<i class=\"fill-{name}\" style=\"width:{share:.2}%\"></i>"
            ));
        }
        self.put(format_args!("</div>\n"));
    }

    fn areas(&mut self) {
        let areas = self.survey.areas();
        let most = areas.first().map_or(1, |(_, records)| records.len());
        self.put(format_args!("<section class=\"areas\">\n<h2>Where in the tree</h2>\n"));
        for (name, records) in areas {
            let doing = records
                .iter()
                .filter(|record| record.outcome != Outcome::NoChange)
                .count();
            let can = records.iter().filter(|record| is_good(record.outcome)).count();
            let (shown, count) = (escaped(&name), records.len());
            let can = if doing == 0 {
                "nothing to do".to_owned()
            } else {
                format!("{can} of {doing} can")
            };
            self.put(format_args!(
                "<div class=\"area\"><span>{shown} <small>{count}</small></span>"
            ));
            self.stack(&records, most);
            self.put(format_args!("<span class=\"n\">{can}</span></div>\n"));
        }
        self.put(format_args!("</section>\n"));
    }

    fn codes(&mut self, title: &str, outcomes: &[Outcome]) {
        let counts = self.survey.codes(outcomes);
        let Some(most) = counts.first().map(|count| count.files) else {
            return;
        };
        self.put(format_args!(
            "<section>\n<h2>{title}</h2>\n<p>A file may have several reasons. The dark part of a bar is of files that have no other.</p>\n\
             <div class=\"scroll\"><table class=\"codes\">\n<thead><tr><th>Reason<th>Files<th class=\"n\">All\
             <th class=\"n\">Only this<th>Could a person do better?</tr></thead>\n<tbody>\n"
        ));
        for count in counts.iter().take(MOST_CODES) {
            self.code(count, most);
        }
        self.put(format_args!("</tbody></table></div>\n</section>\n"));
    }

    fn code(&mut self, count: &CodeCount, most: usize) {
        let (code, name, better) = (
            escaped(&count.code),
            codes::name(&count.code),
            codes::better(&count.code),
        );
        let (files, alone) = (count.files, count.alone);
        let (dark, light) = (percent(alone, most), percent(files - alone, most));
        self.put(format_args!(
            "<tr><th scope=\"row\">{name}<br><code>{code}</code><td class=\"share\"><div class=\"stack\">\
             <i class=\"fill-refused\" style=\"width:{dark:.2}%\"></i>\
             <i class=\"fill-refused\" style=\"width:{light:.2}%;opacity:.45\"></i></div>\
             <td class=\"n\">{files}<td class=\"n\">{alone}<td class=\"better\">{better}</tr>\n"
        ));
    }

    fn files(&mut self) {
        self.put(format_args!(
            "<section>\n<h2>Each file</h2>\n\
             <label class=\"find\">Find a file <input type=\"search\" id=\"find\" autocomplete=\"off\"></label>\n\
             <div class=\"scroll\"><table class=\"grid files\">\n\
             <thead><tr><th>File<th>Outcome<th>Reason<th class=\"n\">Functions<th class=\"n\">Seconds</tr></thead>\n<tbody>\n"
        ));
        let survey = self.survey;
        for (index, record) in survey.records.iter().enumerate() {
            let (file, class, name, shown) = (
                escaped(&record.file),
                class(record.outcome),
                record.outcome.name(),
                record.outcome.shown(),
            );
            let why: Vec<&str> = record.codes.iter().map(|code| codes::name(code)).collect();
            let (why, functions) = (escaped(&why.join(", ")), record.functions.len());
            let wide = file.replace('/', "/<wbr>");
            self.put(format_args!(
                "<tr data-case=\"{file}\"><th scope=\"row\">{wide}<td data-outcome=\"{name}\"><a class=\"cell {class}\" href=\"#f{index}\">{shown}</a>\
                 <td class=\"why\">{why}<td class=\"n\">{functions}<td class=\"n\">{:.1}</tr>\n",
                record.seconds
            ));
        }
        self.put(format_args!("</tbody></table></div>\n</section>\n"));
    }

    fn details(&mut self) {
        self.put(format_args!("<section>\n<h2>What was said about them</h2>\n"));
        let survey = self.survey;
        for (index, record) in survey.records.iter().enumerate() {
            self.file(index, record);
        }
        self.put(format_args!("</section>\n"));
    }

    fn file(&mut self, index: usize, record: &Record) {
        let (file, class, shown) = (escaped(&record.file), class(record.outcome), record.outcome.shown());
        let open = if record.outcome >= Outcome::Failed { " open" } else { "" };
        let units = match record.units {
            1 => "part of one object".to_owned(),
            units => format!("part of {units} objects"),
        };
        self.put(format_args!(
            "<details class=\"case\" id=\"f{index}\" data-case=\"{file}\"{open}>\n\
             <summary><span class=\"chip {class}\">{shown}</span> {file} <small>{units}</small></summary>\n"
        ));
        if !record.with.is_empty() {
            let with = escaped(&record.with.join(", "));
            self.put(format_args!(
                "<p>Together with {with}, without which it does not compile.</p>\n"
            ));
        }
        if !record.functions.is_empty() {
            self.put(format_args!("<ul class=\"functions\">\n"));
            for function in &record.functions {
                self.put(format_args!("<li><code>{}</code></li>\n", escaped(function)));
            }
            self.put(format_args!("</ul>\n"));
        }
        if !record.detail.is_empty() {
            self.put(format_args!("<pre>{}</pre>\n", escaped(&record.detail)));
        }
        self.put(format_args!("</details>\n"));
    }

    fn how(&mut self) {
        let about = &self.survey.about;
        let (from, to) = (escaped(&about.from), escaped(&about.to));
        let tools: Vec<&str> = about.tools.iter().map(String::as_str).collect();
        let tools = escaped(&tools.join(", "));
        self.put(format_args!(
            "<section>\n<h2>How this was made</h2>\n\
             <p>The sources of {from} and {to} were compared. Each changed file that the kernel was compiled from, headers \
             included, became a patch and went through <code>build-patch</code>. A file whose change does not compile alone was \
             tried again with the changes of the files that the compiler asked for. Every module was loaded in a booted \
             {from}: its functions had to be listed as patched, every task had to switch over, the module had to be \
             disabled and removed, and the kernel log had to stay clean. Whether the new code does what its author wanted was \
             not looked at: that takes a check for each fix.</p>\n\
             <p>A file is not a fix. One fix often changes several files, and one file often has several fixes, of which one \
             may be refused and take the others with it; so the share of fixes that can be livepatched is another number.</p>\n\
             <p class=\"dim\">Again: <code>cargo xtask survey --from {from} --to {to}</code>; state of the tool: {tools}</p>\n\
             </section>\n"
        ));
    }
}

fn is_good(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Livepatchable | Outcome::Built)
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Livepatchable | Outcome::Built => "good",
        Outcome::NoChange | Outcome::NeedsOthers => "plain",
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
