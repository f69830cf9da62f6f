//! The memory layout of structures and unions and the values of enumerators, and what a patch changes about them.
//!
//! A livepatch replaces code, but the objects that the running kernel has allocated stay. New code that expects a new
//! member would read and write past the end of old objects, and would take the number of one state for another. Machine
//! code shows only offsets and numbers, so this compares the debug information of a unit compiled both ways.
//!
//! Only types at file scope count. A type declared inside a function lives on its stack and goes with it; a variable
//! that stays is compared on its own, whatever its type is called.

mod dwarf;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::error::Error;

/// Number of differences named for one structure: if one member moves, all behind it move as well.
const NAMED: usize = 4;

/// Words in the names of enumerators that count the others. Such an enumerator changes whenever one is added, and no
/// object holds its value. These words precede what they count, and may follow the name of the enumeration.
const NUMBERS: [&str; 2] = ["NR", "NUM"];

/// Words with that meaning only at the start or end of a name.
const ENDS: [&str; 5] = ["MAX", "COUNT", "CNT", "LAST", "END"];

/// The types of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layouts {
    /// By name: `struct sock`, `union sigval`, or the name of a typedef for one without a name of its own.
    aggregates: BTreeMap<String, Layout>,
    /// By name, which is unique in a unit.
    enumerators: BTreeMap<String, Enumerator>,
    /// Variables that can change while the kernel runs, by name; functions may have several of one name.
    variables: BTreeMap<String, Vec<Variable>>,
    /// Functions that other files can call, by name.
    prototypes: BTreeMap<String, Prototype>,
    /// Members of structures that point to functions: `struct file_operations.read`.
    operations: BTreeMap<String, Prototype>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Prototype {
    /// Result and parameters, without typedefs, qualifiers and names.
    text: String,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    scope: Scope,
    /// Its only member is the variable itself, or the members `x.y` of its type if that has no name.
    layout: Layout,
}

/// Where a variable is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    File,
    /// The name is missing if the function is inlined everywhere: LLVM then puts its variables into a function without
    /// a name.
    Function(Option<String>),
}

