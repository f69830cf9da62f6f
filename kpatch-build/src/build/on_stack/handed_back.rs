//! Structures that the kernel hands to a function of its caller's, in the caller's own task and before the call returns.
//! Whoever has one in a structure of his own gets from it to his own object.

/// One of them.
struct HandedBack {
    kind: &'static str,
    /// The member that names the function.
    by: &'static str,
    /// The functions that it may be given to.
    to: &'static [&'static str],
}

/// `struct dir_context`: `iterate_dir()` calls the file system's `iterate_shared`, which calls `actor` for each entry
/// (fs/readdir.c; Documentation/filesystems/vfs.rst, 6.12).
const KNOWN: [HandedBack; 1] = [HandedBack {
    kind: "dir_context",
    by: "actor",
    to: &["iterate_dir"],
}];

/// Whether the structure of this tag is one.
pub fn is_known(kind: &str) -> bool {
    KNOWN.iter().any(|known| known.kind == kind)
}

/// Whether this function may be given one.
pub fn is_given_to(kind: &str, function: &str) -> bool {
    KNOWN
        .iter()
        .any(|known| known.kind == kind && known.to.contains(&function))
}

/// Whether a file names the function only to define it and to store it in the member for it.
pub fn is_called_back_only(tokens: &[&str], function: &str) -> bool {
    let before = |at: usize, by: usize| at.checked_sub(by).map_or("", |at| tokens[at]);
    let mut places = (0..tokens.len()).filter(|at| tokens[*at] == function);
    places.all(|at| {
        let is_stored = before(at, 1) == "=" && KNOWN.iter().any(|known| before(at, 2) == known.by);
        // A call of it is no declaration: nothing that is a type is in front of it.
        let is_declared = tokens.get(at + 1) == Some(&"(") && matches!(before(at, 1), "bool" | "_Bool" | "int");
        is_stored || is_declared
    })
}
