//! `create-diff-object`: compares an original and a patched object and writes the object of a livepatch, for drivers that
//! expect kpatch's program of this name.
//!
//! Exit codes: 0 written, 1 error, 2 refused, 3 no functional change.

use std::fs;
use std::io;
use std::process::ExitCode;

use kpatch_core::intermediate::{self, Created, StructSizes};
use kpatch_core::resolve::{Exports, Image, PatchedFunction, Target};
use kpatch_core::{Code, Element, Error, Ignored, Input, ObjectName, Refusal, Stop, explained, klp};
use serde::Serialize;

const USAGE: &str =
    "usage: create-diff-object [--explain | --json] [--debug] [--accept=NAME]... ORIG PATCHED PARENT-NAME PARENT-SYMTAB \
MODULE-SYMVERS PATCH-MODULE OUTPUT

Compares two builds of one object and writes the object of a livepatch in kpatch's intermediate format.

  PARENT-NAME     vmlinux, or the name of the module that the object is linked into
  PARENT-SYMTAB   its symbols: what `readelf -s --wide` prints, or the ELF file itself
  MODULE-SYMVERS  Module.symvers of the kernel; /dev/null if there is none
  PATCH-MODULE    name of the livepatch module
  --explain       say for each element why it is in, and for each ignored difference why it is not
  --debug         the same
  --accept=NAME   allow this table of functions to change: nobody keeps its address
  --json          say all of it, or what went wrong, as one JSON document on standard output
  --klp-arch      refused: for kernels before 5.8

Sizes of structures in the environment (ALT_STRUCT_SIZE, BUG_STRUCT_SIZE, EX_STRUCT_SIZE, FIXUP_STRUCT_SIZE,
JUMP_STRUCT_SIZE, PARA_STRUCT_SIZE, STATIC_CALL_STRUCT_SIZE) are not needed: the objects show them, and count.

exit codes: 0 written, 1 error, 2 refused, 3 no functional change";

struct Arguments {
    orig: String,
    patched: String,
    parent: String,
    symtab: String,
    symvers: String,
    output: String,
    explain: bool,
    json: bool,
    accepted: Vec<String>,
    old: bool,
}

/// The document of `--json`.
#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
enum Document<'a> {
    Written {
        functions: &'a [PatchedFunction],
        callbacks: &'a [(String, String)],
        elements: &'a [Element],
        ignored: &'a [Ignored],
        accepted: &'a [Refusal],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        contradicted: Vec<String>,
    },
    NoChange {
        ignored: &'a [Ignored],
    },
    Refused {
        refusals: &'a [Refusal],
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
        why: String,
    },
}

impl<'a> Document<'a> {
    fn of(done: &'a Result<Created, Failure>) -> Self {
        match done {
            Ok(created) => Document::Written {
                functions: &created.functions,
                callbacks: &created.callbacks,
                elements: &created.elements,
                ignored: &created.ignored,
                accepted: &created.accepted,
                contradicted: created.contradicted.iter().map(note).collect(),
            },
            Err(Failure::Stop(Stop::NoChange(ignored) | Stop::BootOnly(ignored))) => Document::NoChange { ignored },
            Err(Failure::Stop(Stop::Refused(refusals))) => Document::Refused { refusals },
            Err(Failure::Stop(Stop::Failed(error))) => Document::Error {
                code: Some(error.code),
                why: error.to_string(),
            },
            Err(Failure::Io(what, error)) => Document::Error {
                code: None,
                why: format!("cannot {what}: {error}"),
            },
        }
    }
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
    let done = run(&arguments);
    let code = match &done {
        Ok(_) => 0,
        Err(Failure::Stop(Stop::NoChange(_) | Stop::BootOnly(_))) => 3,
        Err(Failure::Stop(Stop::Refused(_))) => 2,
        Err(Failure::Stop(Stop::Failed(_)) | Failure::Io(..)) => 1,
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&Document::of(&done)).expect("a document without maps of other keys");
        return say(io::stdout(), &text, code);
    }
    match done {
        Ok(created) => {
            let notes: Vec<String> = created.contradicted.iter().map(note).collect();
            if !notes.is_empty() {
                say(io::stderr(), &notes.join("\n"), code);
            }
            say(io::stdout(), &describe(&arguments, &created), code)
        }
        Err(Failure::Stop(Stop::NoChange(ignored) | Stop::BootOnly(ignored))) => {
            let mut lines = vec![format!("{}: no changes found", base(&arguments.orig))];
            if arguments.explain {
                lines.extend(left_out(&arguments, &ignored));
            }
            say(io::stdout(), &lines.join("\n"), code)
        }
        Err(Failure::Stop(stop)) => say(io::stderr(), &stop.to_string(), code),
        Err(Failure::Io(what, error)) => say(io::stderr(), &format!("error: cannot {what}: {error}"), code),
    }
}

/// A size of the environment that does not count.
fn note(error: &Error) -> String {
    format!("note[{}] {}: {}", error.code, error.at, error.why)
}

/// Prints and ends. A reader that went away does not change what was done.
fn say(mut to: impl io::Write, text: &str, code: u8) -> ExitCode {
    drop(writeln!(to, "{}", text.trim_end()));
    ExitCode::from(code)
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let (options, files): (Vec<String>, Vec<String>) = words.into_iter().partition(|word| word.starts_with('-'));
    let (mut explain, mut json, mut old) = (false, false, false);
    let mut accepted = Vec::new();
    for option in &options {
        match option.as_str() {
            "--explain" | "--debug" | "-d" => explain = true,
            "--json" => json = true,
            "--klp-arch" | "-a" => old = true,
            other => match other.strip_prefix("--accept=") {
                Some(name) => accepted.push(name.to_owned()),
                None => return Err(format!("unknown option {other}")),
            },
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
        json,
        accepted,
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
    let sizes = StructSizes::parse(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))?;
    let created = intermediate::create(&input, &mut target, &sizes, &arguments.accepted)?;
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
        lines.push(format!("{name}: found callback: {function} ({kind})"));
    }
    let accepted = created.accepted.iter();
    lines.extend(accepted.map(|refusal| format!("accepted {}: {}", refusal.at, refusal.why)));
    if arguments.explain {
        lines.extend(explained(&created.elements));
        lines.extend(left_out(arguments, &created.ignored));
    }
    lines.join("\n")
}

fn left_out(arguments: &Arguments, ignored: &[Ignored]) -> Vec<String> {
    let name = base(&arguments.orig);
    let line = |ignored: &Ignored| format!("{name}: ignored {}: {}", ignored.name, ignored.why);
    ignored.iter().map(line).collect()
}
