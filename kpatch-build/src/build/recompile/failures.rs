//! All files that do not compile, where the first would hide the others: of a series each may be of another patch.

use anyhow::{Result, anyhow};

use super::DoesNotCompile;

/// What the compiler said of several files; below [`DoesNotCompile`], which names the first.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} files do not compile", .0.len())]
pub struct Failures(pub Vec<Failure>);

/// What the compiler said of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The object that was to be made, relative to the build directory.
    pub object: String,
    /// Its messages.
    pub text: String,
}

/// All results, or what went wrong: the first failure that says nothing about a patch, else all those that do.
pub fn all<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => done.push(one),
            Err(error) if error.is::<DoesNotCompile>() => failed.push(error),
            Err(error) => return Err(error),
        }
    }
    match failed.len() {
        0 => Ok(done),
        1 => Err(failed.remove(0)),
        _ => Err(together(&failed)),
    }
}

fn together(failed: &[anyhow::Error]) -> anyhow::Error {
    let of = |error: &anyhow::Error| Failure {
        object: object(error),
        text: format!("{error:#}"),
    };
    let all: Vec<Failure> = failed.iter().map(of).collect();
    let text: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
    let first = all[0].object.clone();
    anyhow!(text.join("\n"))
        .context(Failures(all))
        .context(DoesNotCompile { object: first })
}

fn object(error: &anyhow::Error) -> String {
    error
        .downcast_ref::<DoesNotCompile>()
        .map_or_else(String::new, |one| one.object.clone())
}

/// The failures of an error; none if it is of another kind.
pub fn of(error: &anyhow::Error) -> Vec<Failure> {
    match error.downcast_ref::<Failures>() {
        Some(Failures(all)) => all.clone(),
        None if error.is::<DoesNotCompile>() => vec![Failure {
            object: object(error),
            text: format!("{error:#}"),
        }],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Ending;

    #[test]
    fn every_file_that_does_not_compile_is_told_unless_something_else_went_wrong() {
        let failed =
            |object: &str| -> Result<()> { Err(DoesNotCompile::because(anyhow!("{object}: error: x"), object)) };
        let error = all(vec![failed("a.o"), Ok(()), failed("b.o")]).unwrap_err();
        let objects: Vec<String> = of(&error).into_iter().map(|one| one.object).collect();
        assert_eq!(objects, ["a.o", "b.o"]);
        assert!(format!("{error:#}").contains("b.o: error: x"));
        let one = all(vec![failed("a.o"), Ok(())]).unwrap_err();
        assert!(!one.is::<Failures>() && of(&one).len() == 1);
        let other = all(vec![failed("a.o"), Err(Ending::infrastructure("interrupted"))]).unwrap_err();
        assert!(other.is::<Ending>() && of(&other).is_empty());
        assert_eq!(all(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
