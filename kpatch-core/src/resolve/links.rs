//! From links between atoms to symbols of the kernel.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::pointers::Pointers;
use super::{
    AMBIGUOUS_SYMBOL, BASELINE_MISMATCH, Hook, Image, ImageId, KlpSymbol, MODULE_STATIC_KEY, MODULE_SYMBOL,
    NO_FTRACE_RECORD, OVERRIDDEN, PatchedFunction, Route, Routes, SHARED_FTRACE_RECORD, SymPos, Target, UNKNOWN_MODULE,
    UNKNOWN_SYMBOL, UNSETTLED_POSITION,
};
use crate::arch::KeyField;
use crate::compare;
use crate::error::{Refusal, Stop, Subject};
use crate::group::{Group, ObjectName, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Reloc};
use crate::select::{INIT_REFERENCE, Link, Selection};

type Key = (UnitId, Id<Patched, Atom>);

/// A symbol of the kernel, found.
#[derive(Clone)]
enum Found {
    /// The module loader resolves it.
    Exported { namespace: Option<String> },
    /// Livepatch resolves it by object, name and position.
    Klp(KlpSymbol),
}

pub fn resolve(group: &Group<'_>, selection: &Selection<'_>, target: &Target<'_>) -> Result<Routes, Stop> {
    let mut resolver = Resolver {
        group,
        target,
        defined: defined_names(group, selection),
        link_names: BTreeMap::new(),
        refusals: Vec::new(),
        routes: Routes {
            of: BTreeMap::new(),
            rewrites: BTreeMap::new(),
            detours: BTreeMap::new(),
            dropped: BTreeSet::new(),
            symbols: BTreeMap::new(),
            static_call_keys: BTreeMap::new(),
            functions: BTreeMap::new(),
            nowhere: BTreeSet::new(),
            values: Vec::new(),
            addressed: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            ignored: Vec::new(),
        },
    };
    resolver.functions(selection);
    resolver.drop_entries(selection);
    for value in &selection.values {
        let route = resolver.twin((value.unit, value.patched), value.unit, value.orig, 0);
        if let Some(Route::Symbol { name, .. }) = route {
            resolver.routes.values.push(name);
        }
    }
    for (key, selected) in &selection.atoms {
        if resolver.routes.dropped.contains(key) {
            continue;
        }
        let of: Vec<Option<Route>> = selected.links.iter().map(|link| resolver.route(*key, link)).collect();
        resolver.refusals.extend(super::reach::check(group, *key, &of));
        let pointers = Pointers {
            group,
            target,
            symbols: &resolver.routes.symbols,
        };
        let bad = pointers.check(*key, &of, &mut resolver.routes.addressed);
        resolver.refusals.extend(bad);
        let rewrites = selected.rewrites.iter();
        let rewrites: Option<Vec<Route>> = rewrites.map(|rewrite| resolver.route(*key, &rewrite.link)).collect();
        let detours = selected.detours.iter().flat_map(|detour| &detour.links);
        let detours: Option<Vec<Route>> = detours.map(|link| resolver.route(*key, link)).collect();
        // A missing route is a refusal, so nothing is emitted.
        if let (Some(of), Some(rewrites), Some(detours)) = (of.into_iter().collect(), rewrites, detours) {
            resolver.routes.of.insert(*key, of);
            resolver.routes.rewrites.insert(*key, rewrites);
            resolver.routes.detours.insert(*key, detours);
        }
    }
    resolver.refusals.sort();
    resolver.refusals.dedup();
    if resolver.refusals.is_empty() {
        Ok(resolver.routes)
    } else {
        Err(Stop::Refused(resolver.refusals))
    }
}

/// Names that the livepatch gives to something of its own.
fn defined_names(group: &Group<'_>, selection: &Selection<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (unit, atom) in selection.atoms.keys() {
        let object = &group.units[*unit].patched;
        let row = &object.atoms[*atom];
        names.extend(
            row.symbol
                .iter()
                .chain(&row.aliases)
                .map(|symbol| object.symbols[*symbol].name.to_owned()),
        );
    }
    names
}

struct Resolver<'a, 'd> {
    group: &'a Group<'d>,
    target: &'a Target<'d>,
    defined: BTreeSet<String>,
    link_names: BTreeMap<KlpSymbol, String>,
    refusals: Vec<Refusal>,
    routes: Routes,
}

