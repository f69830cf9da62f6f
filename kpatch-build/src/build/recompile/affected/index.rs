//! What every file that the kernel was compiled from mentions, defines and may put together: read once for a baseline, and
//! kept with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::declare::EMITTING;
use super::paste::{self, Macros, OwnPasters, Part, Pasters, Pattern};
use super::pieces::{self, Role};
use super::tokens::{self, Kind, Token};
use crate::build::kbuild::Tu;
use crate::build::site::Site;
use crate::progress::Progress;
use crate::supply::store::cache::{Cache, Key};

mod form;

/// The form of the index. Raise it when anything about what is found changes.
const VERSION: &str = "names 4";
const AREA: &str = "names";
/// The file of an entry.
const INDEX: &str = "index";

/// The number of a name, in the order of their bytes.
pub type Name = u32;
/// The number of a file.
pub type File = u32;

/// The index of a baseline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// All names, in order.
    names: Vec<Vec<u8>>,
    /// All files, by their spelling in the build's records, in order.
    paths: Vec<String>,
    files: Vec<Entry>,
    /// Macros that stand for more than a part of a declaration: statements, definitions, attributes that make code.
    beyond: Vec<Name>,
    /// Macros that count (`__COUNTER__`) or put names together, themselves or through others.
    counting: Vec<Name>,
    /// Macros that stand for something without their own name: a declaration of such a name may declare another.
    renaming: Vec<Name>,
}

/// One file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// All names in it.
    pub mentions: Vec<Name>,
    /// Its pieces if it is a header; anything else acts as a whole.
    pub pieces: Option<Vec<Stored>>,
    /// Names it may put together, each with the files of which one must be there for that; none if it needs no other file.
    pub patterns: Vec<(Pattern, Vec<File>)>,
}

/// A piece of a header.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it does.
    pub role: Role,
    /// What it gives meaning to.
    pub names: Vec<Name>,
    /// What could be macros around it.
    pub head: Vec<Name>,
    /// What it mentions.
    pub mentions: Vec<Name>,
    /// What the conditions around it mention; also among `mentions`.
    pub under: Vec<Name>,
}

/// A file as it was read, with names of its own.
struct Read {
    names: Vec<Vec<u8>>,
    mentions: Vec<Name>,
    pieces: Vec<Stored>,
    is_header: bool,
    pastes: paste::Pastes,
    /// Macros without parameters, and the name that each stands for.
    plain: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Macros: name, names in the body, and whether the body is beyond a part of a declaration.
    macros: Vec<(Name, Vec<Name>, bool)>,
}

impl Index {
    /// The index of everything that the build compiled, out of the store or made now. A store that cannot keep it is no
    /// fault: it is made again.
    pub fn of(site: &Site<'_>) -> Result<Index> {
        let trees = &site.kbuild.trees;
        let spelt: BTreeSet<&str> = site.kbuild.tus.values().flat_map(files_of).collect();
        let place = |spelt: &&str| {
            let path = trees.absolute(&trees.place(spelt));
            // One that is gone cannot be judged by, and whoever reads it is not.
            site.hashes.of(&path).ok().map(|hash| ((*spelt).to_owned(), path, hash))
        };
        let spelt: Vec<&str> = spelt.into_iter().collect();
        let files: Vec<_> = spelt.par_iter().filter_map(place).collect();
        let key = files
            .iter()
            .fold(Key::new(VERSION), |key, (spelt, _, hash)| key.text(spelt).bytes(hash));
        let files: Vec<_> = files.into_iter().map(|(spelt, path, _)| (spelt, path)).collect();
        Index::kept(&site.cache, &key, &files, site.progress)
    }

    /// The index of these files, each with its spelling, in the order of these. The key must tell their contents apart.
    pub fn kept(cache: &Cache, key: &Key, files: &[(String, PathBuf)], progress: &dyn Progress) -> Result<Index> {
        if let Some(entry) = cache.find(AREA, key).ok().flatten()
            && let Some(index) = fs::read(entry.join(INDEX)).ok().and_then(|bytes| form::read(&bytes))
        {
            return Ok(index);
        }
        progress.expect("read names of files", files.len() as u64);
        let read = |(spelt, path): &(String, PathBuf)| -> Result<(String, Vec<u8>)> {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((spelt.clone(), text))
        };
        let texts: Vec<(String, Vec<u8>)> = files.par_iter().map(read).collect::<Result<_>>()?;
        let index = Index::scan(&texts, &|| progress.step());
        let bytes = form::write(&index);
        drop(cache.get(AREA, key, |folder| Ok(fs::write(folder.join(INDEX), &bytes)?)));
        Ok(index)
    }

    /// A key for [`Self::kept`] to add to.
    pub fn key() -> Key {
        Key::new(VERSION)
    }

