//! The guard against boot loops: a livepatch that a boot did not survive is left out of the next one.
//!
//! Before a livepatch is loaded at boot its name is written down; when the boot is found healthy, or the machine is
//! shut down in order, the note goes. A note of another boot that is still there says that it ended badly. Then the
//! livepatch that was being loaded is left out, or all of them if the machine fell later, by name and content, until somebody
//! loads them by hand or brings another content.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::installed;
use crate::machine::{self, Machine};
use crate::module::ModuleFile;

/// A livepatch, by name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Its name.
    pub name: String,
    /// Its build id, if it has one.
    pub build_id: Option<String>,
}

impl Suspect {
    fn of(file: &ModuleFile) -> Self {
        Suspect {
            name: file.name.clone(),
            build_id: file.build_id.clone(),
        }
    }
}

/// The note of a boot.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    boot_id: String,
    /// What is loaded.
    loaded: Vec<Suspect>,
    /// What is being loaded; none once all are.
    loading: Option<Suspect>,
}

/// The guard of a release.
pub struct Guard<'a> {
    machine: &'a Machine,
    folder: PathBuf,
}

impl<'a> Guard<'a> {
    /// Of the kernel with this release.
    pub fn new(machine: &'a Machine, release: &str) -> Self {
        Guard {
            machine,
            folder: installed::own_folder(machine, release),
        }
    }

    /// Draws the conclusion from the last boot: what it was loading when it ended badly is left out from now on. Gives
    /// those that are new on the list.
    pub fn after_last_boot(&self) -> Result<Vec<Suspect>> {
        let Some(note) = read::<Note>(&self.note())? else {
            return Ok(Vec::new());
        };
        if note.boot_id == self.machine.boot_id()? {
            return Ok(Vec::new());
        }
        let mut all = self.left_out()?;
        // What was being loaded is to blame; a machine that fell later could have done so for any of them.
        let suspects = note.loading.map_or(note.loaded, |one| vec![one]);
        let new: Vec<Suspect> = suspects.into_iter().filter(|one| !all.contains(one)).collect();
        all.extend(new.iter().cloned());
        // First the list, then the note: a power cut in between draws the conclusion once more.
        write(&self.list(), &all)?;
        machine::remove_durably(&self.note())?;
        Ok(new)
    }

    /// What is left out.
    pub fn left_out(&self) -> Result<Vec<Suspect>> {
        Ok(read(&self.list())?.unwrap_or_default())
    }

    /// Whether this one is.
    pub fn leaves_out(&self, file: &ModuleFile) -> Result<bool> {
        Ok(self.left_out()?.contains(&Suspect::of(file)))
    }

    /// Writes down what this boot has loaded, and what it is about to load.
    pub fn note_down(&self, loaded: &[ModuleFile], loading: Option<&ModuleFile>) -> Result<()> {
        let note = Note {
            boot_id: self.machine.boot_id()?,
            loaded: loaded.iter().map(Suspect::of).collect(),
            loading: loading.map(Suspect::of),
        };
        write(&self.note(), &note)
    }

    /// This boot went well so far, or is over in order.
    pub fn healthy(&self) -> Result<()> {
        machine::remove_durably(&self.note())
    }

    /// Somebody loaded this one by hand, and it is in effect: it is trusted again.
    pub fn trust(&self, file: &ModuleFile) -> Result<()> {
        let mut all = self.left_out()?;
        let suspect = Suspect::of(file);
        if !all.contains(&suspect) {
            return Ok(());
        }
        all.retain(|one| *one != suspect);
        write(&self.list(), &all)
    }

    fn note(&self) -> PathBuf {
        self.folder.join("loading-at-boot.json")
    }

    fn list(&self) -> PathBuf {
        self.folder.join("left-out.json")
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &std::path::Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| Error::file("read", path, &error))?,
    };
    let wrong = |error| Error::Environment(format!("{} is damaged ({error}); remove it", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

fn write(path: &std::path::Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::Environment(error.to_string()))?;
    machine::write_durably(path, &bytes)
}