/// The link of one of an entry's relocated fields. A distance may take two relocations, the first for where it leads.
fn field_link<'l, 'd>(relocs: &[Reloc<Patched>], links: &'l [Link<'d>], number: usize) -> Option<&'l Link<'d>> {
    let mut fields: Vec<u64> = relocs.iter().map(|reloc| reloc.offset).collect();
    fields.dedup();
    let field = fields.get(number)?;
    links.get(relocs.iter().position(|reloc| reloc.offset == *field)?)
}

/// Why calls of a function would not reach its new version.
fn unhooked(image: &Image<'_>, id: ImageId, at: &Subject) -> Option<Refusal> {
    let (name, owner) = (image.symbol(id).name, &image.name);
    match image.hook(id) {
        Hook::Own => None,
        Hook::Missing => Some(
            Refusal::new(
                NO_FTRACE_RECORD,
                at.clone(),
                format!("{owner} has no ftrace record in `{name}`"),
            )
            .hint("the function cannot be traced in this kernel: change its callers instead"),
        ),
        Hook::Shared => {
            let why = format!(
                "behind `{name}` lies code without a symbol (a weak function that was replaced), and the kernel may hook \
                 that instead: the livepatch would load and never be called"
            );
            Some(
                Refusal::new(SHARED_FTRACE_RECORD, at.clone(), why)
                    .hint("change the callers of this function instead, or build the kernel without the weak function"),
            )
        }
    }
}

impl<'a> Resolver<'a, '_> {
    fn functions(&mut self, selection: &Selection<'_>) {
        for (index, key) in selection.functions.iter().enumerate() {
            if let Some(function) = self.function(index, *key, selection) {
                self.routes.functions.insert(*key, function);
            }
        }
    }

    fn function(&mut self, index: usize, key: Key, selection: &Selection<'_>) -> Option<PatchedFunction> {
        let (unit, atom) = key;
        let owner = &self.group.units[unit];
        let twin = owner.pairing.orig_of[atom]?;
        let at = owner.patched.subject(atom);
        let (image, id) = self.proven_twin(unit, twin, &at)?;
        let sympos = self.sympos(image, id, &at)?;
        let name = image.lookup_name(id).to_owned();
        if let Some(refusal) = unhooked(image, id, &at) {
            self.refusals.push(refusal);
            return None;
        }
        Some(PatchedFunction {
            object: owner.parent.clone(),
            name,
            sympos,
            unit: owner.name.clone(),
            reason: selection.atoms[&key].reason.clone(),
            handle: format!("klp_new_function_{index}"),
        })
    }

    /// The image that a unit is part of.
    fn image(&mut self, parent: &ObjectName, at: &Subject) -> Option<&'a Image<'a>> {
        let target = self.target;
        let image = target.image(parent);
        if image.is_none() {
            let why = format!("module {parent} is not part of this kernel");
            self.refusals.push(Refusal::new(UNKNOWN_MODULE, at.clone(), why));
        }
        image
    }

    /// The kernel's symbol of an atom of the original side; the size of a function proves that it is the same code.
    fn proven_twin(&mut self, unit: UnitId, atom: Id<Orig, Atom>, at: &Subject) -> Option<(&'a Image<'a>, ImageId)> {
        let owner = &self.group.units[unit];
        let name = owner.orig.name(atom).unwrap_or_default();
        let image = self.image(&owner.parent, at)?;
        let Some(id) = image.of_atom(owner, atom) else {
            let (unit, parent) = (&owner.name, &owner.parent);
            let why = match image.count(name) {
                0 => format!("`{name}` of {unit} is not in the symbol table of {parent}"),
                1 => format!("the `{name}` of {parent} cannot be told to be that of {unit}"),
                all => format!("none of the {all} `{name}` of {parent} can be told to be that of {unit}"),
            };
            self.refusals.push(Refusal::new(UNKNOWN_SYMBOL, at.clone(), why));
            return None;
        };
        let row = &owner.orig.atoms[atom];
        let weak = row
            .symbol
            .is_some_and(|symbol| owner.orig.symbols[symbol].st_bind == elf::STB_WEAK.0);
        if weak && image.symbol(id).is_strong() {
            let (unit, parent) = (&owner.name, &owner.parent);
            let why = format!("`{name}` is weak in {unit}, and {parent} has the definition of another file instead");
            self.refusals.push(
                Refusal::new(OVERRIDDEN, at.clone(), why)
                    .hint("this code is not in the kernel: change the definition that replaces it"),
            );
            return None;
        }
        let actual = image.symbol(id).size;
        let expected = match &owner.shipped {
            None => Ok(owner.orig.size(atom)),
            Some(shipped) => shipped.size(&owner.orig, atom),
        };
        let why = match expected {
            Err(why) => Some(format!("`{name}` {why}")),
            Ok(expected) if row.kind == AtomKind::Function && image.is_exact() && expected != actual => Some(format!(
                "`{name}` has {actual} bytes in {} and {expected} in the recompiled object",
                owner.parent
            )),
            Ok(_) => None,
        };
        if let Some(why) = why {
            self.refusals.push(
                Refusal::new(BASELINE_MISMATCH, at.clone(), why)
                    .hint("the image was not built from these objects: use the vmlinux of this very build"),
            );
            return None;
        }
        Some((image, id))
    }
}

