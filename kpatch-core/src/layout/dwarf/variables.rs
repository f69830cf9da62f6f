//! Variables with a fixed address (DWARF 5, section 4.1), static variables of functions included.

use std::collections::BTreeMap;

use gimli::{AttributeValue, Operation, UnitOffset, constants as c};

use super::super::{Layout, Layouts, Scope, Variable};
use super::{Bad, DEEPEST, Entry, Plain, Types, line, number};

impl<'a> Types<'_, 'a> {
    /// Reads the variables. Constants are left out: nothing writes to them, so comparing their content is enough.
    pub(super) fn variables(&self, layouts: &mut Layouts) -> Result<(), Bad> {
        let mut declared: Vec<(UnitOffset, String, Scope)> = Vec::new();
        let mut typed: BTreeMap<UnitOffset, Entry<'a>> = BTreeMap::new();
        // Functions around the entry, with their depth.
        let mut functions: Vec<(isize, Option<String>)> = Vec::new();
        let mut entries = self.unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            let depth = entry.depth();
            while functions.pop_if(|(around, _)| *around >= depth).is_some() {}
            match entry.tag() {
                c::DW_TAG_subprogram => functions.push((depth, self.name(entry)?)),
                c::DW_TAG_variable => {
                    if let Some(name) = self.name(entry)? {
                        let function = functions.last().map(|(_, function)| function.clone());
                        let scope = function.map_or(Scope::File, Scope::Function);
                        declared.push((entry.offset(), name, scope));
                    }
                    if self.has_address(entry) {
                        let first = self.first(entry)?;
                        let typed_here = entry.has_attr(c::DW_AT_type);
                        typed.insert(first.offset(), if typed_here { entry.clone() } else { first });
                    }
                }
                _ => {}
            }
        }
        for (offset, name, scope) in declared {
            let Some(entry) = typed.get(&offset) else { continue };
            if self.is_constant(entry)? {
                continue;
            }
            let mut members = Vec::new();
            self.member(entry, (Some(&name), ""), 0, 0, &mut members)?;
            let size = match self.plain(entry, 0)? {
                Plain::Unnamed(aggregate) => number(&aggregate, c::DW_AT_byte_size)?.unwrap_or(0),
                Plain::Named(_, size) => size,
                Plain::Void => 0,
            };
            let layout = Layout {
                size,
                members,
                file: self.file(entry)?,
                line: line(entry),
            };
            layouts
                .variables
                .entry(name)
                .or_default()
                .push(Variable { scope, layout });
        }
        Ok(())
    }

    /// Whether the variable has a fixed address, as a whole or in pieces. A variable on the stack that holds an address
    /// is described by a value instead.
    fn has_address(&self, entry: &Entry<'a>) -> bool {
        let Some(AttributeValue::Exprloc(location)) = entry.attr_value(c::DW_AT_location) else {
            return false;
        };
        let mut operations = location.operations(self.unit.encoding());
        let mut address = false;
        while let Ok(Some(operation)) = operations.next() {
            match operation {
                Operation::Address { .. } | Operation::AddressIndex { .. } => address = true,
                Operation::StackValue => return false,
                _ => {}
            }
        }
        address
    }

    /// The declaring entry of a variable: an inlined function is described once, and its copies refer to that.
    fn first(&self, entry: &Entry<'a>) -> Result<Entry<'a>, Bad> {
        let mut entry = entry.clone();
        for _ in 0..DEEPEST {
            let origin = entry.attr_value(c::DW_AT_abstract_origin);
            match origin.or_else(|| entry.attr_value(c::DW_AT_specification)) {
                Some(AttributeValue::UnitRef(offset)) => entry = self.unit.entry(offset)?,
                _ => return Ok(entry),
            }
        }
        Err(Bad("a chain of declarations has no end".to_owned()))
    }

    fn is_constant(&self, variable: &Entry<'a>) -> Result<bool, Bad> {
        let mut at = self.target(variable)?;
        for _ in 0..DEEPEST {
            let Some(entry) = at else { return Ok(false) };
            match entry.tag() {
                c::DW_TAG_const_type => return Ok(true),
                c::DW_TAG_typedef | c::DW_TAG_volatile_type | c::DW_TAG_atomic_type | c::DW_TAG_array_type => {}
                _ => return Ok(false),
            }
            at = self.target(&entry)?;
        }
        Err(Bad("a chain of typedefs has no end".to_owned()))
    }
}
