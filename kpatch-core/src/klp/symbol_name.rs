//! Names of symbols that livepatch looks up.

use std::fmt::Display;

/// How each of them begins (Documentation/livepatch/module-elf-format.rst).
pub const PREFIX: &str = ".klp.sym.";

/// `.klp.sym.<object>.<symbol>,<position>`.
pub fn name(object: impl Display, symbol: &str, sympos: impl Display) -> String {
    format!("{PREFIX}{object}.{symbol},{sympos}")
}

/// The parts of such a name: object, symbol, position. The kernel scans `%55[^.].%511[^,],%lu`.
pub fn parse(name: &str) -> Option<(&str, &str, u32)> {
    let (object, rest) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let (symbol, sympos) = rest.split_once(',')?;
    Some((object, symbol, sympos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{name, parse};

    #[test]
    fn names_are_read_as_the_kernel_scans_them() {
        assert_eq!(
            parse(".klp.sym.vmlinux.foo.llvm.7,0"),
            Some(("vmlinux", "foo.llvm.7", 0))
        );
        assert_eq!(parse(".klp.sym.vmlinux.foo"), None);
        assert_eq!(parse("foo"), None);
        assert_eq!(parse(&name("ext4", "foo.cold", 2)), Some(("ext4", "foo.cold", 2)));
    }
}