impl<'a, 'd> Resolver<'a, 'd> {
    fn sympos(&mut self, image: &Image<'_>, id: ImageId, at: &Subject) -> Option<SymPos> {
        let (sympos, name) = (image.sympos(id), image.symbol(id).name);
        if image.lookup_name(id).is_empty() {
            let why = format!("kallsyms of this kernel cuts `{name}` off at its dot, and nothing is left");
            self.refusals.push(Refusal::new(UNKNOWN_SYMBOL, at.clone(), why));
            return None;
        }
        if sympos.is_none() {
            let why = format!("`{name}` also names something in the init section of {}", image.name);
            self.refusals.push(
                Refusal::new(UNSETTLED_POSITION, at.clone(), why)
                    .hint("its position depends on whether the module or the livepatch is loaded first"),
            );
        }
        sympos
    }

    /// Why there is no route. An unresolved reference has no value that could ship.
    fn refuse(&mut self, refusal: Refusal) -> Option<Route> {
        self.refusals.push(refusal);
        None
    }

    fn route(&mut self, from: Key, link: &Link<'_>) -> Option<Route> {
        match *link {
            Link::Absolute(value) => Some(Route::Absolute(value)),
            Link::InPatch(place) => Some(Route::InPatch {
                unit: place.unit,
                atom: place.atom,
                delta: place.delta,
            }),
            Link::Twin { unit, atom, delta } => self.twin(from, unit, atom, delta),
            Link::Name { name, delta } => self.name(from, name, delta),
        }
    }

    fn twin(&mut self, from: Key, unit: UnitId, atom: Id<Orig, Atom>, delta: i64) -> Option<Route> {
        let owner = &self.group.units[unit];
        let name = owner.orig.name(atom).unwrap_or_default();
        let local = owner.orig.atoms[atom]
            .symbol
            .is_none_or(|symbol| owner.orig.symbols[symbol].is_local());
        if !local && names::split_promoted(name).1.is_none() {
            return self.name(from, name, delta);
        }
        let at = self.group.units[from.0].patched.subject(from.1);
        let (image, id) = self.proven_twin(unit, atom, &at)?;
        self.klp(from, image, id, delta)
    }

    fn name(&mut self, from: Key, name: &str, delta: i64) -> Option<Route> {
        let parent = &self.group.units[from.0].parent;
        let at = self.group.units[from.0].patched.subject(from.1);
        let target = self.target;
        if self.group.units[from.0]
            .patched
            .arch
            .facts()
            .loader
            .is_own_in_each_module(name)
        {
            let name = name.to_owned();
            return Some(Route::Symbol { name, delta });
        }
        if !parent.is_vmlinux()
            && let Some(image) = target.image(parent)
        {
            match image.global(name)[..] {
                [one] => return self.klp(from, image, one, delta),
                [] => {}
                _ => return self.refuse_ambiguous(at, name, image),
            }
        }
        // vmlinux cannot use a symbol that only a module exports; it may have one of that name itself.
        let own = parent.is_vmlinux() && !target.vmlinux.global(name).is_empty();
        let export = target.exports.get(name);
        if let Some(export) = export.filter(|export| export.owner.is_vmlinux() || !own) {
            return self.exported(from, name, export, delta);
        }
        match target.vmlinux.global(name)[..] {
            [one] => self.klp(from, &target.vmlinux, one, delta),
            [] if target.partial => Some(Route::Symbol {
                name: name.to_owned(),
                delta,
            }),
            [] if self.is_nowhere(from.0, name) => {
                self.routes.nowhere.insert(name.to_owned());
                Some(Route::Symbol {
                    name: name.to_owned(),
                    delta,
                })
            }
            [] => {
                let why = format!("`{name}` is neither in the kernel nor in the livepatch");
                self.refuse(Refusal::new(UNKNOWN_SYMBOL, at, why).missing(name))
            }
            _ => self.refuse_ambiguous(at, name, &target.vmlinux),
        }
    }

