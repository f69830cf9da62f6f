//! Variables and constants: what can be added, what must stay, what is refused.

use object::elf;

use crate::common::case::{Case, pair};
use crate::common::code::{Part, call, imm, label, lea, load, long, pointer, raw, this_cpu, word};
use crate::common::unit::{Unit, function, local};

fn table(value: u32) -> Unit {
    Unit::new()
        .local(".rodata.table", "table", &[word(1), word(value)])
        .with(function("one", &[load("table")]))
        .with(function("two", &[lea("table"), call("use")]))
        .with(function("neither", &[imm(1)]))
}

fn variable(section: &str, value: u64, in_code: u32) -> Unit {
    Unit::new()
        .global(section, "v", &[long(value)])
        .with(function("f", &[imm(in_code), load("v")]))
}

/// A weak function of the generic code.
fn weak(value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value)]).bound(elf::STB_WEAK))
        .with(function("user", &[call("f")]))
}

/// Two variables in one section that a section attribute gives them, and a function that may use the second.
fn shared(section: &str, extra: bool) -> Unit {
    let unit = Unit::new().local(section, "old", &[word(1), word(0)]);
    if extra {
        unit.local(section, "added", &[long(0)])
            .with(function("f", &[load("old"), load("added")]))
    } else {
        unit.with(function("f", &[load("old")]))
    }
}

/// Variables of each processor in one section, before them perhaps one without any bytes, as an empty lock has.
fn per_cpu(lock: bool, value: u32) -> Unit {
    let section = ".data..percpu";
    let unit = if lock {
        Unit::new().local(section, "lock", &[])
    } else {
        Unit::new()
    };
    unit.local(section, "one", &[long(0)])
        .local(section, "two", &[long(0)])
        .with(function("f", &[imm(value), this_cpu("one")]))
        .with(function("g", &[this_cpu("two")]))
}

/// A loop over an array in a section that several variables share, and perhaps a variable behind the array. References
/// name the section, as assemblers have it.
fn looping(added: bool, used: &[Part]) -> Unit {
    let section = ".data..read_mostly";
    let body = [&[lea("@array"), lea("@array").plus(16)], used].concat();
    let unit = Unit::new()
        .labelled("array", section, 0)
        .local(section, "array", &[long(0), long(0)]);
    let unit = if added {
        unit.local(section, "added", &[long(0)])
    } else {
        unit
    };
    let unit = unit.local(section, "next", &[long(0)]);
    unit.with(function("f", &body)).with(function("g", &[load("next")]))
}

/// What only assembly defines: variables without a size.
fn sizeless(value: u32) -> Unit {
    let section = ".data..read_mostly";
    Unit::new()
        .sizeless(section, "one")
        .bytes(section, &[long(1)])
        .sizeless(section, "two")
        .bytes(section, &[long(2)])
        .with(function("f", &[imm(value), load("one"), load("two")]))
}

/// A table of addresses that has no name, behind a constant that has one.
fn nameless_table(value: u32, cases: [&str; 2]) -> Unit {
    Unit::new()
        .local(".rodata", "limit", &[long(5)])
        .bytes(".rodata", &[label("cases"), pointer(cases[0]), pointer(cases[1])])
        .with(function(
            "f",
            &[imm(value), load("@cases"), label("a"), imm(2), label("b"), imm(3)],
        ))
        .with(function("g", &[load("limit")]))
}

/// A buffer with a name that compilers give to constants, too.
fn buffer(name: &str, value: u32) -> Unit {
    Unit::new()
        .local(&format!(".bss.{name}"), name, &[long(0)])
        .with(function("f", &[imm(value), load(name)]))
        .with(function("g", &[load(name)]))
}

/// Constants of 16 bytes that the linker may merge, each with its reader.
fn mergeable(values: &[u64]) -> Unit {
    let names = ["one", "two", "three"];
    values.iter().zip(names).fold(Unit::new(), |unit, (value, name)| {
        unit.bytes(".rodata.cst16", &[label(name), long(*value), long(*value)])
            .with(function(name, &[load(&format!("@{name}"))]))
    })
}

