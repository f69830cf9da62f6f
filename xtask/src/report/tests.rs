//! The forms of a report, over a run that has one case of each kind.

use super::{escaped, html, junit, markdown, sample};
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
