//! Boot code that changes beside code that runs: what can be left out, and ways to get something left out that later code
//! counts on.

use kpatch_core::Stop;
use object::elf;

use crate::common::case::{Case, pair};
use crate::common::code::{call, distance, imm, label, lea, load, long, pointer, raw, short, word};
use crate::common::unit::{Function, Unit, function, local};

/// Boot code.
fn boot(name: &str, body: &[crate::common::code::Part]) -> Function {
    local(name, body).within(".init.text")
}

/// A function that runs and changes, and what else there is.
fn beside(value: u32, more: impl Fn(Unit) -> Unit) -> Unit {
    more(Unit::new().with(function("f", &[imm(value)])))
}

/// The same, where the function reads `v`.
fn reads(value: u32, section: &str, more: impl Fn(Unit) -> Unit) -> Unit {
    let unit = Unit::new().with(function("f", &[imm(value), load("v")]));
    more(unit.local(section, "v", &[long(1)]))
}

/// Both sides: boot code that says something else, and `v` that `f` reads.
fn attack(section: &str, with: impl Fn(Unit, u32) -> Unit) -> Case {
    Case::of(
        reads(1, section, |unit| with(unit, 1)),
        reads(2, section, |unit| with(unit, 2)),
    )
}

/// A list of initcalls as it is without link time optimisation.
fn listed(unit: Unit, list: &str, name: &str) -> Unit {
    unit.bytes(list, &[distance(name)])
}

/// An initcall as it is with link time optimisation: a stub and an entry in a section of its own, with a counter in both names.
fn stub(counter: u32, unit: Unit) -> Unit {
    let name = format!("__kmod_a__{counter}_9_g6");
    let stub = format!("__initstub{name}");
    let unit = unit.with(function(&stub, &[load("v")]).within(".init.text"));
    listed(unit, &format!(".initcall6.init..__initcall{name}"), &stub)
}

/// A built-in driver's or a module's start and end.
fn ends(start: u32, end: u32, value: u32) -> Unit {
    Unit::new()
        .with(function("init_module", &[imm(start)]).within(".init.text"))
        .with(function("cleanup_module", &[imm(end)]).within(".exit.text"))
        .with(function("f", &[imm(value)]))
}

/// A module's start, and what keeps it in sight of the linker (`___ADDRESSABLE` with `__initdata`, include/linux/module.h,
/// 6.12).
fn addressable(number: u32, target: &str, value: u32) -> Unit {
    let name = format!("__UNIQUE_ID___addressable_init_module{number}");
    ends(1, 1, value).local(".init.data", &name, &[pointer(target)])
}

/// A row that nothing but its section leads to.
fn row(section: &str, number: u32, value: u32) -> Unit {
    let name = format!("__UNIQUE_ID_state{number}");
    Unit::new()
        .with(function("f", &[imm(value)]))
        .with(function("g", &[imm(1)]))
        .local(section, &name, &[pointer("g")])
}

/// Rows of one name for what a machine may have (`OF_EARLYCON_DECLARE`, include/linux/serial_core.h, 6.12).
fn consoles(numbers: [u32; 2], value: u32) -> Unit {
    let unit = beside(value, |unit| unit.with(boot("setup", &[imm(1)])));
    numbers.into_iter().zip(1..).fold(unit, |unit, (number, kind)| {
        let name = format!("__UNIQUE_ID___earlycon_uart{number}");
        unit.local("__earlycon_table", &name, &[word(kind), word(0), pointer("setup")])
    })
}

/// A function that runs and is inlined at boot, too.
fn inlined(value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value), call("register")]))
        .with(boot("setup", &[imm(value), call("register"), imm(7)]))
}

/// Boot code of which the kernel replaces a part that calls another file.
fn replaced(value: u32) -> Unit {
    let row = [distance("@site"), distance("@with"), word(5), short(0x0505)];
    beside(value, |unit| unit.with(boot("setup", &[label("site"), imm(value)])))
        .bytes(".altinstr_replacement", &[label("with"), call("register")])
        .bytes(".altinstructions", &row)
}

