//! How far a change reaches: from names to the pieces that mention them, to the names of these, and so on.

use std::collections::{BTreeSet, HashMap};

use super::change::Change;
use super::index::{File, Index, Name};
use super::paste::{self, Pattern};
use super::pieces::Role;

/// More names than this are not followed: whatever reads the header counts as affected.
const MOST: usize = 50_000;

/// All places of a name, for all names.
#[derive(Debug)]
pub struct Places {
    starts: Vec<u32>,
    files: Vec<File>,
}

impl Places {
    /// Turns an index round.
    pub fn of(index: &Index) -> Places {
        let mut starts: Vec<u32> = vec![0; index.count() + 1];
        for (_, entry) in index.files() {
            for name in &entry.mentions {
                starts[*name as usize + 1] += 1;
            }
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut files = vec![0; starts.last().map_or(0, |end| *end as usize)];
        for (file, entry) in index.files() {
            for name in &entry.mentions {
                let at = &mut next[*name as usize];
                files[*at as usize] = file;
                *at += 1;
            }
        }
        Places { starts, files }
    }

    /// The files that mention a name.
    pub fn files(&self, name: Name) -> &[File] {
        let at = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        self.files
            .get(at(name as usize)..at(name as usize + 1))
            .unwrap_or_default()
    }
}

/// A piece in reach.
struct Touched {
    file: File,
    piece: usize,
}

/// What a change reaches in all files together.
pub struct Reach<'a> {
    index: &'a Index,
    places: &'a Places,
    change: &'a Change,
    /// Pieces by the names in reach that they mention.
    by_name: HashMap<Name, Vec<usize>>,
    pieces: Vec<Touched>,
    /// Names that may be put together of names of the build.
    formed: BTreeSet<Vec<u8>>,
    all: Option<&'static str>,
}

impl<'a> Reach<'a> {
    /// Follows a change through all files.
    pub fn of(index: &'a Index, places: &'a Places, change: &'a Change) -> Reach<'a> {
        let mut reach = Reach {
            index,
            places,
            change,
            by_name: HashMap::new(),
            pieces: Vec::new(),
            formed: BTreeSet::new(),
            all: change.all,
        };
        if reach.all.is_none() {
            reach.follow();
        }
        reach
    }

    fn follow(&mut self) {
        let mut names: BTreeSet<Name> = self.base();
        let mut known: HashMap<(File, usize), usize> = HashMap::new();
        let mut waiting: Vec<Name> = names.iter().copied().collect();
        while let Some(name) = waiting.pop() {
            for &file in self.places.files(name) {
                let pieces = self.index.file(file).and_then(|entry| entry.pieces.as_ref());
                for (number, piece) in pieces.into_iter().flatten().enumerate() {
                    if piece.mentions.binary_search(&name).is_err() {
                        continue;
                    }
                    let at = *known.entry((file, number)).or_insert_with(|| {
                        self.pieces.push(Touched { file, piece: number });
                        self.pieces.len() - 1
                    });
                    self.by_name.entry(name).or_default().push(at);
                    if piece.role != Role::Acts {
                        waiting.extend(piece.names.iter().filter(|name| names.insert(**name)));
                    }
                }
            }
            if names.len() > MOST {
                self.all = Some("too much depends on what changes");
                return;
            }
        }
        let mut patterns: BTreeSet<&Pattern> = BTreeSet::new();
        self.index
            .files()
            .for_each(|(_, entry)| patterns.extend(entry.patterns.iter().map(|(pattern, _)| pattern)));
        let patterns: Vec<&Pattern> = patterns.into_iter().collect();
        let is_there = |text: &[u8]| self.index.name(text).is_some();
        // A name that no file has can be put together, too.
        let new = self.change.names.keys().map(Vec::as_slice);
        let all = names.iter().map(|name| self.index.text(*name)).chain(new);
        let formed = all.filter(|name| paste::forms(name, &patterns, &is_there));
        self.formed = formed.map(<[u8]>::to_vec).collect();
    }

    fn base(&self) -> BTreeSet<Name> {
        let known = self.change.names.keys().filter_map(|name| self.index.name(name));
        known.collect()
    }

    /// Whether a file mentions what changes itself.
    pub fn is_near(&self, spelt: &str) -> bool {
        let is_it = |file: &File| self.index.path(*file) == spelt;
        let names = self.change.names.keys().filter_map(|name| self.index.name(name));
        names.into_iter().any(|name| self.places.files(name).iter().any(is_it))
    }

    /// Why a unit that reads these files, and is compiled with these words, may change; nothing if it cannot.
    pub fn why(&self, files: &[File], words: &[String]) -> Option<String> {
        if let Some(why) = self.all {
            return Some(why.to_owned());
        }
        let mut reads = vec![false; self.index.file_count()];
        for file in files {
            reads[*file as usize] = true;
        }
        let mut unit = Unit {
            reach: self,
            reads,
            names: self.base().into_iter().collect(),
            macros: BTreeSet::new(),
            counts: self.change.counts,
            declarations: Vec::new(),
        };
        for (name, is_macro) in &self.change.names {
            if *is_macro {
                unit.macros.extend(self.index.name(name));
            }
        }
        unit.follow(words).or_else(|| unit.formed(files))
    }
}

/// One unit.
struct Unit<'r, 'a> {
    reach: &'r Reach<'a>,
    reads: Vec<bool>,
    names: BTreeSet<Name>,
    macros: BTreeSet<Name>,
    /// Whether what changes moves the counter where it is used.
    counts: bool,
    /// Declarations that mention what changes.
    declarations: Vec<usize>,
}

impl Unit<'_, '_> {
    fn follow(&mut self, words: &[String]) -> Option<String> {
        let (index, places) = (self.reach.index, self.reach.places);
        let shown = |name: Name| String::from_utf8_lossy(index.text(name)).into_owned();
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut waiting: Vec<Name> = self.names.iter().copied().collect();
        while let Some(name) = waiting.pop() {
            let mentioning = places.files(name).iter().filter(|file| self.reads[**file as usize]);
            for &file in mentioning {
                if index.file(file).is_some_and(|entry| entry.pieces.is_none()) {
                    return Some(format!("{} mentions {}", index.path(file), shown(name)));
                }
            }
            for &at in self.reach.by_name.get(&name).into_iter().flatten() {
                let touched = &self.reach.pieces[at];
                if !self.reads[touched.file as usize] || !seen.insert(at) {
                    continue;
                }
                let Some(piece) = self.reach.piece(at) else { continue };
                match piece.role {
                    Role::Acts => return Some(format!("{} mentions {}", index.path(touched.file), shown(name))),
                    Role::Macro => {
                        self.macros.extend(&piece.names);
                        let toggled = piece.under.iter().any(|name| self.names.contains(name));
                        self.counts |= toggled && index.counts(&piece.names);
                    }
                    Role::Declaration => self.declarations.push(at),
                }
                waiting.extend(piece.names.iter().filter(|name| self.names.insert(**name)));
            }
        }
        // Conditions are looked at once all names are known.
        for &at in &seen {
            if let Some(piece) = self.reach.piece(at).filter(|piece| piece.role == Role::Macro) {
                let toggled = piece.under.iter().any(|name| self.names.contains(name));
                self.counts |= toggled && index.counts(&piece.names);
            }
        }
        self.acting().or_else(|| self.commanded(words))
    }

