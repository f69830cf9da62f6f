//! `Module.symvers`: what is exported, by whom.
//!
//! Five columns separated by tabs: CRC, symbol, module, export type, namespace (Documentation/kbuild/modules.rst, 6.12).

use std::collections::HashMap;

use crate::error::{Code, Error, Subject};
use crate::group::ObjectName;

/// A line of Module.symvers that does not have the columns.
pub const BAD_SYMVERS: Code = Code("resolve.bad-symvers");

/// One exported symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Who defines it.
    pub owner: ObjectName,
    /// The namespace an importer must declare.
    pub namespace: Option<String>,
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
            let mut columns = line.split('\t');
            let (_crc, name, module, kind) = (columns.next(), columns.next(), columns.next(), columns.next());
            let (Some(name), Some(module), Some(_)) = (name, module, kind) else {
                let at = Subject::file("Module.symvers").line(index as u32 + 1);
                return Err(Error::new(
                    BAD_SYMVERS,
                    at,
                    "expected: CRC, symbol, module, type, namespace",
                ));
            };
            let namespace = columns
                .next()
                .filter(|namespace| !namespace.is_empty())
                .map(str::to_owned);
            let owner = ObjectName::module(module.rsplit('/').next().unwrap_or(module));
            exports.insert(name.to_owned(), Export { owner, namespace });
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
    fn a_short_line_is_an_error() {
        assert_eq!(
            Exports::parse("0x1 kfree vmlinux\n").expect_err("no tabs").code,
            BAD_SYMVERS
        );
    }
}
