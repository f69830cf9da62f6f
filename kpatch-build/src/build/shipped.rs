//! What was proven of the files that a stock kernel ships, in numbers.

use kpatch_core::ObjectName;
use kpatch_core::located::Located;

/// How much of a touched file is the code that a stock kernel ships.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shipped {
    /// Source relative to the source tree.
    pub source: String,
    /// What it is part of.
    pub object: ObjectName,
    /// How many functions of it the kernel has. All are proven to be the compiled ones.
    pub functions: usize,
    /// Functions that differ, or that the kernel does not have: name, and why that is as it should be.
    pub explained: Vec<(String, String)>,
    /// Bytes of data and tables that are the kernel's.
    pub data: u64,
}

impl Shipped {
    /// In this form.
    pub fn of(source: String, object: &ObjectName, located: &Located) -> Self {
        let explained = located.explained.iter();
        Shipped {
            source,
            object: object.clone(),
            functions: located.functions,
            explained: explained
                .map(|one| (one.function.clone(), one.why.to_owned()))
                .collect(),
            data: located.data,
        }
    }
}

impl std::fmt::Display for Shipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (functions, source) = (self.functions, &self.source);
        write!(
            f,
            "{functions} of {functions} functions of {source} are those of the running kernel"
        )?;
        for (function, why) in &self.explained {
            write!(f, "; {function}: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kpatch_core::located::Explained;

    use super::*;

    #[test]
    fn what_is_proven_is_told_in_numbers_and_exceptions_by_name() {
        let located = Located {
            functions: 133,
            explained: vec![Explained {
                function: "f".into(),
                why: "weak",
            }],
            ..Located::default()
        };
        let shipped = Shipped::of("kernel/sys.c".into(), &ObjectName::vmlinux(), &located);
        assert_eq!(
            shipped.to_string(),
            "133 of 133 functions of kernel/sys.c are those of the running kernel; f: weak"
        );
    }
}