impl Scope {
    fn may_be(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Function(Some(one)), Scope::Function(Some(other))) => one == other,
            (Scope::Function(_), Scope::Function(_)) | (Scope::File, Scope::File) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// Size of the structure in bytes.
    size: u64,
    /// Includes the members of unnamed members; the members of a member `m` of unnamed type are called `m.x`.
    members: Vec<Member>,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    /// Offset from the start of the structure, in bits.
    at: u64,
    /// Size of the member in bits.
    bits: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A number, a pointer, a truth value.
    Scalar(&'static str),
    /// A structure or union, by its name in `Layouts::aggregates`.
    Aggregate(String),
    /// Number of elements in each dimension, and the kind of element, which is never an array.
    Array(Vec<u64>, Box<Kind>),
    /// An unnamed structure or union as the element of an array: members and size in bytes.
    Unnamed(Vec<Member>, u64),
}

impl Kind {
    /// The name of the structure or union that it is or consists of.
    fn aggregate(&self) -> Option<&str> {
        match self {
            Kind::Aggregate(name) => Some(name),
            Kind::Array(_, element) => element.aggregate(),
            Kind::Scalar(_) | Kind::Unnamed(..) => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Scalar(word) => to.write_str(word),
            Kind::Aggregate(name) => to.write_str(name),
            Kind::Array(counts, element) => {
                for count in counts {
                    write!(to, "[{count}]")?;
                }
                element.fmt(to)
            }
            Kind::Unnamed(members, _) => {
                let member = |one: &Member| format!("{} {} at {} of {}", one.kind, one.name, one.at, one.bits);
                let members: Vec<String> = members.iter().map(member).collect();
                write!(to, "{{{}}}", members.join(", "))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Enumerator {
    value: i64,
    /// The name of the enumeration, if it has one.
    of: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

/// A structure that may have been renamed: the old name is gone from the unit, the new one was not there before, and
/// both have most members in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rename<'a> {
    /// The old name, as in `struct sock`.
    pub from: &'a str,
    /// The new name, as in `struct socket`.
    pub to: &'a str,
    /// The file that declared the old one, as the compiler spells it.
    pub from_file: Option<&'a str>,
    /// The file that declares the new one.
    pub to_file: Option<&'a str>,
}

/// A structure or variable whose layout differs in the patched unit, or an enumeration with other values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LayoutChange {
    /// As in `struct sock` and `enum pid_type`; for an enumeration without a name, that of an enumerator; for a variable,
    /// its name.
    pub name: String,
    /// The name that a structure had before the patch, if it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// The file that declares it, as the compiler spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of the declaration, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What differs, in words; offsets and sizes in bytes.
    pub differences: Vec<String>,
}

/// A function, or a member that points to one, that other files can call and that has another prototype in the patched unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PrototypeChange {
    /// Its name.
    pub name: String,
    /// The file that declares it, as the compiler spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of the declaration, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Result and parameters before, as in `int (struct file *, long)`; typedefs are resolved.
    pub from: String,
    /// The same with the patch.
    pub to: String,
}

/// What both sides have with another text.
fn otherwise(orig: &BTreeMap<String, Prototype>, patched: &BTreeMap<String, Prototype>) -> Vec<PrototypeChange> {
    let both = orig.iter().filter_map(|(name, orig)| {
        let patched = patched.get(name)?;
        (orig.text != patched.text).then(|| PrototypeChange {
            name: name.clone(),
            file: patched.file.clone(),
            line: patched.line,
            from: orig.text.clone(),
            to: patched.text.clone(),
        })
    });
    both.collect()
}

impl Layouts {
    /// Reads the DWARF of a relocatable object. `name` is what errors call it.
    ///
    /// # Errors
    /// `layout.bad-debug-info` if there is none or it cannot be read: then nothing is known about the unit.
    pub fn read(name: &str, object: &[u8]) -> Result<Layouts, Error> {
        dwarf::read(name, object)
    }

    /// The structures, variables and enumerations that differ in the patched unit. A structure or variable that differs
    /// only because a structure in it does is left out, and so are enumerators that count the others. `is_renamed` says
    /// whether a structure was renamed: one that is merely no longer used is gone from the unit as well.
    pub fn changes(&self, patched: &Layouts, is_renamed: &dyn Fn(Rename<'_>) -> bool) -> Vec<LayoutChange> {
        let mut changes = self.renumbered(patched);
        changes.extend(memory::changes(self, patched, is_renamed));
        changes.sort();
        changes
    }

    /// The functions with external linkage whose result or parameters differ in the patched unit.
    pub fn prototype_changes(&self, patched: &Layouts) -> Vec<PrototypeChange> {
        otherwise(&self.prototypes, &patched.prototypes)
    }

    /// The members of structures that point to functions with another result or other parameters in the patched unit.
    pub fn operation_changes(&self, patched: &Layouts) -> Vec<PrototypeChange> {
        otherwise(&self.operations, &patched.operations)
    }

    fn renumbered(&self, patched: &Layouts) -> Vec<LayoutChange> {
        let mut found: BTreeMap<String, LayoutChange> = BTreeMap::new();
        let (orig_enumerations, patched_enumerations) = (self.enumerations(), patched.enumerations());
        for (name, orig) in &self.enumerators {
            let Some(patched_enumerator) = patched
                .enumerators
                .get(name)
                .filter(|patched| patched.value != orig.value)
            else {
                continue;
            };
            let both = orig_enumerations
                .get(&orig.place())
                .zip(patched_enumerations.get(&patched_enumerator.place()));
            if both.is_some_and(|(orig, patched)| counts_others(name, orig, patched)) {
                continue;
            }
            let of = patched_enumerator
                .of
                .as_ref()
                .map_or_else(|| name.clone(), |of| format!("enum {of}"));
            let change = found.entry(of.clone()).or_insert_with(|| LayoutChange {
                name: of,
                was: None,
                file: patched_enumerator.file.clone(),
                line: patched_enumerator.line,
                differences: Vec::new(),
            });
            let difference = format!("`{name}` goes from {} to {}", orig.value, patched_enumerator.value);
            change.differences.push(difference);
        }
        found
            .into_values()
            .map(|change| LayoutChange {
                differences: shortened(change.differences),
                ..change
            })
            .collect()
    }

    /// The values of each enumeration.
    fn enumerations(&self) -> BTreeMap<Place<'_>, Numbers<'_>> {
        let mut found: BTreeMap<Place<'_>, Numbers<'_>> = BTreeMap::new();
        for (name, one) in &self.enumerators {
            found.entry(one.place()).or_default().insert(name, one.value);
        }
        found
    }
}

/// An enumeration in a unit: its name, if it has one, and where it is declared.
type Place<'a> = (Option<&'a str>, Option<&'a str>, Option<u32>);

/// Values of enumerators by name.
type Numbers<'a> = BTreeMap<&'a str, i64>;

impl Enumerator {
    fn place(&self) -> Place<'_> {
        (self.of.as_deref(), self.file.as_deref(), self.line)
    }
}

/// Whether an enumerator counts the others of its enumeration: its name says so, others were added or removed, and on
/// both sides its value is that of a count.
fn counts_others(name: &str, orig: &Numbers<'_>, patched: &Numbers<'_>) -> bool {
    let others = |numbers: &Numbers<'_>| -> BTreeSet<String> {
        let others = numbers.keys().filter(|other| !is_count(other));
        others.map(|other| (*other).to_owned()).collect()
    };
    is_count(name)
        && others(orig) != others(patched)
        && [orig, patched].iter().all(|numbers| stands_last(name, numbers))
}

/// Whether an enumerator is above all others that are no counts; or, if special values are above it, at most one more
/// than the highest value that is not above it.
fn stands_last(name: &str, numbers: &Numbers<'_>) -> bool {
    let Some(value) = numbers.get(name).copied() else {
        return false;
    };
    let others = numbers.iter().filter(|(other, _)| !is_count(other));
    let others: Vec<i64> = others.map(|(_, value)| *value).collect();
    let last = others.iter().filter(|other| **other <= value).max();
    others.iter().all(|other| *other <= value) || last.is_some_and(|last| value.saturating_sub(*last) <= 1)
}

fn shortened(mut differences: Vec<String>) -> Vec<String> {
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    differences
}

fn is_count(enumerator: &str) -> bool {
    let words: Vec<&str> = enumerator.split('_').filter(|word| !word.is_empty()).collect();
    let is = |word: &str, among: &[&str]| among.iter().any(|one| word.eq_ignore_ascii_case(one));
    let mut ends = words.first().into_iter().chain(words.last());
    words.iter().any(|word| is(word, &NUMBERS)) || ends.any(|word| is(word, &ENDS))
}
