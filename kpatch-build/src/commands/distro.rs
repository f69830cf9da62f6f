//! `kernel list --distro`: the kernels of a distribution that a livepatch can be built for without building them.

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::supply::stock::expect_machine;
use crate::supply::stock::list::{self, Listed};
use crate::ui::size;

#[derive(Serialize)]
struct List<'a> {
    releases: &'a [Listed],
}

/// Runs `kernel list --distro`.
pub fn list(context: &Context<'_>) -> Result<()> {
    expect_machine()?;
    let store = context.store()?;
    let listed = context
        .ui
        .phase("read the package lists", |phase| list::list(&store, phase))?;
    if context.common.json {
        return context.ui.document(List { releases: &listed });
    }
    context.ui.say(table(&listed));
    Ok(())
}

fn table(listed: &[Listed]) -> String {
    let width = |of: fn(&Listed) -> &str| listed.iter().map(|one| of(one).len()).max().unwrap_or(0);
    let (release, version, suite) = (
        width(|one| &one.release),
        width(|one| &one.version),
        width(|one| &one.suite),
    );
    let line = |one: &Listed| {
        let state = match (&one.missing, one.download_bytes) {
            _ if one.in_store => "in the store".to_owned(),
            (Some(missing), _) => missing.clone(),
            (None, Some(bytes)) => size(bytes),
            (None, None) => String::new(),
        };
        format!(
            "{:release$}  {:version$}  {:suite$}  {state}",
            one.release, one.version, one.suite
        )
    };
    listed.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    let listed = [Listed {
        release: "6.1.0-47-amd64".into(),
        version: "6.1.170-3".into(),
        suite: "bookworm".into(),
        download_bytes: Some(1),
        in_store: false,
        missing: None,
    }];
    let document = crate::ui::Document::new(List { releases: &listed });
    vec![serde_json::to_value(document).unwrap()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_a_line_that_says_what_it_costs() {
        let one = |release: &str, in_store, missing: Option<&str>| Listed {
            release: release.into(),
            version: "6.1.170-3".into(),
            suite: "bookworm".into(),
            download_bytes: missing.is_none().then_some(168_000_000),
            in_store,
            missing: missing.map(str::to_owned),
        };
        let listed = [
            one("6.1.0-47-amd64", false, None),
            one("6.1.0-9-amd64", false, Some("its source is gone")),
        ];
        assert_eq!(
            table(&listed),
            "6.1.0-47-amd64  6.1.170-3  bookworm  168 MB\n6.1.0-9-amd64   6.1.170-3  bookworm  its source is gone"
        );
        assert!(table(&[one("x", true, Some("gone"))]).ends_with("in the store"));
    }
}
