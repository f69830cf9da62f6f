//! The changed files as a series of patches, of which `build-patch` makes one livepatch: what a whole point release would be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::pieces::{Piece, Pieces};
use kpatch_build::outcome::Ending;

/// Writes these files as patches into a folder that is not there or empty, with the file `series` of quilt. Headers come first, since sources need what
/// they bring.
pub fn write_series(pieces: &Pieces, chosen: &[&Piece], folder: &Path) -> Result<()> {
    let is_used = folder.exists() && !fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_used {
        let text = format!(
            "--series {}: it is there already; name a folder that is not",
            folder.display()
        );
        return Err(Ending::usage(text));
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut order: Vec<&&Piece> = chosen.iter().collect();
    order.sort_by_key(|piece| (!piece.file.ends_with(".h"), piece.file.clone()));
    let mut series = String::new();
    for piece in order {
        let file = &piece.file;
        let name = format!("{}.patch", file.replace('/', "--"));
        let text = pieces.patch(&BTreeSet::from([file.clone()]))?;
        let path = folder.join(&name);
        fs::write(&path, format!("Subject: {file}\n\n---\n{text}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        series.push_str(&name);
        series.push('\n');
    }
    let path = folder.join("series");
    fs::write(&path, series).with_context(|| format!("cannot write {}", path.display()))
}