/// Strings of characters of two bytes, each with its reader.
fn wide(texts: &[&str]) -> Unit {
    let names = ["one", "two", "three"];
    texts.iter().zip(names).fold(Unit::new(), |unit, (text, name)| {
        let characters: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        unit.bytes(".rodata.str2.2", &[label(name), raw(&characters)])
            .with(function(name, &[lea(&format!("@{name}"))]))
    })
}

fn entry_in(section: &str, value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value)]))
        .bytes(section, &[pointer("f")])
}

cases! {
    /// Who keeps the table's address calls into the livepatch for as long.
    new_table_of_a_new_function: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[lea("operations"), call("open")]))
            .with(local("open", &[imm(3)]))
            .with(local("close", &[imm(4)]))
            .local(".rodata.operations", "operations", &[pointer("open"), pointer("close")]));
    new_variable: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[load("added")])).local(".bss.added", "added", &[long(0)]));
    new_variable_points_to_changed_function: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])).with(local("g", &[imm(1)])),
        Unit::new().with(function("f", &[lea("ops")])).with(local("g", &[imm(2)]))
            .local(".data.rel.ro.ops", "ops", &[pointer("g")]));
    unused_new_variable_stays_out: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2)])).global(".data.added", "added", &[long(1)]));
    new_global_used_by_a_second_unit: Patched => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("f", &[imm(1)])),
            Unit::new().with(function("f", &[imm(2)])).global(".data.added", "added", &[long(1)])),
        pair("fs/b.o", Unit::new().with(function("g", &[imm(1)])), Unit::new().with(function("g", &[load("added")])))]);
    static_const_table_changed: Patched => Case::of(table(2), table(3));
    global_const_changed: Refused(&["select.data-changed"]) => Case::of(
        variable(".rodata.v", 1, 1), variable(".rodata.v", 2, 1));
    data_changed: Refused(&["select.data-changed"]) => Case::of(variable(".data.v", 1, 1), variable(".data.v", 2, 1));
    value_accepted: Patched => Case::of(variable(".data.v", 1, 1), variable(".data.v", 2, 2)).accepting("v");
    value_accepted_alone: Patched => Case::of(variable(".data.v", 1, 1), variable(".data.v", 2, 1)).accepting("v");
    value_accepted_from_zero: Patched => Case::of(variable(".bss.v", 0, 1), variable(".data.v", 0x80_0000_0001, 2)).accepting("v");
    value_accepted_of_read_mostly_data: Patched =>
        Case::of(variable(".data..read_mostly", 1, 1), variable(".data..read_mostly", 2, 2)).accepting("v");
    value_accepted_of_a_flag: Patched => Case::of(
        Unit::new().local(".data.v", "v", &[raw(&[1])]).with(function("f", &[imm(1), load("v")])),
        Unit::new().local(".bss.v", "v", &[raw(&[0])]).with(function("f", &[imm(2), load("v")]))).accepting("v");
    value_of_another_variable_accepted: Refused(&["select.data-changed"]) =>
        Case::of(variable(".data.v", 1, 1).local(".data.w", "w", &[long(1)]),
            variable(".data.v", 2, 2).local(".data.w", "w", &[long(2)])).accepting("w");
    value_accepted_of_each_processor: Refused(&["select.data-changed"]) =>
        Case::of(variable(".data..percpu", 1, 1), variable(".data..percpu", 2, 2)).accepting("v");
    value_accepted_of_sealed_data: Refused(&["select.data-changed"]) =>
        Case::of(variable(".data..ro_after_init", 1, 1), variable(".data..ro_after_init", 2, 2)).accepting("v");
    value_accepted_of_a_constant: Refused(&["select.data-changed"]) =>
        Case::of(variable(".rodata.v", 1, 1), variable(".rodata.v", 2, 2)).accepting("v");
    value_accepted_of_an_address: Refused(&["select.data-changed"]) => Case::of(
        Unit::new().local(".data.v", "v", &[pointer("f")]).with(function("f", &[imm(1), load("v")])),
        Unit::new().local(".data.v", "v", &[long(0)]).with(function("f", &[imm(2), load("v")]))).accepting("v");
    value_accepted_of_an_array: Refused(&["select.data-changed"]) => Case::of(
        Unit::new().local(".data.v", "v", &[long(1), long(1)]).with(function("f", &[imm(1), load("v")])),
        Unit::new().local(".data.v", "v", &[long(1), long(2)]).with(function("f", &[imm(2), load("v")]))).accepting("v");
    value_accepted_of_a_module: Patched => Case::pairs(vec![
        pair("fs/m.o", variable(".data.v", 1, 1), variable(".data.v", 2, 2)).of_module("m")]).accepting("v");
    value_of_a_module_that_is_sealed: Refused(&["select.data-changed"]) => Case::pairs(vec![
        pair("fs/m.o", variable(".data..ro_after_init", 1, 1), variable(".data..ro_after_init", 2, 2)).of_module("m")])
        .accepting("v");
    value_accepted_beside_a_resized_one: Refused(&["select.data-resized"]) => Case::of(
        variable(".bss.v", 0, 1),
        Unit::new().global(".bss.v", "v", &[long(0), long(0)]).with(function("f", &[imm(2), load("v")]))).accepting("v");
    data_resized: Refused(&["select.data-resized"]) => Case::of(
        variable(".bss.v", 0, 1),
        Unit::new().global(".bss.v", "v", &[long(0), long(0)]).with(function("f", &[imm(1), load("v")])));
    data_moved_to_another_section: NoChange => Case::of(variable(".data.v", 0, 1), variable(".data..ro_after_init", 0, 1));
    pointer_in_data_changed: Refused(&["select.data-changed"]) => Case::of(
        Unit::new().strings(&["a", "b"]).local(".data.names", "names", &[pointer("@a")])
            .with(function("f", &[load("names")])),
        Unit::new().strings(&["a", "b"]).local(".data.names", "names", &[pointer("@b")])
            .with(function("f", &[load("names")])));
    string_table_moved_under_data: NoChange => Case::of(
        Unit::new().strings(&["a"]).local(".data.names", "names", &[pointer("@a")])
            .with(function("f", &[load("names")])),
        Unit::new().strings(&["b", "a"]).local(".data.names", "names", &[pointer("@a")])
            .with(function("f", &[load("names")])));
    per_cpu_variable: Patched => Case::of(
        Unit::new().local(".data..percpu", "count", &[long(0)]).with(function("f", &[imm(1), this_cpu("count")])),
        Unit::new().local(".data..percpu", "count", &[long(0)]).with(function("f", &[imm(2), this_cpu("count")])));
    new_variable_in_a_shared_section: Patched => Case::of(shared(".data..once", false), shared(".data..once", true));
    new_variable_in_a_shared_per_cpu_section: Patched =>
        Case::of(shared(".data..percpu", false), shared(".data..percpu", true));
    empty_variable_before_others: Patched => Case::of(per_cpu(false, 1), per_cpu(true, 2));
    empty_variable_that_was_there: Patched => Case::of(per_cpu(true, 1), per_cpu(true, 2));
    empty_variable_new_at_the_end: Patched => Case::of(
        Unit::new().local(".data..percpu", "old", &[long(0)]).with(function("f", &[this_cpu("old")])),
        Unit::new().local(".data..percpu", "old", &[long(0)]).local(".data..percpu", "lock", &[])
            .with(function("f", &[this_cpu("old"), lea("lock")])));
    end_of_an_array_or_start_of_a_new_variable: Refused(&["select.unclear-address"]) =>
        Case::of(looping(false, &[imm(1)]), looping(true, &[imm(2), load("added")]));
    end_of_an_array_before_the_same_variable: Patched => Case::of(looping(false, &[imm(1)]), looping(false, &[imm(2)]));
    start_of_a_new_variable_behind_an_array: Patched => Case::of(
        Unit::new().local(".data..read_mostly", "array", &[long(0), long(0)]).with(function("f", &[imm(1), load("array")])),
        Unit::new().local(".data..read_mostly", "array", &[long(0), long(0)])
            .labelled("added", ".data..read_mostly", 16).local(".data..read_mostly", "added", &[long(0)])
            .with(function("f", &[load("array"), lea("@added")])));
    variables_without_a_size: Patched => Case::of(sizeless(1), sizeless(2));
    nameless_table_behind_a_constant_reordered: Patched => Case::of(nameless_table(1, ["@a", "@b"]), nameless_table(1, ["@b", "@a"]));
    nameless_table_behind_a_constant_copied: Patched => Case::of(nameless_table(1, ["@a", "@b"]), nameless_table(2, ["@a", "@b"]));
    buffer_named_like_a_string: Patched => Case::of(buffer("str", 1), buffer("str", 2));
    compound_literal_that_is_written: Patched => Case::of(buffer(".compoundliteral.3", 1), buffer(".compoundliteral.4", 2));
    mergeable_constant_added: NoChange => Case::of(mergeable(&[1, 2]), mergeable(&[1, 2, 3]));
    mergeable_constant_changed: Patched => Case::of(mergeable(&[1, 2]), mergeable(&[1, 3]));
    wide_string_added: NoChange => Case::of(wide(&["one", "two"]), wide(&["one", "two", "three"]));
    wide_string_changed: Patched => Case::of(wide(&["one", "two"]), wide(&["one", "Two"]));
    anonymous_constant_copied: Patched => Case::of(
        Unit::new().bytes(".rodata.cst8", &[label("one"), long(1)]).with(function("f", &[imm(1), load("@one")])),
        Unit::new().bytes(".rodata.cst8", &[long(9), label("one"), long(1)]).with(function("f", &[imm(2), load("@one")])));
    unknown_table_refers_to_changed_function: Refused(&["select.unknown-section"]) => Case::of(entry_in("__mystery", 1), entry_in("__mystery", 2));
    unknown_table_refers_to_unchanged_function: Patched => Case::of(
        entry_in("__mystery", 1).with(function("g", &[imm(1)])),
        entry_in("__mystery", 1).with(function("g", &[imm(2)])));
    init_code_changed: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])).with(local("setup", &[imm(1)]).within(".init.text")),
        Unit::new().with(function("f", &[imm(2)])).with(local("setup", &[imm(2)]).within(".init.text")));
    init_data_changed: BootOnly => Case::of(
        Unit::new().with(function("f", &[imm(1)])).local(".init.data", "setup", &[word(1)]),
        Unit::new().with(function("f", &[imm(1)])).local(".init.data", "setup", &[word(2)]));
    init_code_added: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2)])).with(local("setup", &[imm(2)]).within(".init.text")));
    init_reference: Refused(&["select.init-reference"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])).local(".init.data", "setup", &[word(1)]),
        Unit::new().with(function("f", &[load("setup")])).local(".init.data", "setup", &[word(1)]));
    init_reference_to_another_unit: Refused(&["select.init-reference"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[load("setup")]))).on(|kernel| { kernel.init.insert("setup"); });
    init_reference_in_unchanged_code_is_no_matter: Patched => Case::of(
        Unit::new().with(function("f", &[load("setup")])).with(function("g", &[imm(1)]))
            .local(".init.data", "setup", &[word(1)]),
        Unit::new().with(function("f", &[load("setup")])).with(function("g", &[imm(2)]))
            .local(".init.data", "setup", &[word(1)]));
    weak_definition_is_redirected: Patched => Case::of(
        Unit::new().with(function("impl", &[imm(1)]).alias("name", elf::STB_WEAK)),
        Unit::new().with(function("impl", &[imm(2)]).alias("name", elf::STB_WEAK)));
    weak_function_is_not_in_the_kernel: Refused(&["resolve.overridden-function"]) => Case::pairs(vec![
        pair("fs/a.o", weak(1), weak(2)),
        pair("arch/b.o", Unit::new().with(function("f", &[imm(1)])), Unit::new().with(function("f", &[imm(1)])))]);
    weak_function_is_in_the_kernel: Patched => Case::of(weak(1), weak(2));
    call_through_a_weak_alias: Patched => Case::of(
        Unit::new().with(local("impl", &[imm(1)]).alias("name", elf::STB_WEAK)).with(function("f", &[imm(1), call("name")])),
        Unit::new().with(local("impl", &[imm(2)]).alias("name", elf::STB_WEAK)).with(function("f", &[imm(2), call("name")])));
}
