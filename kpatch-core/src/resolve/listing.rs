//! A symbol table as `readelf -s --wide` prints it: what is left of a kernel when its image is not at hand.
//!
//! Columns: number, value, size, type, binding, visibility, then what st_other means in brackets on some machines
//! (`[<localentry>: 8]`, `[VARIANT_PCS]`), section and name. Lines may be of any length.

use object::elf;

use super::image::{Image, Row};
use crate::error::{Error, Subject};
use crate::group::ObjectName;

pub use crate::codes::resolve::BAD_LISTING;
impl<'d> Image<'d> {
    /// Reads a listing. Sizes in it do not prove that a function is the compared one, and ftrace sites are not known.
    ///
    /// # Errors
    /// [`BAD_LISTING`] with the line.
    pub fn from_listing(name: ObjectName, text: &'d str) -> Result<Self, Error> {
        let mut image = Image::empty(name);
        // A linked file has a dynamic table before the one that is meant.
        let mut dynamic = false;
        for (index, line) in text.lines().enumerate() {
            if line.starts_with("Symbol table ") {
                dynamic = line.contains(".dynsym");
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let number = words.next().and_then(|word| word.strip_suffix(':'));
            if dynamic || number.is_none_or(|number| number.parse::<u64>().is_err()) {
                continue;
            }
            let row = row(&mut words).map_err(|why| {
                let at = Subject::file(image.name.as_str()).line(index as u32 + 1);
                Error::new(BAD_LISTING, at, why)
            })?;
            image.add(row);
        }
        if image.is_empty() {
            let at = Subject::file(image.name.as_str());
            return Err(Error::new(BAD_LISTING, at, "the listing has no symbols"));
        }
        image.sort();
        Ok(image)
    }
}

fn row<'d>(words: &mut dyn Iterator<Item = &'d str>) -> Result<Row<'d>, String> {
    let mut next = |what: &str| words.next().ok_or_else(|| format!("the line ends before the {what}"));
    let value = next("value")?;
    let value = u64::from_str_radix(value, 16).map_err(|_| format!("`{value}` is no address"))?;
    let size = size(next("size")?)?;
    let kind = kind(next("type")?);
    let bind = bind(next("binding")?);
    let hidden = next("visibility")? == "HIDDEN";
    let mut place = next("section")?;
    if place.starts_with('[') {
        while !place.ends_with(']') {
            place = next("closing bracket")?;
        }
        place = next("section")?;
    }
    let (section, shndx) = match place {
        "UND" => (0, elf::SHN_UNDEF),
        "ABS" => (0, elf::SHN_ABS),
        "COM" => (0, elf::SHN_COMMON),
        number => {
            let number = number.parse().map_err(|_| format!("`{number}` is no section number"))?;
            (number, elf::SymbolSection(1))
        }
    };
    Ok(Row {
        name: words.next().unwrap_or_default(),
        value,
        size,
        init: false,
        section,
        bind,
        kind,
        shndx,
        hidden,
    })
}

/// Sizes of five digits and more are printed in hexadecimal.
fn size(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no size"))
}

/// What is neither function, variable, file nor section has no part in livepatching, so its type does not matter.
fn kind(word: &str) -> elf::SymbolType {
    match word {
        "FUNC" => elf::STT_FUNC,
        "OBJECT" => elf::STT_OBJECT,
        "FILE" => elf::STT_FILE,
        "SECTION" => elf::STT_SECTION,
        _ => elf::STT_NOTYPE,
    }
}

fn bind(word: &str) -> elf::SymbolBind {
    match word {
        "LOCAL" => elf::STB_LOCAL,
        "WEAK" => elf::STB_WEAK,
        _ => elf::STB_GLOBAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::SymPos;

    const TEXT: &str = "
Symbol table '.dynsym' contains 1 entry:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND elsewhere

Symbol table '.symtab' contains 5 entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND
     1: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS a.c
     2: ffffffff81000010    16 FUNC    LOCAL  DEFAULT    1 twice
     3: ffffffff81000000 0x12345 FUNC    GLOBAL DEFAULT [<localentry>: 8]     1 twice
     4: ffffffff81000020    16 IFUNC   UNIQUE DEFAULT    1 odd
";

    fn read(text: &str) -> Result<Image<'_>, Error> {
        Image::from_listing(ObjectName::vmlinux(), text)
    }

    #[test]
    fn positions_follow_addresses() {
        let image = read(TEXT).expect("well-formed");
        assert_eq!(image.count("twice"), 2);
        let [one] = image.global("twice")[..] else {
            panic!("one global")
        };
        assert_eq!((image.symbol(one).size, image.sympos(one)), (0x12345, Some(SymPos(1))));
        assert_eq!(image.global("odd").len(), 1);
        assert!(!image.is_exact());
    }

    #[test]
    fn names_of_any_length() {
        let long = "x".repeat(3000);
        let text = format!("     1: 00 16 FUNC GLOBAL DEFAULT 1 {long}\n");
        assert_eq!(read(&text).expect("well-formed").count(&long), 1);
    }

    #[test]
    fn torn_lines_are_errors() {
        for text in [
            "",
            "  1: zz 0 FUNC LOCAL DEFAULT 1 f",
            "  1: 0 0 FUNC",
            "  1: 0 0 FUNC LOCAL DEFAULT [x 1 f",
        ] {
            assert_eq!(read(text).map(|_| ()).expect_err(text).code, BAD_LISTING, "{text}");
        }
    }
}