    /// Reads files, each with its spelling and text.
    pub fn scan(texts: &[(String, Vec<u8>)], step: &(dyn Fn() + Sync)) -> Index {
        let read = |(path, text): &(String, Vec<u8>)| {
            let read = read(path, text);
            step();
            read
        };
        let mut read: Vec<Read> = texts.par_iter().map(read).collect();
        let plain = read.iter().flat_map(|file| &file.plain);
        let macros = paste::together(plain.map(|(name, value)| (name.as_slice(), value.as_deref())));
        let pasters = follow_pastes(texts, &mut read, &macros);

        let all: BTreeSet<&[u8]> = read
            .iter()
            .flat_map(|file| file.names.iter().map(Vec::as_slice))
            .collect();
        let names: Vec<Vec<u8>> = all.into_iter().map(<[u8]>::to_vec).collect();
        let numbers: HashMap<&[u8], Name> = names.iter().map(Vec::as_slice).zip(0..).collect();
        let mut index = Index::default();
        let mut bodies: Vec<(Name, Vec<Name>, bool)> = Vec::new();
        // Whoever mentions one of them pastes.
        let pasting = pasters.names().filter_map(|name| numbers.get(name).copied());
        let pasting: BTreeSet<Name> = pasting.collect();
        for ((path, _), file) in texts.iter().zip(read) {
            let own: Vec<Name> = file.names.iter().map(|name| numbers[name.as_slice()]).collect();
            let translated = |local: &[Name]| {
                let mut list: Vec<Name> = local.iter().map(|name| own[*name as usize]).collect();
                list.sort_unstable();
                list.dedup();
                list
            };
            let piece = |piece: &Stored| Stored {
                role: piece.role,
                names: translated(&piece.names),
                head: translated(&piece.head),
                mentions: translated(&piece.mentions),
                under: translated(&piece.under),
            };
            for (name, body, beyond) in &file.macros {
                bodies.push((own[*name as usize], translated(body), *beyond));
            }
            index.paths.push(path.clone());
            index.files.push(Entry {
                mentions: translated(&file.mentions),
                pieces: file.is_header.then(|| file.pieces.iter().map(piece).collect()),
                patterns: file
                    .pastes
                    .patterns
                    .into_iter()
                    .map(|(pattern, by)| (pattern, by.into_iter().collect()))
                    .collect(),
            });
        }
        let counter = numbers.get(&b"__COUNTER__"[..]).copied();
        let pastes = numbers.get(PASTES).copied();
        let beyond = bodies.iter().filter(|(.., beyond)| *beyond).map(|(name, ..)| *name);
        let beyond = beyond.collect::<BTreeSet<_>>();
        index.beyond = through(&bodies, beyond);
        index.counting = through(&bodies, pasting.into_iter().chain(counter).chain(pastes).collect());
        let renaming = bodies
            .iter()
            .filter(|(name, body, _)| body.binary_search(name).is_err());
        let renaming: BTreeSet<Name> = renaming.map(|(name, ..)| *name).collect();
        index.renaming = renaming.into_iter().collect();
        drop(numbers);
        index.names = names;
        index
    }

    /// The number of a name, if any file has it.
    pub fn name(&self, text: &[u8]) -> Option<Name> {
        let found = self.names.binary_search_by(|name| name.as_slice().cmp(text));
        found.ok().and_then(|at| Name::try_from(at).ok())
    }

