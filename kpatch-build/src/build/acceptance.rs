//! What the user answers for by name: changes that are dangerous unless one knows that nothing holds on to what changes,
//! which nobody can tell from the code.

use kpatch_core::{Refusal, Subject};

pub use kpatch_core::codes::patch::NOTHING_TO_ACCEPT;
/// Parts refusals into those whose symbol is among the names, and the others.
pub fn split(refusals: impl IntoIterator<Item = Refusal>, names: &[String]) -> (Vec<Refusal>, Vec<Refusal>) {
    let is_accepted = |refusal: &Refusal| names.iter().any(|name| refusal.is_about(name));
    refusals.into_iter().partition(is_accepted)
}

/// A refusal for each name that nothing was refused for: it may be misspelt, or the patch is not the one that was meant.
pub fn unused(names: &[String], accepted: &[Refusal]) -> Vec<Refusal> {
    let unused = names
        .iter()
        .filter(|name| !accepted.iter().any(|refusal| refusal.is_about(name)));
    let refuse = |name: &String| {
        let why = format!("--accept {name}: nothing of this name is refused");
        Refusal::new(NOTHING_TO_ACCEPT, Subject::default().symbol(name), why).hint("leave it out, or correct the name")
    };
    unused.map(refuse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(symbol: &str) -> Refusal {
        Refusal::new(
            kpatch_core::codes::patch::LAYOUT_CHANGED,
            Subject::file("a.c").symbol(symbol),
            "changed",
        )
    }

    fn symbols(refusals: &[Refusal]) -> Vec<&str> {
        refusals
            .iter()
            .filter_map(|refusal| refusal.at.symbol.as_deref())
            .collect()
    }

    #[test]
    fn a_name_is_accepted_with_and_without_what_belongs_to_it() {
        let refusals = ["struct sock", "lock_t", "fops.llvm.7"].map(refusal);
        let names = ["sock", "fops"].map(str::to_owned);
        let (accepted, against) = split(refusals.clone(), &names);
        assert_eq!(
            (symbols(&accepted), symbols(&against)),
            (vec!["struct sock", "fops.llvm.7"], vec!["lock_t"])
        );
        let (accepted, against) = split(refusals, &["struct sock".to_owned()]);
        assert_eq!((accepted.len(), symbols(&against)), (1, vec!["lock_t", "fops.llvm.7"]));
    }

    #[test]
    fn a_name_that_nothing_is_refused_for_is_refused() {
        let names = ["sock", "sokc"].map(str::to_owned);
        let refusals = unused(&names, &[refusal("struct sock")]);
        assert_eq!(symbols(&refusals), ["sokc"]);
        assert_eq!(refusals[0].code, NOTHING_TO_ACCEPT);
    }
}
