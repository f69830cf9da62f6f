//! Reads the types of a unit out of DWARF 5 (sections 5.3 base types, 5.5 arrays, 5.7 structures).

mod functions;
mod variables;

use std::cell::Cell;
use std::collections::BTreeSet;

use gimli::{
    AttributeValue, DebuggingInformationEntry, DwAt, Dwarf, EndianSlice, EntriesTreeNode, RunTimeEndian, SectionId,
    Unit, UnitOffset, constants as c,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationKind, RelocationTarget};

use super::{Enumerator, Kind, Layout, Layouts, Member};
use crate::error::{Error, Subject};

use crate::codes::object::BAD_DEBUG_INFO;
/// Types inside types; a file that claims more is damaged.
const DEEPEST: usize = 64;

/// Limit of members read for each byte of debug information. An unnamed type is read again wherever it is used, and in
/// a damaged file such types may contain each other.
const MEMBERS_A_BYTE: usize = 4;

/// The sections that describe types. The base address of a unit may be an entry of `.debug_addr`.
const SECTIONS: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// Why something could not be read.
struct Bad(String);

impl From<gimli::Error> for Bad {
    fn from(error: gimli::Error) -> Self {
        Bad(error.to_string())
    }
}

impl From<object::Error> for Bad {
    fn from(error: object::Error) -> Self {
        Bad(error.to_string())
    }
}

pub(super) fn read(name: &str, object: &[u8]) -> Result<Layouts, Error> {
    all(object).map_err(|Bad(why)| Error::new(BAD_DEBUG_INFO, Subject::file(name), why))
}

fn all(object: &[u8]) -> Result<Layouts, Bad> {
    let file = object::File::parse(object)?;
    let sections = SECTIONS
        .iter()
        .map(|id| Ok((*id, relocated(&file, id.name())?)))
        .collect::<Result<Vec<_>, Bad>>()?;
    let endian = if file.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let dwarf = Dwarf::load(|id| {
        let section = sections.iter().find(|(known, _)| *known == id);
        let bytes = section.map_or(&[][..], |(_, bytes)| bytes.as_slice());
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, endian))
    })?;
    let length = sections.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let members_left = Cell::new(length.saturating_mul(MEMBERS_A_BYTE));
    let mut layouts = Layouts::default();
    let mut headers = dwarf.units();
    let mut units = 0;
    while let Some(header) = headers.next()? {
        units += 1;
        let unit = dwarf.unit(header)?;
        let types = Types {
            dwarf: &dwarf,
            unit: &unit,
            of_the_file: of_the_file(&unit)?,
            members_left: &members_left,
        };
        types.all(&mut layouts)?;
        types.variables(&mut layouts)?;
        types.prototypes(&mut layouts)?;
        types.operations(&mut layouts)?;
    }
    if units == 0 {
        return Err(Bad("there is no debugging information in it".to_owned()));
    }
    Ok(layouts)
}

/// Entries at file scope, inside no other entry.
fn of_the_file(unit: &Unit<Slice<'_>>) -> Result<BTreeSet<UnitOffset>, Bad> {
    let mut found = BTreeSet::new();
    let mut tree = unit.entries_tree(None)?;
    let mut children = tree.root()?.children();
    while let Some(child) = children.next()? {
        found.insert(child.entry().offset());
    }
    Ok(found)
}

/// A section with its relocations applied: in a relocatable object each reference to a string is one.
fn relocated(file: &object::File<'_>, name: &str) -> Result<Vec<u8>, Bad> {
    let Some(section) = file.section_by_name(name) else {
        return Ok(Vec::new());
    };
    let mut bytes = section.uncompressed_data()?.into_owned();
    for (offset, relocation) in section.relocations() {
        let outside = || Bad(format!("a relocation of {name} at {offset:#x} is not understood"));
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            return Err(outside());
        };
        if relocation.kind() != RelocationKind::Absolute || relocation.has_implicit_addend() {
            return Err(outside());
        }
        let value = file.symbol_by_index(symbol)?.address();
        let value = value.wrapping_add_signed(relocation.addend());
        let start = usize::try_from(offset).map_err(|_| outside())?;
        let width = usize::from(relocation.size() / 8);
        let place = start.checked_add(width).and_then(|end| bytes.get_mut(start..end));
        let place = place.ok_or_else(outside)?;
        if file.is_little_endian() {
            place.copy_from_slice(value.to_le_bytes().get(..width).ok_or_else(outside)?);
        } else {
            let from = 8usize.checked_sub(width).ok_or_else(outside)?;
            place.copy_from_slice(&value.to_be_bytes()[from..]);
        }
    }
    Ok(bytes)
}

