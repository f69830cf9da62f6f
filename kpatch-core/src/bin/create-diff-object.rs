//! `create-diff-object`: compares an original and a patched object and writes the object of a livepatch, for drivers that
//! expect kpatch's program of this name.
//!
//! Exit codes: 0 written, 1 error, 2 refused, 3 no functional change.

use std::fs;
use std::io;
use std::process::ExitCode;

use kpatch_core::intermediate::{self, Created};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Input, ObjectName, Stop, klp};

const USAGE: &str =
    "usage: create-diff-object [--explain] [--debug] ORIG PATCHED PARENT-NAME PARENT-SYMTAB MODULE-SYMVERS \
PATCH-MODULE OUTPUT

Compares two builds of one object and writes the object of a livepatch in kpatch's intermediate format.

  PARENT-NAME     vmlinux, or the name of the module that the object is linked into
  PARENT-SYMTAB   its symbols: what `readelf -s --wide` prints, or the ELF file itself
  MODULE-SYMVERS  Module.symvers of the kernel; /dev/null if there is none
  PATCH-MODULE    name of the livepatch module
  --explain       say for each element why it is in, and for each ignored difference why it is not
  --debug         the same
  --klp-arch      refused: for kernels before 5.8

exit codes: 0 written, 1 error, 2 refused, 3 no functional change";

struct Arguments {
    orig: String,
    patched: String,
    parent: String,
    symtab: String,
    symvers: String,
    output: String,
    explain: bool,
    old: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-?") {
        return say(io::stdout(), USAGE, 0);
    }
    let arguments = match parse(words) {
        Ok(arguments) => arguments,
        Err(why) => return say(io::stderr(), &format!("create-diff-object: {why}\n{USAGE}"), 1),
    };
    match run(&arguments) {
        Ok(created) => say(io::stdout(), &describe(&arguments, &created), 0),
        Err(Failure::Stop(Stop::NoChange)) => {
            say(io::stdout(), &format!("{}: no changes found", base(&arguments.orig)), 3)
        }
        Err(Failure::Stop(stop @ Stop::Refused(_))) => say(io::stderr(), &stop.to_string(), 2),
        Err(Failure::Stop(stop @ Stop::Failed(_))) => say(io::stderr(), &stop.to_string(), 1),
        Err(Failure::Io(what, error)) => say(io::stderr(), &format!("error: cannot {what}: {error}"), 1),
    }
}

/// Prints and ends. A reader that went away does not change what was done.
fn say(mut to: impl io::Write, text: &str, code: u8) -> ExitCode {
    drop(writeln!(to, "{}", text.trim_end()));
    ExitCode::from(code)
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let (options, files): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| word.starts_with('-'));
    let (mut explain, mut old) = (false, false);
    for option in &options {
        match option.as_str() {
            "--explain" | "--debug" | "-d" => explain = true,
            "--klp-arch" | "-a" => old = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    let count = files.len();
    let [orig, patched, parent, symtab, symvers, _module, output]: [String; 7] = files
        .try_into()
        .map_err(|_| format!("7 arguments expected, {count} given"))?;
    Ok(Arguments {
        orig,
        patched,
        parent,
        symtab,
        symvers,
        output,
        explain,
        old,
    })
}

enum Failure {
    Stop(Stop),
    Io(String, io::Error),
}

impl<T: Into<Stop>> From<T> for Failure {
    fn from(stop: T) -> Failure {
        Failure::Stop(stop.into())
    }
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Io(format!("read {path}"), error))
}

fn text(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Io(format!("read {path}"), error))
}

fn run(arguments: &Arguments) -> Result<Created, Failure> {
    if arguments.old {
        return Err(Stop::Refused(vec![klp::wants_old_sections("--klp-arch")]).into());
    }
    let (orig, patched) = (read(&arguments.orig)?, read(&arguments.patched)?);
    let symbols = read(&arguments.symtab)?;
    let symvers = text(&arguments.symvers)?;
    let parent = if arguments.parent == "vmlinux" {
        ObjectName::vmlinux()
    } else {
        ObjectName::module(&arguments.parent)
    };
    let listing;
    let image = if symbols.starts_with(b"\x7fELF") {
        Image::from_symbols(parent.clone(), &symbols)?
    } else {
        listing = String::from_utf8_lossy(&symbols);
        Image::from_listing(parent.clone(), &listing)?
    };
    let mut target = Target::partial(parent.clone(), image, Exports::parse(&symvers)?);
    let input = Input {
        name: base(&arguments.orig).to_owned(),
        parent,
        orig: Some(&orig),
        shipped: None,
        patched: &patched,
    };
    let created = intermediate::create(&input, &mut target)?;
    let output = &arguments.output;
    fs::write(output, &created.bytes).map_err(|error| Failure::Io(format!("write {output}"), error))?;
    Ok(created)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn describe(arguments: &Arguments, created: &Created) -> String {
    let name = base(&arguments.orig);
    let mut lines = Vec::new();
    for function in &created.functions {
        lines.push(format!("{name}: changed function: {}", function.name));
    }
    let new = created.elements.iter().filter(|element| element.is_new_function());
    lines.extend(new.map(|element| format!("{name}: new function: {}", element.name)));
    for (kind, function) in &created.callbacks {
        let kind = kind.trim_start_matches(".kpatch.callbacks.");
        lines.push(format!("{name}: found callback: {function} ({kind})"));
    }
    if arguments.explain {
        lines.extend(created.elements.iter().map(ToString::to_string));
        let ignored = created.ignored.iter();
        lines.extend(ignored.map(|ignored| format!("{name}: ignored {}: {}", ignored.name, ignored.why)));
    }
    lines.join("\n")
}