    /// Whether a name is weak for all that the unit does with it, and nothing that is linked with it has it, under whatever
    /// binding. Then the kernel's own link would make it 0, and so does the module loader.
    fn is_nowhere(&self, unit: UnitId, name: &str) -> bool {
        let owner = &self.group.units[unit];
        let own = owner.patched.symbols.iter().filter(|(_, symbol)| symbol.name == name);
        let own: Vec<_> = own
            .map(|(_, symbol)| symbol.section.is_none() && symbol.st_bind == elf::STB_WEAK.0)
            .collect();
        let weak = !own.is_empty() && own.iter().all(|weak| *weak);
        let lacks = |image: &Image<'_>| image.is_exact() && image.count(name) == 0;
        let module = self.target.image(&owner.parent);
        let added = self.group.patched_definition(name).is_some();
        weak && !added && lacks(&self.target.vmlinux) && module.is_some_and(lacks)
    }

    fn refuse_ambiguous(&mut self, at: Subject, name: &str, image: &Image<'_>) -> Option<Route> {
        let why = format!(
            "{} has {} global symbols `{name}`",
            image.name,
            image.global(name).len()
        );
        self.refuse(Refusal::new(AMBIGUOUS_SYMBOL, at, why))
    }

    fn exported(&mut self, from: Key, name: &str, export: &super::Export, delta: i64) -> Option<Route> {
        let parent = self.group.units[from.0].parent.clone();
        if export.owner.is_vmlinux() && export.is_for_all() {
            let found = Found::Exported {
                namespace: export.namespace.clone(),
            };
            return Some(self.link(from, name, found, delta));
        }
        if export.owner.is_vmlinux()
            && let [one] = self.target.vmlinux.global(name)[..]
        {
            return self.klp(from, &self.target.vmlinux, one, delta);
        }
        if parent.is_vmlinux() && !export.owner.is_vmlinux() {
            let at = self.group.units[from.0].patched.subject(from.1);
            let why = format!("`{name}` belongs to module {}, which need not be loaded", export.owner);
            return self.refuse(
                Refusal::new(MODULE_SYMBOL, at, why).hint("the kernel image cannot use it without a livepatch either"),
            );
        }
        // A real import would make the exporter a dependency of the whole livepatch.
        let owner = export.owner.clone();
        let gate = if owner.is_vmlinux() { owner.clone() } else { parent };
        let symbol = KlpSymbol {
            gate,
            owner,
            name: name.to_owned(),
            sympos: SymPos(0),
        };
        Some(self.link(from, name, Found::Klp(symbol), delta))
    }

    fn klp(&mut self, from: Key, image: &Image<'_>, id: ImageId, delta: i64) -> Option<Route> {
        let name = image.symbol(id).name;
        let global_export = self.target.exports.get(name).filter(|export| {
            let own = export.owner == image.name && image.name.is_vmlinux();
            own && export.is_for_all() && image.global(name)[..] == [id]
        });
        if let Some(export) = global_export {
            let found = Found::Exported {
                namespace: export.namespace.clone(),
            };
            return Some(self.link(from, name, found, delta));
        }
        let at = self.group.units[from.0].patched.subject(from.1);
        if image.symbol(id).init {
            let why = format!("it refers to `{name}`, which is gone once {} has started", image.name);
            return self.refuse(
                Refusal::new(INIT_REFERENCE, at, why).hint("do not use __init code or data from code that still runs"),
            );
        }
        let sympos = self.sympos(image, id, &at)?;
        let owner = image.name.clone();
        let symbol = KlpSymbol {
            gate: owner.clone(),
            owner,
            name: image.lookup_name(id).to_owned(),
            sympos,
        };
        Some(self.link(from, name, Found::Klp(symbol), delta))
    }

    fn link(&mut self, from: Key, name: &str, found: Found, delta: i64) -> Route {
        let name = match found {
            Found::Exported { namespace } => {
                self.routes.namespaces.extend(namespace);
                name.to_owned()
            }
            Found::Klp(symbol) => self.link_name(symbol),
        };
        if let Some(call) = name.strip_prefix("__SCT__") {
            self.static_call_key(from, call);
        }
        Route::Symbol { name, delta }
    }