/// A refusal names what stands in the way, and who needs it.
#[test]
fn the_reason_names_variable_and_user() {
    let case = attack(".data.v", |unit, value| {
        unit.with(boot("setup", &[imm(value), load("v")]))
    });
    let Err(Stop::Refused(refusals)) = case.run() else {
        panic!("it must be refused");
    };
    let why = &refusals[0].why;
    assert!(why.contains("the variable `v` is used by `f`, which stays"), "{why}");
    assert!(why.contains("bytes differ at"), "{why}");
}

cases! {
    /// A check that is compiled into a function counts, too.
    pointer_to_a_start_gets_another_number: Patched => Case::pairs(vec![
        pair("fs/m.o", addressable(400, "init_module", 1), addressable(401, "init_module", 2)).of_module("m")]);
    /// Each gets the number that the next one had.
    rows_of_one_name_get_other_numbers: Patched => Case::of(consoles([400, 402], 1), consoles([402, 404], 2));
    boot_code_alone: BootOnly => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1), call("register")]))),
        beside(1, |unit| unit.with(boot("setup", &[imm(2), call("register")]))));
    boot_code_alone_with_a_new_helper: BootOnly => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1)]))),
        beside(1, |unit| unit.with(boot("setup", &[call("helper")])).with(local("helper", &[imm(3)]))));
    initcall_alone_is_new: BootOnly => Case::of(
        beside(1, |unit| unit.with(local("g", &[imm(1)]))),
        beside(1, |unit| listed(unit.with(local("g", &[imm(1)])), ".initcall6.init", "g")));
    initcall_goes_to_another_level: BootOnly => Case::of(
        beside(1, |unit| listed(unit.with(local("g", &[imm(1)])), ".initcall4.init", "g")),
        beside(1, |unit| listed(unit.with(local("g", &[imm(1)])), ".initcall6.init", "g")));
    initcall_stays: NoChange => Case::of(
        beside(1, |unit| listed(unit.with(local("g", &[imm(1)])), ".initcall4.init", "g")),
        beside(1, |unit| listed(unit.with(local("g", &[imm(1)])), ".initcall4.init", "g")));
    /// With link time optimisation the section of the entry has a name with a counter in it, as its stub has.
    initcall_stays_while_its_counter_moves: NoChange => Case::of(
        reads(1, ".data.v", |unit| stub(350, unit)),
        reads(1, ".data.v", |unit| stub(352, unit)));
    /// What is built in never goes.
    exit_code_of_the_image: NoChange => Case::of(ends(1, 1, 1), ends(1, 2, 1));
    exit_code_of_the_image_beside_a_change: Patched => Case::of(ends(1, 1, 1), ends(1, 2, 2));
    boot_code_that_touches_its_own_only: Patched => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1), load("own"), call("_printk")])).local(".bss.own", "own", &[long(0)])
            .local(".init.data", "flags", &[word(1)])),
        beside(2, |unit| unit.with(boot("setup", &[imm(2), load("own"), call("_printk")])).local(".bss.own", "own", &[long(0)])
            .local(".init.data", "flags", &[word(2)])));
    boot_code_accepted_by_name: Patched => attack(".data.v", |unit, value|
        unit.with(boot("setup", &[imm(value), load("v"), call("register")]))).accepting("setup");
    boot_code_has_a_running_function_inlined: Patched =>
        Case::of(inlined(1), inlined(2)).editing(&["f"]);

    boot_code_registers_another_table: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[lea("one"), call("register")]))
            .local(".rodata.one", "one", &[pointer("f")]).local(".rodata.two", "two", &[pointer("f")])),
        beside(2, |unit| unit.with(boot("setup", &[lea("two"), call("register")]))
            .local(".rodata.one", "one", &[pointer("f")]).local(".rodata.two", "two", &[pointer("f")])));
    boot_code_writes_what_a_change_reads: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.with(boot("setup", &[imm(value), load("v")])));
    boot_code_fills_read_only_data: Refused(&["select.init-code"]) => attack(".data..ro_after_init", |unit, value|
        unit.with(boot("setup", &[imm(value), load("v")])));
    /// The change is in what is handed back, and an unchanged function stores it.
    boot_code_returns_another_value: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.with(boot("compute", &[imm(value)])).with(boot("setup", &[call("compute"), load("v")])));
    /// The change is behind a pointer that an unchanged function hands over.
    boot_code_writes_through_a_pointer: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.with(boot("fill", &[imm(value)])).with(boot("setup", &[lea("v"), call("fill")])));
    boot_table_decides: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.local(".init.rodata", "table", &[word(value)]).with(boot("setup", &[load("table"), load("v")])));
    boot_data_hands_it_on: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.local(".init.data", "between", &[long(0)]).with(boot("first", &[imm(value), load("between")]))
            .with(boot("second", &[load("between"), load("v")])));
    boot_constant_leads_to_it: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.local(".rodata.where", "where", &[pointer("v")]).with(boot("setup", &[imm(value), load("where")])));
    boot_parameter_is_new: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".data.v", |unit| unit),
        reads(2, ".data.v", |unit| unit.with(boot("parse", &[load("v")]))
            .local(".init.setup", "__setup_parse", &[pointer("parse")])));
    initcall_is_new: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".data.v", |unit| unit.with(local("g", &[load("v")]))),
        reads(2, ".data.v", |unit| listed(unit.with(local("g", &[load("v")])), ".initcall6.init", "g")));
    initcall_is_removed: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".data.v", |unit| listed(unit.with(local("g", &[load("v")])), ".initcall6.init", "g")),
        reads(2, ".data.v", |unit| unit.with(local("g", &[load("v")]))));
    console_initcall_is_new: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".data.v", |unit| unit.with(local("g", &[load("v")]))),
        reads(2, ".data.v", |unit| listed(unit.with(local("g", &[load("v")])), ".con_initcall.init", "g")));
    new_boot_code_fills_a_new_variable: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit),
        reads(2, ".bss.v", |unit| listed(unit.with(boot("setup", &[load("v")])), ".initcall6.init", "setup")));
    removed_boot_code_filled_a_variable: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".bss.v", |unit| unit.with(boot("setup", &[load("v")]))),
        reads(2, ".bss.v", |unit| unit));
    boot_code_calls_a_new_function: Refused(&["select.init-code"]) => Case::of(
        reads(1, ".data.v", |unit| unit.with(boot("setup", &[imm(1)]))),
        reads(2, ".data.v", |unit| unit.with(boot("setup", &[imm(1), call("helper")])).with(local("helper", &[load("v")]))));
    /// `__ref`: it stays, and calls boot code while there is some.
    code_that_stays_calls_boot_code: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.with(boot("compute", &[imm(value)])).with(function("probe", &[call("compute"), load("v")]).within(".ref.text")));
    static_code_that_stays_calls_boot_code: Refused(&["select.init-code"]) => attack(".data.v", |unit, value|
        unit.with(boot("compute", &[imm(value)])).with(local("probe", &[call("compute"), load("v")]).within(".ref.text")));
    boot_code_of_other_files: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(function("setup", &[imm(1)]).within(".init.text"))),
        beside(2, |unit| unit.with(function("setup", &[imm(2)]).within(".init.text"))));
    boot_code_writes_to_another_file: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1), load("elsewhere")]))),
        beside(2, |unit| unit.with(boot("setup", &[imm(2), load("elsewhere")]))));
    boot_code_writes_to_another_patched_file: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("f", &[imm(1), load("v")])).global(".data.v", "v", &[long(1)]),
            Unit::new().with(function("f", &[imm(2), load("v")])).global(".data.v", "v", &[long(1)])),
        pair("fs/b.o", Unit::new().with(boot("setup", &[imm(1), load("v")])), Unit::new().with(boot("setup", &[imm(2), load("v")])))]);
    boot_code_calls_through_a_pointer: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1), raw(&[0xff, 0xd0])]))),
        beside(2, |unit| unit.with(boot("setup", &[imm(2), raw(&[0xff, 0xd0])]))));
    boot_code_sets_up_the_processor: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(boot("setup", &[imm(1), raw(&[0x0f, 0x30])]))),
        beside(2, |unit| unit.with(boot("setup", &[imm(2), raw(&[0x0f, 0x30])]))));
    boot_code_has_other_code_put_in: Refused(&["select.init-code"]) => Case::of(replaced(1), replaced(2));
    /// A module runs it again at each load: nothing may be called done.
    start_of_a_module: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/m.o", ends(1, 1, 1), ends(2, 1, 1)).of_module("m")]);
    end_of_a_module: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/m.o", ends(1, 1, 1), ends(1, 2, 1)).of_module("m")]);
    start_of_a_module_beside_a_change: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/m.o", ends(1, 1, 1), ends(2, 1, 2)).of_module("m")]);
    pointer_to_a_start_gets_another_number_and_target: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/m.o", addressable(400, "init_module", 1), addressable(401, "f", 2)).of_module("m")]);
    /// What walks one section does not walk the other, whatever the number.
    boot_row_goes_to_another_section: Refused(&["select.init-code"]) => Case::of(
        row(".init.data", 3, 1), row(".init.setup", 5, 2));
    boot_row_goes_to_another_section_and_keeps_its_name: Refused(&["select.init-code"]) => Case::of(
        row(".init.data", 3, 1), row(".init.setup", 3, 2));
    boot_row_becomes_one_of_the_exit: Refused(&["select.init-code"]) => Case::of(
        row(".init.data", 3, 1), row(".exit.data", 5, 2));
    row_of_a_module_becomes_boot_data: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/m.o", row(".data", 3, 1), row(".init.data", 5, 2)).of_module("m")]);
    start_of_a_module_accepted_by_name: Patched => Case::pairs(vec![
        pair("fs/m.o", ends(1, 1, 1), ends(2, 1, 2)).of_module("m")]).accepting("init_module");
    /// The patch edits boot code beside what runs.
    boot_code_is_edited_itself: Refused(&["select.init-code"]) =>
        Case::of(inlined(1), inlined(2)).editing(&["f", "setup"]);
    /// A helper that is inlined everywhere may be boot code.
    boot_code_has_an_unknown_function_inlined: Refused(&["select.init-code"]) =>
        Case::of(inlined(1), inlined(2)).editing(&["f", "helper"]);
    /// Another file has a function of that name that runs.
    boot_code_has_the_namesake_of_a_running_function_inlined: Refused(&["select.init-code"]) => Case::pairs(vec![
        pair("fs/a.o", inlined(1), inlined(2)),
        pair("fs/b.o", Unit::new().with(local("helper", &[imm(1)])), Unit::new().with(local("helper", &[imm(2)])))])
        .editing(&["f", "helper"]);
    function_that_runs_becomes_boot_code_and_nothing_else: Refused(&["select.init-code"]) => Case::of(
        Unit::new().with(local("g", &[imm(1)])).with(function("f", &[call("g")])),
        Unit::new().with(boot("g", &[imm(2)])).with(function("f", &[call("g")])));
    promoted_boot_code: Refused(&["select.init-code"]) => Case::of(
        beside(1, |unit| unit.with(boot("setup.llvm.12", &[imm(1)]).bound(elf::STB_GLOBAL))),
        beside(2, |unit| unit.with(boot("setup.llvm.13", &[imm(2)]).bound(elf::STB_GLOBAL))));
}
