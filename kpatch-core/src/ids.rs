//! Ids that know which file they belong to.
//!
//! The bug class of a differ is indexing the patched table with an id of the original; here that is a type error.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// The original object of a pair.
#[derive(Debug, Clone, Copy)]
pub enum Orig {}
/// The patched object of a pair.
#[derive(Debug, Clone, Copy)]
pub enum Patched {}

/// Names a side in messages.
pub trait Side: Copy + 'static {
    /// The word for the side: `orig` or `patched`.
    const NAME: &'static str;
}

impl Side for Orig {
    const NAME: &'static str = "orig";
}

impl Side for Patched {
    const NAME: &'static str = "patched";
}

/// A section of an object.
#[derive(Debug, Clone, Copy)]
pub enum Sec {}
/// A symbol of an object.
#[derive(Debug, Clone, Copy)]
pub enum Sym {}
/// An atom of an object: the smallest piece of a section that is kept or left as a whole.
#[derive(Debug, Clone, Copy)]
pub enum Atom {}

/// Names a kind of row in messages.
pub trait Kind: Copy + 'static {
    /// `sec`, `sym` or `atom`.
    const NAME: &'static str;
}

impl Kind for Sec {
    const NAME: &'static str = "sec";
}

impl Kind for Sym {
    const NAME: &'static str = "sym";
}

impl Kind for Atom {
    const NAME: &'static str = "atom";
}

/// The row number of a `K` in the object of side `S`.
pub struct Id<S, K> {
    raw: u32,
    tag: PhantomData<fn() -> (S, K)>,
}

impl<S, K> Id<S, K> {
    /// The id of row `index`.
    ///
    /// # Panics
    /// If `index` needs more than 32 bits: no ELF table is that long, since its own indexes have 32 bits.
    pub fn new(index: usize) -> Self {
        Id {
            raw: u32::try_from(index).expect("ELF tables have 32-bit indexes"),
            tag: PhantomData,
        }
    }

    /// The number of the row in its table, from 0.
    pub fn index(self) -> usize {
        self.raw as usize
    }
}

impl<S, K> Clone for Id<S, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, K> Copy for Id<S, K> {}

impl<S, K> PartialEq for Id<S, K> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<S, K> Eq for Id<S, K> {}

impl<S, K> PartialOrd for Id<S, K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<S, K> Ord for Id<S, K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.raw.cmp(&other.raw)
    }
}

impl<S, K> Hash for Id<S, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<S: Side, K: Kind> fmt::Debug for Id<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", S::NAME, K::NAME, self.raw)
    }
}

/// Rows of `V`, one for each `K` of the object of side `S`.
#[derive(Debug, Clone)]
pub struct Table<S, K, V> {
    rows: Vec<V>,
    tag: PhantomData<fn() -> (S, K)>,
}

impl<S, K, V> Default for Table<S, K, V> {
    fn default() -> Self {
        Table {
            rows: Vec::new(),
            tag: PhantomData,
        }
    }
}

impl<S, K, V> Table<S, K, V> {
    /// A table of `len` copies of a value.
    pub fn filled(len: usize, value: V) -> Self
    where
        V: Clone,
    {
        Table {
            rows: vec![value; len],
            tag: PhantomData,
        }
    }

    /// Appends a row and returns its id.
    pub fn push(&mut self, row: V) -> Id<S, K> {
        self.rows.push(row);
        Id::new(self.rows.len() - 1)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row, if the id came from a table of this length (hostile input can name any index).
    pub fn get(&self, id: Id<S, K>) -> Option<&V> {
        self.rows.get(id.index())
    }

    /// The row, to change it.
    pub fn get_mut(&mut self, id: Id<S, K>) -> Option<&mut V> {
        self.rows.get_mut(id.index())
    }

    /// The rows without their ids.
    pub fn into_rows(self) -> Vec<V> {
        self.rows
    }

    /// All ids in order.
    pub fn ids(&self) -> impl Iterator<Item = Id<S, K>> + use<S, K, V> {
        (0..self.rows.len()).map(Id::new)
    }

    /// All rows in order, with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id<S, K>, &V)> {
        self.rows.iter().enumerate().map(|(index, row)| (Id::new(index), row))
    }
}

impl<S, K, V> FromIterator<V> for Table<S, K, V> {
    fn from_iter<T: IntoIterator<Item = V>>(rows: T) -> Self {
        Table {
            rows: rows.into_iter().collect(),
            tag: PhantomData,
        }
    }
}

impl<S, K, V> Index<Id<S, K>> for Table<S, K, V> {
    type Output = V;

    fn index(&self, id: Id<S, K>) -> &V {
        &self.rows[id.index()]
    }
}

impl<S, K, V> IndexMut<Id<S, K>> for Table<S, K, V> {
    fn index_mut(&mut self, id: Id<S, K>) -> &mut V {
        &mut self.rows[id.index()]
    }
}
