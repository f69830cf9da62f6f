//! `Module.symvers`: what is exported, by whom.
//!
//! Columns separated by tabs: CRC, symbol, module, export type, namespace (Documentation/kbuild/modules.rst, 6.12). From
//! 5.4 to 5.7 the namespace stood before the module, and older kernels have none, so the export type tells which is which.

use std::collections::HashMap;

use crate::error::{Error, Subject};
use crate::group::ObjectName;

pub use crate::codes::resolve::BAD_SYMVERS;
/// One row of Module.symvers: an exported symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The image or module that defines it.
    pub owner: ObjectName,
    /// The namespace an importer must declare.
    pub namespace: Option<String>,
}

impl Export {
    /// Whether any module may import it. `EXPORT_SYMBOL_FOR_MODULES` gives a namespace that starts with `module:` and
    /// lists names of modules; no other can declare it (kernel/module/main.c, `verify_module_namespace`, 6.17).
    pub fn is_for_all(&self) -> bool {
        !self
            .namespace
            .as_ref()
            .is_some_and(|namespace| namespace.starts_with("module:"))
    }
}

/// All exported symbols by name. Looked up only, never iterated: the order of a hash map cannot reach any output.
#[derive(Debug, Default)]
pub struct Exports(HashMap<String, Export>);

impl Exports {
    /// Reads the text of a Module.symvers file.
    ///
    /// # Errors
    /// [`BAD_SYMVERS`] with the line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut exports = HashMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let columns: Vec<&str> = line.split('\t').collect();
            let kind = columns
                .iter()
                .skip(3)
                .position(|column| column.starts_with("EXPORT_"))
                .map(|at| at + 3);
            let (Some(name), Some(kind)) = (columns.get(1), kind) else {
                let at = Subject::file("Module.symvers").line(index as u32 + 1);
                return Err(Error::new(
                    BAD_SYMVERS,
                    at,
                    "expected: CRC, symbol, module, type, namespace",
                ));
            };
            let module = columns.get(kind - 1).copied().unwrap_or_default();
            let namespace = if kind == 4 {
                columns.get(2)
            } else {
                columns.get(kind + 1)
            };
            let namespace = namespace
                .filter(|namespace| !namespace.is_empty())
                .map(|namespace| (*namespace).to_owned());
            let owner = ObjectName::module(module.rsplit('/').next().unwrap_or(module));
            exports.insert((*name).to_owned(), Export { owner, namespace });
        }
        Ok(Exports(exports))
    }

    /// The export of a name.
    pub fn get(&self, name: &str) -> Option<&Export> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_owner_and_namespace() {
        let text = "0x1\tkfree\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tfoo\tdrivers/x/my-mod\tEXPORT_SYMBOL_GPL\tNS\n";
        let exports = Exports::parse(text).expect("well-formed");
        assert!(exports.get("kfree").expect("listed").owner.is_vmlinux());
        let foo = exports.get("foo").expect("listed");
        assert_eq!((foo.owner.as_str(), foo.namespace.as_deref()), ("my_mod", Some("NS")));
    }

    #[test]
    fn older_orders_of_the_columns() {
        let old = Exports::parse("0x1\tfoo\tdrivers/x/my-mod\tEXPORT_SYMBOL_GPL\n").expect("without namespaces");
        assert_eq!(old.get("foo").expect("listed").owner.as_str(), "my_mod");
        let between = Exports::parse("0x1\tfoo\tNS\tmy-mod\tEXPORT_SYMBOL_GPL\n").expect("namespace first");
        let foo = between.get("foo").expect("listed");
        assert_eq!((foo.owner.as_str(), foo.namespace.as_deref()), ("my_mod", Some("NS")));
    }

    #[test]
    fn a_short_line_is_an_error() {
        assert_eq!(
            Exports::parse("0x1 kfree vmlinux\n").expect_err("no tabs").code,
            BAD_SYMVERS
        );
    }
}