    /// A name for the link step: the real one, unless it means something else there already.
    fn link_name(&mut self, symbol: KlpSymbol) -> String {
        if let Some(name) = self.link_names.get(&symbol) {
            return name.clone();
        }
        // objtool would make a static call site of a trampoline's name, and the kernel cannot find the key of one
        // that a module owns; under another name the call stays a call to the trampoline, which is always right.
        // The livepatch has a `__this_module` of its own, from modpost.
        let hidden =
            !symbol.owner.is_vmlinux() && (symbol.name.starts_with("__SCT__") || symbol.name == "__this_module");
        // modpost would take an exported name for an import, and make its module a dependency of the livepatch.
        let free = |name: &str| {
            !self.defined.contains(name)
                && !self.routes.symbols.contains_key(name)
                && self.target.exports.get(name).is_none()
        };
        let name = if !hidden && free(&symbol.name) {
            symbol.name.clone()
        } else {
            // No digits behind a dot: modpost takes them for a compiler's counter and cuts the name there.
            format!("klp_symbol_{}_{}", self.routes.symbols.len(), symbol.name)
        };
        self.link_names.insert(symbol.clone(), name.clone());
        self.routes.symbols.insert(name.clone(), symbol);
        name
    }

    fn static_call_key(&mut self, from: Key, call: &str) {
        let key = format!("__SCK__{call}");
        let known = self.routes.static_call_keys.entry(from.0).or_default();
        if known.contains(&key) {
            return;
        }
        if let Some(Route::Symbol { name, .. }) = self.name(from, &key, 0) {
            self.routes.static_call_keys.entry(from.0).or_default().insert(name);
        }
    }

    /// Whether a name that a module's unit uses means something of the kernel image.
    fn is_key_of_vmlinux(&self, parent: &ObjectName, name: &str) -> bool {
        match self.target.exports.get(name) {
            Some(export) => export.owner.is_vmlinux(),
            None => {
                let own = self.target.image(parent).is_some_and(|image| image.count(name) > 0);
                !own && self.target.vmlinux.global(name).len() == 1
            }
        }
    }

    /// Leaves entries out, and with each what is about that entry (objtool's annotations).
    fn drop_entries(&mut self, selection: &Selection<'_>) {
        for (key, selected) in &selection.atoms {
            if self.is_dropped(*key, &selected.links) {
                self.routes.dropped.insert(*key);
            }
        }
        loop {
            let dropped = &self.routes.dropped;
            let about_dropped = |key: &&Key| {
                let owner = compare::owner(&self.group.units[key.0].patched, key.1);
                !dropped.contains(*key) && owner.is_some_and(|owner| dropped.contains(&(key.0, owner)))
            };
            let more: Vec<Key> = selection.atoms.keys().filter(about_dropped).copied().collect();
            if more.is_empty() {
                return;
            }
            self.routes.dropped.extend(more);
        }
    }

    /// An entry whose static key belongs to a module: the kernel reads such entries when the livepatch is loaded, long
    /// before the module's key can be filled in. Tracepoints are left out (they stay off in the patched function);
    /// for any other branch it would be wrong, so it is refused. A static call goes to the trampoline without its entry,
    /// which is always right.
    fn is_dropped(&mut self, key: Key, links: &[Link<'_>]) -> bool {
        let (unit, atom) = key;
        let owner = &self.group.units[unit];
        let object = &owner.patched;
        let row = object.sections[object.atoms[atom].section].special;
        let Some(field) = row.and_then(|row| row.key).filter(|_| !owner.parent.is_vmlinux()) else {
            return false;
        };
        let (KeyField::Branch(number) | KeyField::Call(number)) = field;
        let name = match field_link(object.relocs(atom), links, number) {
            Some(Link::Name { name, .. }) => (*name).to_owned(),
            Some(Link::Twin { unit, atom, .. }) => self.group.units[*unit].orig.label(*atom),
            _ => return false,
        };
        if self.is_key_of_vmlinux(&owner.parent, &name) {
            return false;
        }
        if let KeyField::Call(_) = field {
            return true;
        }
        if name.starts_with("__tracepoint_") {
            let why = format!(
                "tracepoint {name} of module {} stays off in the patched function",
                owner.parent
            );
            self.routes.ignored.push(Ignored {
                unit: owner.name.clone(),
                name,
                why,
            });
            return true;
        }
        self.refusals.push(
            Refusal::new(
                MODULE_STATIC_KEY,
                object.subject(atom),
                format!("static key `{name}` belongs to module {}", owner.parent),
            )
            .hint("use static_key_enabled(), which reads the key, in the patched function"),
        );
        false
    }
}
