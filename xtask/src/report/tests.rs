//! The forms of a report, over a run that has one case of each kind.

use super::{escaped, html, junit, markdown, sample};
use crate::e2e::Outcome;
use crate::e2e::record::RunRecord;

#[test]
fn what_is_written_can_be_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    super::write(&sample::record(), folder.path()).expect("written");
    let text = std::fs::read_to_string(folder.path().join(super::RESULTS)).expect("there");
    let read: RunRecord = serde_json::from_str(&text).expect("our own format");
    assert_eq!(read.cases.len(), sample::record().cases.len());
}

#[test]
fn no_text_of_a_run_becomes_markup() {
    let page = html::page(&sample::record());
    assert!(page.contains("Because of &lt;b&gt;this&lt;/b&gt;."));
    assert!(page.contains("new &lt;/script&gt;"));
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains('\u{7}') && !page.contains('\u{1b}'));
}

#[test]
fn the_page_needs_nothing_else() {
    let page = html::page(&sample::record());
    for outside in ["http://", "https://", "src=", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let page = html::page(&sample::record());
    let links: Vec<&str> = page
        .split("href=\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(!links.is_empty());
    for link in links {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
}

#[test]
fn what_is_not_as_expected_comes_first() {
    let mut record = sample::record();
    record.cases.reverse();
    let bad: Vec<(&str, Outcome)> = html::worst_first(&record)
        .into_iter()
        .map(|case| (case.case.as_str(), case.outcome))
        .collect();
    let expected = [
        ("bad-one", Outcome::Panic),
        ("bad-one", Outcome::BehaviourWrong),
        ("no-machine", Outcome::Infrastructure),
    ];
    assert_eq!(bad, expected);
    let names = html::names_worst_first(&record);
    assert_eq!(names, ["bad-one", "no-machine", "good-one", "refuse-this"]);
    let page = html::page(&record);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not there"));
    assert!(at("3 results are not as expected") < at("<h2>Not as expected"));
    assert!(at("<h2>Not as expected") < at("<h2>Cases and kernels"));
    assert!(at("<h2>Cases and kernels") < at("<h2>The other cases"));
    let case = |name: &str| at(&format!("id=\"6-12-x86-64-clang-19-small-{name}\""));
    assert!(case("bad-one") < case("no-machine") && case("no-machine") < case("good-one"));
}

#[test]
fn a_good_run_says_so_and_has_no_empty_section() {
    let mut record = sample::record();
    record.cases.retain(|case| case.outcome.is_good());
    record.mutants.clear();
    let page = html::page(&record);
    for wanted in [
        "All results as expected",
        "2026-01-02 03:04 UTC",
        "<code>0123456789ab</code>",
        "<h2>Each case",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("Not as expected") && !page.contains("Damaged modules"));
}

#[test]
fn only_a_case_with_a_module_says_what_is_in_it() {
    let mut record = sample::record();
    let is_said = |record: &RunRecord| html::page(record).matches("What is in the module").count();
    assert_eq!(is_said(&record), record.cases.len());
    record.cases[0].functions.clear();
    assert_eq!(is_said(&record), record.cases.len() - 1);
}

#[test]
fn a_command_breaks_between_words_only() {
    let page = html::page(&sample::record());
    let words = "<span>cargo</span> <span>xtask</span> <span>e2e</span> <span>--case</span> <span>good-one</span>";
    assert!(page.contains(words), "{page}");
}

#[test]
fn damages_are_counted_by_their_name() {
    let mut record = sample::record();
    let mut other = record.mutants[0].clone();
    other.caught = Some("check klp.bad-call".into());
    record.mutants.extend([other.clone(), other]);
    record.mutants[2].damage = "another".into();
    let groups: Vec<(&str, usize)> = html::by_damage(&record.mutants)
        .into_iter()
        .map(|(damage, mutants)| (damage, mutants.len()))
        .collect();
    assert_eq!(groups, [("another", 1), ("wrong-addend", 2)]);
    let page = html::page(&record);
    assert!(page.contains("1 of 2") && page.contains("1 of 1"));
    assert!(page.contains("<div>SURVIVED</div>"));
}

#[test]
fn junit_counts_failures_and_errors() {
    let text = junit::document(&sample::record());
    let suite = "<testsuite name=\"6.12/x86_64/clang-19/small\" tests=\"4\" failures=\"1\" errors=\"1\"";
    assert!(text.contains(suite), "{text}");
    assert!(text.contains("step &lt;1&gt; &amp; &quot;2&quot;\u{fffd}"), "{text}");
    assert!(text.contains("survived"));
}

#[test]
fn markdown_has_a_row_for_each_case_and_the_bad_ones_in_full() {
    let text = markdown::summary(&sample::record());
    for wanted in ["| good-one |", "**PANIC: bad-one**", "--case bad-one", "**SURVIVED**"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn control_characters_become_visible() {
    assert_eq!(escaped("a\x00<\n"), "a\u{fffd}&lt;\n");
}
