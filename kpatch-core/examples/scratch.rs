use kpatch_core::ObjectName;
use kpatch_core::located::{self, Memory};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bytes = std::fs::read(&args[0]).unwrap();
    let t = Instant::now();
    let memory = if args[0].ends_with(".ko") {
        Memory::of_module(ObjectName::module("m"), &bytes).unwrap()
    } else {
        Memory::of_vmlinux(&bytes).unwrap()
    };
    eprintln!("{} symbols {:?}", memory.symbol_count(), t.elapsed());
    if args.get(1).is_some_and(|a| a == "dump") {
        for s in memory.symbols() {
            println!("{:016x} {} {}", s.address, s.kind as char, s.name);
        }
        return;
    }
    for file in &args[1..] {
        let object = std::fs::read(file).unwrap();
        let t = Instant::now();
        match located::prove(file, &object, &memory) {
            Ok(l) => println!(
                "{file}: OK {} functions, {} explained, {} data bytes, unlocated {:?} {:?} {:?}",
                l.functions,
                l.explained.len(),
                l.data,
                l.unlocated,
                t.elapsed(),
                l.explained
                    .iter()
                    .map(|e| format!("{}: {}", e.function, e.why))
                    .collect::<Vec<_>>()
            ),
            Err(rs) => {
                println!("{file}: FAILED {} {:?}", rs.len(), t.elapsed());
                for r in rs.iter().take(12) {
                    println!("    {} | {}", r.at, r.why);
                }
            }
        }
    }
}