    /// A declaration that what changes can make something else of.
    fn acting(&self) -> Option<String> {
        let index = self.reach.index;
        let acts = self.declarations.iter().find_map(|at| {
            let piece = self.reach.piece(*at)?;
            let toggled = piece.under.iter().any(|name| self.names.contains(name));
            let exchanged = piece.head.iter().any(|name| self.macros.contains(name));
            let acts = exchanged
                || index.is_beyond(&piece.head)
                || index.renames(&piece.names)
                || self.counts
                || (toggled && index.counts(&piece.mentions));
            acts.then(|| self.reach.pieces[*at].file)
        })?;
        Some(format!("a declaration of {} may act", index.path(acts)))
    }

    /// Macros of the command are part of the unit.
    fn commanded(&self, words: &[String]) -> Option<String> {
        let index = self.reach.index;
        let mentioned = words.iter().find(|word| {
            let names = super::tokens::names_in(word.as_bytes());
            let plain = |name: &[u8]| name.strip_prefix(b"D").and_then(|name| index.name(name));
            let is_it = |name: &[u8]| {
                let known = index
                    .name(name)
                    .into_iter()
                    .chain(plain(name))
                    .any(|name| self.names.contains(&name));
                known
                    || self.reach.change.names.contains_key(name)
                    || name
                        .strip_prefix(b"D")
                        .is_some_and(|name| self.reach.change.names.contains_key(name))
            };
            word.starts_with("-D") && names.into_iter().any(is_it)
        })?;
        Some(format!("its command has {mentioned}"))
    }

    /// A name that macros of the unit may put together.
    fn formed(&self, files: &[File]) -> Option<String> {
        let index = self.reach.index;
        let mine = |name: &&Vec<u8>| match index.name(name) {
            Some(known) => self.names.contains(&known),
            None => true,
        };
        let names: Vec<&Vec<u8>> = self.reach.formed.iter().filter(mine).collect();
        if names.is_empty() {
            return None;
        }
        let mut patterns: BTreeSet<&Pattern> = BTreeSet::new();
        for file in files {
            let made = index.file(*file).into_iter().flat_map(|entry| &entry.patterns);
            let made =
                made.filter(|(_, by)| by.is_empty() || by.iter().any(|by| self.reads.get(*by as usize) == Some(&true)));
            patterns.extend(made.map(|(pattern, _)| pattern));
        }
        let patterns: Vec<&Pattern> = patterns.into_iter().collect();
        let is_there = |text: &[u8]| {
            let files = index.name(text).map(|name| self.reach.places.files(name));
            files.is_some_and(|files| files.iter().any(|file| self.reads[*file as usize]))
        };
        let formed = names
            .into_iter()
            .find(|name| paste::forms(name, &patterns, &is_there))?;
        Some(format!("macros may put {} together", String::from_utf8_lossy(formed)))
    }
}

impl Reach<'_> {
    fn piece(&self, at: usize) -> Option<&super::index::Stored> {
        let touched = self.pieces.get(at)?;
        self.index.file(touched.file)?.pieces.as_ref()?.get(touched.piece)
    }
}