/// A type without typedefs and qualifiers, which do not affect its layout.
enum Plain<'a> {
    Void,
    /// A structure or union without a name at file scope.
    Unnamed(Entry<'a>),
    /// Anything else, with its size in bytes.
    Named(Kind, u64),
}

/// The types of one unit.
struct Types<'d, 'a> {
    dwarf: &'d Dwarf<Slice<'a>>,
    unit: &'d Unit<Slice<'a>>,
    of_the_file: BTreeSet<UnitOffset>,
    members_left: &'d Cell<usize>,
}

impl<'a> Types<'_, 'a> {
    fn all(&self, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let (name, entry) = match entry.tag() {
                c::DW_TAG_structure_type | c::DW_TAG_union_type => (self.aggregate_name(entry)?, entry.clone()),
                c::DW_TAG_typedef => match self.target(entry)? {
                    Some(target) if is_aggregate(&target) && !target.has_attr(c::DW_AT_name) => {
                        (self.name(entry)?, target)
                    }
                    _ => continue,
                },
                c::DW_TAG_enumeration_type => {
                    self.enumerators(child.entry().clone(), layouts)?;
                    continue;
                }
                _ => continue,
            };
            if let Some(name) = name
                && !entry.has_attr(c::DW_AT_declaration)
            {
                let layout = self.layout(&entry)?;
                layouts.aggregates.entry(name).or_insert(layout);
            }
        }
        Ok(())
    }

    fn layout(&self, entry: &Entry<'a>) -> Result<Layout, Bad> {
        let mut members = Vec::new();
        self.members(entry.offset(), "", 0, 0, &mut members)?;
        Ok(Layout {
            size: number(entry, c::DW_AT_byte_size)?.unwrap_or(0),
            members,
            file: self.file(entry)?,
            line: line(entry),
        })
    }

    fn enumerators(&self, of: Entry<'a>, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(Some(of.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != c::DW_TAG_enumerator {
                continue;
            }
            let name = self.name(entry)?;
            let value = entry.attr_value(c::DW_AT_const_value);
            // A value of more than 64 bits is no C.
            let value = value.and_then(|value| value.sdata_value().or_else(|| Some(value.udata_value()? as i64)));
            let (Some(name), Some(value)) = (name, value) else {
                return Err(Bad("an enumerator has no name or no value".to_owned()));
            };
            let enumerator = Enumerator {
                value,
                of: self.name(&of)?,
                file: self.file(&of)?,
                line: line(&of),
            };
            layouts.enumerators.entry(name).or_insert(enumerator);
        }
        Ok(())
    }

    /// Adds the members of a structure that starts at bit `base` of the outer one.
    fn members(
        &self,
        of: UnitOffset,
        prefix: &str,
        base: u64,
        depth: usize,
        found: &mut Vec<Member>,
    ) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(Some(of))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != c::DW_TAG_member {
                continue;
            }
            let name = self.name(entry)?;
            self.member(entry, (name.as_deref(), prefix), base, depth, found)?;
        }
        Ok(())
    }

    /// Adds a member, or what it consists of if its type has no name.
    fn member(
        &self,
        entry: &Entry<'a>,
        (name, prefix): (Option<&str>, &str),
        base: u64,
        depth: usize,
        found: &mut Vec<Member>,
    ) -> Result<(), Bad> {
        let left = self.members_left.get().checked_sub(1).filter(|_| depth <= DEEPEST);
        let left = left.ok_or_else(|| Bad("types contain each other without end".to_owned()))?;
        self.members_left.set(left);
        let at = base.saturating_add(position(entry)?);
        let named = format!("{prefix}{}", name.unwrap_or_default());
        match self.plain(entry, depth)? {
            Plain::Unnamed(aggregate) => {
                let prefix = if name.is_some() { format!("{named}.") } else { named };
                self.members(aggregate.offset(), &prefix, at, depth + 1, found)
            }
            Plain::Named(kind, size) => {
                found.push(Member {
                    name: named,
                    at,
                    bits: number(entry, c::DW_AT_bit_size)?.unwrap_or(size.saturating_mul(8)),
                    kind,
                });
                Ok(())
            }
            Plain::Void => Err(Bad(format!("member `{named}` has no type"))),
        }
    }

    /// What the type of an entry is.
    fn plain(&self, entry: &Entry<'a>, depth: usize) -> Result<Plain<'a>, Bad> {
        let mut alias = None;
        let mut at = self.target(entry)?;
        for _ in 0..DEEPEST {
            let Some(entry) = at else { return Ok(Plain::Void) };
            match entry.tag() {
                c::DW_TAG_typedef if self.of_the_file.contains(&entry.offset()) => alias = self.name(&entry)?.or(alias),
                c::DW_TAG_typedef => {}
                c::DW_TAG_const_type | c::DW_TAG_volatile_type | c::DW_TAG_restrict_type | c::DW_TAG_atomic_type => {}
                _ => return self.kind(entry, alias, depth),
            }
            at = self.target(&entry)?;
        }
        Err(Bad("a chain of typedefs has no end".to_owned()))
    }

    fn kind(&self, entry: Entry<'a>, alias: Option<String>, depth: usize) -> Result<Plain<'a>, Bad> {
        let size = number(&entry, c::DW_AT_byte_size)?;
        let kind = match entry.tag() {
            c::DW_TAG_structure_type | c::DW_TAG_union_type => {
                let own = match self.of_the_file.contains(&entry.offset()) {
                    true => self.aggregate_name(&entry)?,
                    false => None,
                };
                match own.or(alias) {
                    Some(name) => Kind::Aggregate(name),
                    None => return Ok(Plain::Unnamed(entry)),
                }
            }
            c::DW_TAG_base_type => Kind::Scalar(match entry.attr_value(c::DW_AT_encoding) {
                Some(AttributeValue::Encoding(c::DW_ATE_boolean)) => "truth value",
                Some(AttributeValue::Encoding(c::DW_ATE_float)) => "floating point number",
                _ => "number",
            }),
            c::DW_TAG_enumeration_type => Kind::Scalar("number"),
            c::DW_TAG_pointer_type => {
                let address = u64::from(self.unit.encoding().address_size);
                return Ok(Plain::Named(Kind::Scalar("pointer"), size.unwrap_or(address)));
            }
            c::DW_TAG_array_type => return self.array(&entry, depth),
            other => return Err(Bad(format!("types of the kind {other} are not understood"))),
        };
        let size = size.ok_or_else(|| Bad(format!("{kind} has no size")))?;
        Ok(Plain::Named(kind, size))
    }

    fn array(&self, entry: &Entry<'a>, depth: usize) -> Result<Plain<'a>, Bad> {
        let mut counts = Vec::new();
        let mut tree = self.unit.entries_tree(Some(entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            if child.entry().tag() == c::DW_TAG_subrange_type {
                counts.push(count(&child)?);
            }
        }
        let (element, size) = match self.plain(entry, depth)? {
            Plain::Named(kind, size) => (kind, size),
            Plain::Unnamed(aggregate) => {
                let mut members = Vec::new();
                self.members(aggregate.offset(), "", 0, depth + 1, &mut members)?;
                let size = number(&aggregate, c::DW_AT_byte_size)?.unwrap_or(0);
                (Kind::Unnamed(members, size), size)
            }
            Plain::Void => return Err(Bad("an array has no element".to_owned())),
        };
        let size = counts.iter().fold(size, |size, count| size.saturating_mul(*count));
        let element = match element {
            Kind::Array(inner, element) => {
                counts.extend(inner);
                element
            }
            element => Box::new(element),
        };
        Ok(Plain::Named(Kind::Array(counts, element), size))
    }

    fn target(&self, entry: &Entry<'a>) -> Result<Option<Entry<'a>>, Bad> {
        match entry.attr_value(c::DW_AT_type) {
            None => Ok(None),
            Some(AttributeValue::UnitRef(offset)) => Ok(Some(self.unit.entry(offset)?)),
            Some(other) => Err(Bad(format!("a type is referred to by {other:?}"))),
        }
    }

    fn name(&self, entry: &Entry<'a>) -> Result<Option<String>, Bad> {
        let Some(value) = entry.attr_value(c::DW_AT_name) else {
            return Ok(None);
        };
        let text = self.dwarf.attr_string(self.unit, value)?;
        Ok(Some(text.to_string_lossy().into_owned()))
    }

    fn aggregate_name(&self, entry: &Entry<'a>) -> Result<Option<String>, Bad> {
        let word = match entry.tag() {
            c::DW_TAG_union_type => "union",
            _ => "struct",
        };
        Ok(self.name(entry)?.map(|name| format!("{word} {name}")))
    }

    fn file(&self, entry: &Entry<'a>) -> Result<Option<String>, Bad> {
        let index = match entry.attr_value(c::DW_AT_decl_file) {
            Some(AttributeValue::FileIndex(index)) => Some(index),
            Some(other) => other.udata_value(),
            None => None,
        };
        let header = self.unit.line_program.as_ref().map(|program| program.header());
        let Some((index, header)) = index.zip(header) else {
            return Ok(None);
        };
        let Some(file) = header.file(index) else {
            return Ok(None);
        };
        let text = |value| -> Result<String, Bad> {
            let text = self.dwarf.attr_string(self.unit, value)?;
            Ok(text.to_string_lossy().into_owned())
        };
        let name = text(file.path_name())?;
        let folder = file.directory(header).map(text).transpose()?;
        Ok(Some(match folder {
            Some(folder) if !name.starts_with('/') && !folder.is_empty() => format!("{folder}/{name}"),
            _ => name,
        }))
    }
}

/// Where an entry is declared.
fn line(entry: &Entry<'_>) -> Option<u32> {
    let line = entry.attr_value(c::DW_AT_decl_line)?.udata_value()?;
    u32::try_from(line).ok()
}

fn is_aggregate(entry: &Entry<'_>) -> bool {
    matches!(entry.tag(), c::DW_TAG_structure_type | c::DW_TAG_union_type)
}

/// An attribute that is a number, if it is there.
fn number(entry: &Entry<'_>, name: DwAt) -> Result<Option<u64>, Bad> {
    let Some(value) = entry.attr_value(name) else {
        return Ok(None);
    };
    let number = value.udata_value();
    number
        .map(Some)
        .ok_or_else(|| Bad(format!("{name} of an entry is {value:?} and no number")))
}

/// Offset of a member in bits.
fn position(entry: &Entry<'_>) -> Result<u64, Bad> {
    // Before DWARF 4 fields of bits were counted from the other end; the compiler is asked for version 5.
    if entry.has_attr(c::DW_AT_bit_offset) {
        return Err(Bad("a field of bits is described as in DWARF 3".to_owned()));
    }
    if let Some(bits) = number(entry, c::DW_AT_data_bit_offset)? {
        return Ok(bits);
    }
    Ok(number(entry, c::DW_AT_data_member_location)?
        .unwrap_or(0)
        .saturating_mul(8))
}

/// Number of elements of one dimension; 0 for an array without a size.
fn count(range: &EntriesTreeNode<'_, '_, Slice<'_>>) -> Result<u64, Bad> {
    let entry = range.entry();
    if let Some(count) = number(entry, c::DW_AT_count)? {
        return Ok(count);
    }
    let Some(value) = entry.attr_value(c::DW_AT_upper_bound) else {
        return Ok(0);
    };
    // GCC writes -1 for an array of no elements.
    let last = value.sdata_value();
    let last = last.ok_or_else(|| Bad(format!("an array ends at {value:?}")))?;
    Ok(u64::try_from(last.saturating_add(1)).unwrap_or(0))
}
