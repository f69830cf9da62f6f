//! JUnit XML: what CI systems and editors read as test results.

use std::fmt::Write as _;

use super::escaped;
use crate::e2e::Outcome;
use crate::e2e::record::{CaseRecord, RunRecord};

/// The document: one suite for each place, one test case for each case.
pub fn document(record: &RunRecord) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"e2e\">\n");
    for axis in &record.axes {
        let own: Vec<&CaseRecord> = record.cases.iter().filter(|case| case.axis == axis.axis).collect();
        let (errors, failures) = own.iter().fold((0, 0), |(errors, failures), case| match case.outcome {
            outcome if outcome.is_good() => (errors, failures),
            Outcome::Infrastructure => (errors + 1, failures),
            _ => (errors, failures + 1),
        });
        let name = escaped(&axis.axis.to_string());
        let time: f64 = own.iter().map(|case| seconds(case)).sum();
        let count = own.len();
        put(
            &mut text,
            format_args!(
                "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{time:.3}\">\n"
            ),
        );
        for case in own {
            test_case(&mut text, &name, case);
        }
        text.push_str("  </testsuite>\n");
    }
    if !record.mutants.is_empty() {
        mutants(&mut text, record);
    }
    text.push_str("</testsuites>\n");
    text
}

fn test_case(text: &mut String, suite: &str, case: &CaseRecord) {
    let (name, time) = (escaped(&case.case), seconds(case));
    let outcome = escaped(case.outcome.shown());
    put(
        text,
        format_args!("    <testcase classname=\"{suite}\" name=\"{name}\" time=\"{time:.3}\""),
    );
    if case.outcome.is_good() {
        text.push_str("/>\n");
        return;
    }
    let kind = if case.outcome == Outcome::Infrastructure {
        "error"
    } else {
        "failure"
    };
    let (detail, reproduce) = (escaped(&case.detail), escaped(&case.reproduce));
    put(
        text,
        format_args!(
            ">\n      <{kind} type=\"{outcome}\" message=\"{outcome}\">{detail}\nreproduce: {reproduce}</{kind}>\n    </testcase>\n"
        ),
    );
}

fn mutants(text: &mut String, record: &RunRecord) {
    let count = record.mutants.len();
    let survivors = record.mutants.iter().filter(|mutant| mutant.caught.is_none()).count();
    put(
        text,
        format_args!("  <testsuite name=\"mutants\" tests=\"{count}\" failures=\"{survivors}\" errors=\"0\">\n"),
    );
    for mutant in &record.mutants {
        let (case, damage) = (escaped(&mutant.case), escaped(&mutant.damage));
        put(
            text,
            format_args!("    <testcase classname=\"mutants.{case}\" name=\"{damage}\""),
        );
        match &mutant.caught {
            Some(_) => text.push_str("/>\n"),
            None => {
                let detail = escaped(&mutant.detail);
                put(
                    text,
                    format_args!("><failure message=\"survived\">{detail}</failure></testcase>\n"),
                );
            }
        }
    }
    text.push_str("  </testsuite>\n");
}

fn seconds(case: &CaseRecord) -> f64 {
    std::time::Duration::from_millis(case.build_ms + case.guest_ms).as_secs_f64()
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}
