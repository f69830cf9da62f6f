//! docs/JSON.md names every key of every document and event, and none that there is not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{config, distro, doctor, explain, kernel, pins, store};
use crate::summary;
use crate::ui::{Event, FORMAT, PhaseEnd};

const REFERENCE: &str = include_str!("../../../docs/JSON.md");

fn documents() -> Vec<Value> {
    [
        summary::tests::documents(),
        config::documents(),
        distro::documents(),
        doctor::documents(),
        explain::documents(),
        kernel::documents(),
        pins::documents(),
        store::documents(),
    ]
    .concat()
}

fn events() -> Vec<Value> {
    let events = [
        Event::Begun {
            format: FORMAT,
            program: "kpatch",
            version: "0",
        },
        Event::PhaseBegun { phase: "p" },
        Event::Progress {
            phase: "p",
            doing: "d",
            done: Some(1),
            total: Some(2),
            seconds_left: Some(3),
        },
        Event::PhaseEnded {
            phase: "p",
            outcome: PhaseEnd::Ok,
            milliseconds: 1,
        },
        Event::Note { text: "t" },
        Event::Warning { text: "t" },
        Event::Ended {
            exit_code: 0,
            document: Some(Value::Null),
        },
    ];
    let mut values: Vec<Value> = events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap())
        .collect();
    values.push(serde_json::json!({"seconds": 0.5}));
    values
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.keys().cloned());
            members.values().for_each(|member| keys(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The keys in the first column of the reference's tables, but for the last one, which has events there.
fn described() -> BTreeSet<String> {
    let (of_keys, _) = REFERENCE.split_once("| event | with |").unwrap();
    let cells = of_keys
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split(", ")).filter_map(|name| {
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some(name.to_owned())
    });
    names.collect()
}

#[test]
fn every_key_is_described_and_every_description_has_a_key() {
    let mut emitted = BTreeSet::new();
    for value in documents().iter().chain(&events()) {
        keys(value, &mut emitted);
    }
    let described = described();
    let missing: Vec<_> = emitted.difference(&described).collect();
    let stale: Vec<_> = described.difference(&emitted).collect();
    assert!(missing.is_empty(), "not in docs/JSON.md: {missing:?}");
    assert!(stale.is_empty(), "in docs/JSON.md only: {stale:?}");
}

#[test]
fn every_event_is_described() {
    for event in events() {
        let Some(name) = event["event"].as_str() else { continue };
        assert!(REFERENCE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_document_has_its_format() {
    for document in documents() {
        assert_eq!(document["format"], FORMAT, "{document}");
    }
}