    /// How a name is written.
    pub fn text(&self, name: Name) -> &[u8] {
        self.names.get(name as usize).map_or(b"", Vec::as_slice)
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = (File, &Entry)> {
        (0..).zip(&self.files)
    }

    /// A file by its number.
    pub fn file(&self, file: File) -> Option<&Entry> {
        self.files.get(file as usize)
    }

    /// How many names there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// How many files there are.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The spelling of a file.
    pub fn path(&self, file: File) -> &str {
        self.paths.get(file as usize).map_or("", String::as_str)
    }

    /// The files of a unit; nothing if one of them was not there to be read.
    pub fn files_of(&self, tu: &Tu) -> Option<Vec<File>> {
        files_of(tu).map(|spelt| self.number(spelt)).collect()
    }

    /// The number of a file.
    pub fn number(&self, spelt: &str) -> Option<File> {
        let found = self.paths.binary_search_by(|path| path.as_str().cmp(spelt));
        found.ok().and_then(|at| File::try_from(at).ok())
    }

    /// Whether macros among these names can make something else of a declaration.
    pub fn is_beyond(&self, head: &[Name]) -> bool {
        head.iter().any(|name| self.beyond.binary_search(name).is_ok())
    }

    /// Whether one of these names can be the start of `__COUNTER__` or of a name that is put together.
    pub fn counts(&self, names: &[Name]) -> bool {
        names.iter().any(|name| self.counting.binary_search(name).is_ok())
    }

    /// Whether one of these names is that of a macro which stands for another.
    pub fn renames(&self, names: &[Name]) -> bool {
        names.iter().any(|name| self.renaming.binary_search(name).is_ok())
    }
}

/// All files that a unit was made from.
fn files_of(tu: &Tu) -> impl Iterator<Item = &str> {
    std::iter::once(tu.source.as_str()).chain(tu.deps())
}

/// In the names of a macro's body: it pastes. No name is written like this.
pub const PASTES: &[u8] = b"##";

/// Macros that come to one of these through their bodies, and these.
fn through(bodies: &[(Name, Vec<Name>, bool)], from: BTreeSet<Name>) -> Vec<Name> {
    let mut by: HashMap<Name, Vec<Name>> = HashMap::new();
    for (name, body, _) in bodies {
        for mentioned in body {
            by.entry(*mentioned).or_default().push(*name);
        }
    }
    let mut found = from;
    let mut waiting: Vec<Name> = found.iter().copied().collect();
    while let Some(name) = waiting.pop() {
        for above in by.get(&name).into_iter().flatten() {
            if found.insert(*above) {
                waiting.push(*above);
            }
        }
    }
    found.into_iter().collect()
}

/// Follows macros that paste their arguments to those who give them.
fn follow_pastes(texts: &[(String, Vec<u8>)], read: &mut [Read], macros: &Macros) -> Pasters {
    let mut pasters = Pasters::default();
    let written = read.iter_mut().map(|file| std::mem::take(&mut file.pastes.pasters));
    let mut more: Vec<_> = written.collect();
    loop {
        let mut new = false;
        for (file, more) in (0..).zip(more) {
            new |= pasters.add(more, file);
        }
        if !new {
            return pasters;
        }
        let look = |(file, (_, text)): (&mut Read, &(String, Vec<u8>))| {
            let has = |name: &[u8]| file.names.binary_search_by(|own| own.as_slice().cmp(name)).is_ok();
            if !pasters.names().any(has) {
                return OwnPasters::default();
            }
            let found = paste::used(&tokens::split(text).all, &pasters, macros);
            for (pattern, by) in found.patterns {
                file.pastes.form(pattern, &by);
            }
            found.pasters
        };
        more = read.par_iter_mut().zip(texts).map(look).collect();
    }
}

fn read(path: &str, text: &[u8]) -> Read {
    let tokens = tokens::split(text);
    let cut = pieces::cut(&tokens);
    let mut numbers: BTreeMap<&[u8], Name> = pieces::mentions(&tokens.all)
        .into_iter()
        .map(|name| (name, 0))
        .collect();
    numbers.insert(PASTES, 0);
    for (number, (_, place)) in (0..).zip(numbers.iter_mut()) {
        *place = number;
    }
    let numbered =
        |names: &[&[u8]]| -> Vec<Name> { names.iter().filter_map(|name| numbers.get(name).copied()).collect() };
    let is_header = Path::new(path).extension().is_some_and(|extension| extension == "h");
    let mut macros = Vec::new();
    for piece in cut
        .iter()
        .filter(|piece| piece.tokens.first().is_some_and(|token| token.directive != 0))
    {
        let line = &piece.tokens;
        let Some(name) = line
            .get(2)
            .filter(|name| line[1].is_name(b"define") && name.kind == Kind::Name)
        else {
            continue;
        };
        let body = &line[3..];
        let mut names = pieces::mentions(body);
        if body.iter().any(|token| token.kind == Kind::Paste) {
            names.push(PASTES);
        }
        macros.push((numbers[name.text], numbered(&names), is_beyond(body)));
    }
    let stored = |piece: &pieces::Piece<'_>| Stored {
        role: piece.role,
        names: numbered(&piece.names),
        head: numbered(&piece.head),
        mentions: numbered(&piece.mentions),
        under: numbered(&piece.under),
    };
    Read {
        mentions: numbers
            .iter()
            .filter(|(name, _)| **name != PASTES)
            .map(|(_, number)| *number)
            .collect(),
        pieces: if is_header {
            cut.iter().map(stored).collect()
        } else {
            Vec::new()
        },
        pastes: paste::written(&tokens.all),
        names: numbers.keys().map(|name| name.to_vec()).collect(),
        plain: paste::plain_macros(&tokens.all)
            .into_iter()
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect(),
        is_header,
        macros,
    }
}

/// Whether the body of a macro is more than a part of a declaration.
pub fn is_beyond(body: &[Token<'_>]) -> bool {
    let mut depth = 0_usize;
    body.iter().any(|token| match token.kind {
        Kind::Mark(b'(') => {
            depth += 1;
            false
        }
        Kind::Mark(b')') => {
            depth = depth.saturating_sub(1);
            false
        }
        Kind::Mark(b';' | b'{' | b'}' | b'=') => true,
        // Parameters stand in parentheses of their own.
        Kind::Mark(b',') => depth == 0,
        Kind::Name => EMITTING.contains(&token.text),
        _ => false,
    })
}
