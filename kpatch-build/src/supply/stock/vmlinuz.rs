//! The kernel inside a `vmlinuz`: what the boot loader loads is a small program with the compressed image behind it.
//!
//! x86's boot protocol (Documentation/arch/x86/boot.rst) says where the compressed image lies since version 2.08: field
//! `payload_offset` counts from the start of the protected-mode code, which follows the setup sectors. The payload is
//! what `scripts/Makefile.lib` made of `vmlinux`: one compressed stream and, except for gzip whose own trailer has it,
//! the size of the contents in four bytes.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

/// `setup_sects`, `header`, `version`, `kernel_version`, `payload_offset` and `payload_length` of struct `setup_header`
/// (arch/x86/include/uapi/asm/bootparam.h), as offsets into the file.
const SETUP_SECTS: usize = 0x1f1;
const HEADER: usize = 0x202;
const VERSION: usize = 0x206;
const KERNEL_VERSION: usize = 0x20e;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const SECTOR: usize = 512;
const ELF: &[u8] = b"\x7fELF";
/// No kernel image is larger when it is unpacked; a damaged size must not exhaust the memory.
const LARGEST: u64 = 1 << 30;
/// The dictionary of a stream may be as large as this, in KiB: `xz` and `lzma` use 32 MiB at most in kbuild.
const DICTIONARY_KIB: u32 = 256 << 10;

/// The image in a bzImage: an ELF file, for x86 followed by the relocations of a randomised base. An ELF file is
/// returned as it is.
///
/// # Errors
/// If this is no bzImage, or its payload is damaged or compressed in a way that no kernel has.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.starts_with(ELF) {
        return Ok(bytes.to_vec());
    }
    let payload = payload(bytes)?;
    let image = decompress(payload)?;
    ensure!(
        image.starts_with(ELF),
        "the payload of the kernel image is not an ELF file"
    );
    Ok(image)
}

/// The release that the setup header names, as `uname -r` prints it. `kernel_version` is where the text lies behind the
/// first sector (boot.rst); 0 stands for none.
pub fn release(bytes: &[u8]) -> Option<String> {
    if bytes.get(HEADER..HEADER + 4) != Some(b"HdrS") {
        return None;
    }
    let at = u16::from_le_bytes(field(bytes, KERNEL_VERSION).ok()?);
    let text = bytes.get(usize::from(at) + SECTOR..).filter(|_| at != 0)?;
    let end = text.iter().position(|byte| *byte == 0 || *byte == b' ')?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    (!release.is_empty()).then(|| release.to_owned())
}

fn payload(bytes: &[u8]) -> Result<&[u8]> {
    ensure!(
        bytes.get(HEADER..HEADER + 4) == Some(b"HdrS"),
        "not a kernel image for x86: it has no setup header"
    );
    let version = u16::from_le_bytes(field(bytes, VERSION)?);
    ensure!(
        version >= 0x208,
        "boot protocol {}.{:02} does not say where the image lies",
        version >> 8,
        version & 0xff
    );
    // 0 stands for 4, as boot.rst has it.
    let sectors = match bytes[SETUP_SECTS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let offset = u32::from_le_bytes(field(bytes, PAYLOAD_OFFSET)?) as usize;
    let length = u32::from_le_bytes(field(bytes, PAYLOAD_LENGTH)?) as usize;
    let start = (sectors + 1) * SECTOR + offset;
    start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .context("the payload of the kernel image lies outside the file")
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..at + N).and_then(|field| field.try_into().ok());
    found.context("the setup header of the kernel image is cut off")
}

/// The contents of one compressed stream with its size behind it.
fn decompress(payload: &[u8]) -> Result<Vec<u8>> {
    let (stream, size) = payload
        .split_last_chunk::<4>()
        .context("the payload of the kernel image is empty")?;
    let size = u64::from(u32::from_le_bytes(*size));
    ensure!(size <= LARGEST, "the kernel image claims to have {size} bytes");
    let (name, read): (&str, Box<dyn Read>) = match payload {
        // gzip's own trailer is that size.
        [0x1f, 0x8b, ..] => ("gzip", Box::new(flate2::read::GzDecoder::new(payload))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => (
            "xz",
            Box::new(lzma_rust2::XzReader::new_mem_limit(stream, false, DICTIONARY_KIB)),
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", Box::new(zstd(stream)?)),
        [0x02, 0x21, 0x4c, 0x18, ..] => ("lz4", Box::new(lz4_flex::frame::FrameDecoder::new(stream))),
        [b'B', b'Z', b'h', ..] => ("bzip2", Box::new(bzip2::read::BzDecoder::new(stream))),
        [0x5d, 0, ..] => ("lzma", Box::new(lzma(stream)?)),
        [0x89, b'L', b'Z', b'O', ..] => bail!("the kernel image is compressed with LZO, which is not supported"),
        _ => bail!("the kernel image is compressed in an unknown way"),
    };
    let mut image = Vec::with_capacity(size as usize);
    let read = read.take(size + 1).read_to_end(&mut image);
    read.with_context(|| format!("cannot unpack the kernel image ({name})"))?;
    ensure!(
        image.len() as u64 == size,
        "the kernel image ({name}) does not have the size that it says, {size} bytes"
    );
    Ok(image)
}

fn zstd(stream: &[u8]) -> Result<impl Read + '_> {
    ruzstd::decoding::StreamingDecoder::new(stream).map_err(|error| anyhow::anyhow!("cannot unpack zstd: {error}"))
}

fn lzma(stream: &[u8]) -> Result<impl Read + '_> {
    lzma_rust2::LzmaReader::new_mem_limit(stream, DICTIONARY_KIB, None).context("cannot unpack lzma")
}

/// The build id of an ELF file in hex: the note NT_GNU_BUILD_ID of owner `GNU`.
///
/// # Errors
/// If there is none. Every kernel that distributions ship has one.
pub fn build_id(image: &[u8]) -> Result<String> {
    use object::read::elf::FileHeader;
    let header = object::elf::FileHeader64::<object::Endianness>::parse(image).context("not a kernel image")?;
    let endian = header.endian().context("not a kernel image")?;
    let sections = header
        .sections(endian, image)
        .context("the kernel image has no sections")?;
    for section in sections.iter() {
        use object::read::elf::SectionHeader;
        let Ok(Some(mut notes)) = section.notes(endian, image) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
                let id = note.desc();
                ensure!((8..=64).contains(&id.len()), "the build id has {} bytes", id.len());
                return Ok(id.iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    bail!("the kernel image has no build id")
}

#[cfg(test)]
mod tests;
