//! Prototypes of functions that other files can call, directly or through a member of a structure (DWARF 5, sections 3.3,
//! 5.7 and 5.10).

use gimli::constants as c;

use super::super::{Layouts, Prototype};
use super::{Bad, DEEPEST, Entry, Types, is_aggregate, line, number};

impl<'a> Types<'_, 'a> {
    /// Reads the prototypes of the external functions that the unit defines.
    pub(super) fn prototypes(&self, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry().clone();
            let external = entry.has_attr(c::DW_AT_external) && !entry.has_attr(c::DW_AT_declaration);
            if entry.tag() != c::DW_TAG_subprogram || !external {
                continue;
            }
            // The copy of an inlined function has no name; the entry that it refers to does.
            let Some(name) = self.name(&entry)? else { continue };
            let prototype = Prototype {
                text: self.signature(&entry, 0)?,
                file: self.file(&entry)?,
                line: line(&entry),
            };
            layouts.prototypes.entry(name).or_insert(prototype);
        }
        Ok(())
    }

    /// Reads the prototypes of members that point to functions, of the structures of the file.
    pub(super) fn operations(&self, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry().clone();
            let whole = is_aggregate(&entry) && !entry.has_attr(c::DW_AT_declaration);
            if let Some(name) = self.aggregate_name(&entry)?.filter(|_| whole) {
                self.operations_of(&entry, &name, 0, layouts)?;
            }
        }
        Ok(())
    }

    fn operations_of(&self, of: &Entry<'a>, name: &str, depth: usize, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut tree = self.unit.entries_tree(Some(of.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() != c::DW_TAG_member {
                continue;
            }
            let member = self
                .name(entry)?
                .map_or_else(|| name.to_owned(), |member| format!("{name}.{member}"));
            match self.target(entry)? {
                Some(inner) if is_aggregate(&inner) && !inner.has_attr(c::DW_AT_name) && depth < DEEPEST => {
                    self.operations_of(&inner, &member, depth + 1, layouts)?;
                }
                Some(_) => {
                    let Some(function) = self.pointed_to(entry)? else {
                        continue;
                    };
                    let prototype = Prototype {
                        text: self.signature(&function, 0)?,
                        file: self.file(entry)?,
                        line: line(entry),
                    };
                    layouts.operations.entry(member).or_insert(prototype);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The type of function that an entry's type points to, if it does.
    fn pointed_to(&self, entry: &Entry<'a>) -> Result<Option<Entry<'a>>, Bad> {
        let mut at = self.target(entry)?;
        let mut pointer = false;
        for _ in 0..DEEPEST {
            let Some(entry) = at else { return Ok(None) };
            match entry.tag() {
                c::DW_TAG_typedef
                | c::DW_TAG_const_type
                | c::DW_TAG_volatile_type
                | c::DW_TAG_restrict_type
                | c::DW_TAG_atomic_type => {}
                c::DW_TAG_pointer_type if !pointer => pointer = true,
                c::DW_TAG_subroutine_type if pointer => return Ok(Some(entry)),
                _ => return Ok(None),
            }
            at = self.target(&entry)?;
        }
        Err(Bad("a chain of typedefs has no end".to_owned()))
    }

    /// Result and parameters, by what a caller must know of them: neither names nor qualifiers nor typedefs.
    fn signature(&self, of: &Entry<'a>, depth: usize) -> Result<String, Bad> {
        let mut parameters = Vec::new();
        let mut tree = self.unit.entries_tree(Some(of.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            match child.entry().tag() {
                c::DW_TAG_formal_parameter => parameters.push(self.passed(child.entry(), depth)?),
                c::DW_TAG_unspecified_parameters => parameters.push("...".to_owned()),
                _ => {}
            }
        }
        Ok(format!("{} ({})", self.passed(of, depth)?, parameters.join(", ")))
    }

    /// The type of an entry as it is passed.
    fn passed(&self, entry: &Entry<'a>, depth: usize) -> Result<String, Bad> {
        let left = self.members_left.get().checked_sub(1).filter(|_| depth <= DEEPEST);
        let left = left.ok_or_else(|| Bad("types contain each other without end".to_owned()))?;
        self.members_left.set(left);
        let mut alias = None;
        let mut at = self.target(entry)?;
        for _ in 0..DEEPEST {
            let Some(entry) = at else { return Ok("void".to_owned()) };
            let own = self.name(&entry)?;
            match entry.tag() {
                c::DW_TAG_typedef => alias = own.or(alias),
                c::DW_TAG_const_type | c::DW_TAG_volatile_type | c::DW_TAG_restrict_type | c::DW_TAG_atomic_type => {}
                c::DW_TAG_pointer_type => return Ok(format!("{} *", self.passed(&entry, depth + 1)?)),
                c::DW_TAG_subroutine_type => return self.signature(&entry, depth + 1),
                c::DW_TAG_base_type => {
                    let size = number(&entry, c::DW_AT_byte_size)?.unwrap_or(0);
                    return Ok(own.unwrap_or_else(|| format!("number of {size} bytes")));
                }
                c::DW_TAG_structure_type => return Ok(format!("struct {}", own.or(alias).unwrap_or_default())),
                c::DW_TAG_union_type => return Ok(format!("union {}", own.or(alias).unwrap_or_default())),
                c::DW_TAG_enumeration_type => return Ok(format!("enum {}", own.or(alias).unwrap_or_default())),
                c::DW_TAG_array_type => return Ok(format!("{} []", self.passed(&entry, depth + 1)?)),
                other => return Ok(format!("{other}")),
            }
            at = self.target(&entry)?;
        }
        Err(Bad("a chain of typedefs has no end".to_owned()))
    }
}
