//! The index as bytes: numbers in LEB128, lists with their length in front, sorted lists as differences.

use super::{Entry, File, Index, Name, Part, Pattern, Role, Stored};

/// Writes an index.
pub fn write(index: &Index) -> Vec<u8> {
    let mut out = Vec::new();
    let list = |out: &mut Vec<u8>, length: usize| number(out, length as u64);
    list(&mut out, index.names.len());
    index.names.iter().for_each(|name| text(&mut out, name));
    for sorted_list in [&index.beyond, &index.counting, &index.renaming] {
        sorted(&mut out, sorted_list);
    }
    list(&mut out, index.files.len());
    for (path, file) in index.paths.iter().zip(&index.files) {
        text(&mut out, path.as_bytes());
        sorted(&mut out, &file.mentions);
        out.push(u8::from(file.pieces.is_some()));
        if let Some(pieces) = &file.pieces {
            list(&mut out, pieces.len());
            for piece in pieces {
                out.push(match piece.role {
                    Role::Macro => 0,
                    Role::Declaration => 1,
                    Role::Acts => 2,
                });
                for names in [&piece.names, &piece.head, &piece.mentions, &piece.under] {
                    sorted(&mut out, names);
                }
            }
        }
        list(&mut out, file.patterns.len());
        for (pattern, by) in &file.patterns {
            sorted(&mut out, by);
            list(&mut out, pattern.len());
            for part in pattern {
                match part {
                    Part::Any => out.push(0),
                    Part::Known(known) => {
                        out.push(1);
                        text(&mut out, known);
                    }
                    Part::Number => out.push(3),
                    Part::OneOf(texts) => {
                        out.push(2);
                        list(&mut out, texts.len());
                        texts.iter().for_each(|one| text(&mut out, one));
                    }
                }
            }
        }
    }
    out
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn sorted(out: &mut Vec<u8>, list: &[Name]) {
    number(out, list.len() as u64);
    let mut before = 0;
    for &name in list {
        number(out, u64::from(name - before));
        before = name;
    }
}

/// Reads an index; nothing if these bytes are none.
pub fn read(bytes: &[u8]) -> Option<Index> {
    let mut from = Reader(bytes);
    let names = from.list(Reader::text)?;
    let (beyond, counting, renaming) = (from.sorted()?, from.sorted()?, from.sorted()?);
    let files = from.list(|from| {
        let path = String::from_utf8(from.text()?).ok()?;
        let mentions = from.sorted()?;
        let pieces = match from.byte()? {
            0 => None,
            _ => Some(from.list(Reader::piece)?),
        };
        let patterns = from.list(Reader::pattern)?;
        let entry = Entry {
            mentions,
            pieces,
            patterns,
        };
        Some((path, entry))
    })?;
    let (paths, files) = files.into_iter().unzip();
    from.0.is_empty().then_some(Index {
        names,
        paths,
        files,
        beyond,
        counting,
        renaming,
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Every member takes at least one byte, so a length that is too great is seen before anything is allocated.
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(text.to_vec())
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.length()?;
        (0..length).map(|_| one(self)).collect()
    }

    fn sorted(&mut self) -> Option<Vec<Name>> {
        let length = self.length()?;
        let mut list = Vec::with_capacity(length);
        let mut before: Name = 0;
        for _ in 0..length {
            before = before.checked_add(Name::try_from(self.number()?).ok()?)?;
            list.push(before);
        }
        Some(list)
    }

    fn piece(&mut self) -> Option<Stored> {
        let role = match self.byte()? {
            0 => Role::Macro,
            1 => Role::Declaration,
            _ => Role::Acts,
        };
        Some(Stored {
            role,
            names: self.sorted()?,
            head: self.sorted()?,
            mentions: self.sorted()?,
            under: self.sorted()?,
        })
    }

    fn pattern(&mut self) -> Option<(Pattern, Vec<File>)> {
        let by = self.sorted()?;
        let parts = self.list(|from| match from.byte()? {
            0 => Some(Part::Any),
            1 => from.text().map(Part::Known),
            2 => from.list(Reader::text).map(Part::OneOf),
            _ => Some(Part::Number),
        })?;
        Some((parts, by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let texts = [
            (
                "a.c".to_owned(),
                b"#include \"a.h\"\nint f(void) { return X; }\nint P(a, X);\n".to_vec(),
            ),
            (
                "a.h".to_owned(),
                b"#define X 300\n#define S(a) Set##a\nextern int y;\nint z;\n#define P(a, b) a##b\n".to_vec(),
            ),
        ];
        let index = Index::scan(&texts, &|| ());
        let bytes = write(&index);
        assert_eq!(read(&bytes), Some(index));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            drop(read(&damaged));
        }
        assert_eq!(read(&[0xff; 40]), None);
    }
}
