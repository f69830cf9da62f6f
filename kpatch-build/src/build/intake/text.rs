//! Reads what may be of any size, and may be packed: nothing that is given fills the memory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

use crate::outcome::Ending;

/// Patches of several releases together are a tenth of this.
const MOST_BYTES: u64 = 512 << 20;

/// What may still be read.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: MOST_BYTES }
    }
}

impl Budget {
    /// The bytes of a file, and whether it was packed with gzip (as lore.kernel.org packs a thread).
    ///
    /// # Errors
    /// [`Ending::Usage`] if it is too large or damaged.
    pub fn file(&mut self, path: &Path, what: &str) -> Result<(Vec<u8>, bool)> {
        let file = File::open(path).with_context(|| format!("cannot read patch {what}"))?;
        let bytes = self.read(Box::new(file), what)?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok((bytes, false));
        }
        let unpacked = self.read(Box::new(MultiGzDecoder::new(&bytes[..])), what);
        let unpacked = unpacked.map_err(|error| match error.downcast::<Ending>() {
            Ok(ending) => ending.into(),
            Err(error) => Ending::usage(format!("{what} cannot be unpacked: {error:#}")),
        })?;
        Ok((unpacked, true))
    }

    /// All bytes.
    ///
    /// # Errors
    /// [`Ending::Usage`] if they are too many.
    pub fn read(&mut self, from: Box<dyn Read + '_>, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = from.take(self.left + 1).read_to_end(&mut bytes);
        let read = read.with_context(|| format!("cannot read the patch from {what}"))?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(bytes)
            }
            None => Err(Ending::usage(format!(
                "{what} is too large: patches may have {} MiB together",
                MOST_BYTES >> 20
            ))),
        }
    }

    #[cfg(test)]
    pub fn of(left: u64) -> Self {
        Budget { left }
    }
}
