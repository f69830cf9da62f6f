//! A made-up boot header around one small image, compressed by each program that kbuild calls.

use super::*;

const GZIP: &str = "1f8b0800000000000203ab77f5712bc94855c84e2dca4bcd51c84f53485428492d2ed15118151d151d15a58528004451\
    79cb74030000";
const XZ: &str = "fd377a585a0000016922de360201040021010000da33ad03e0037300275d003f9145846c86e76a8b852749a09d78f799\
    5bc17f59b058a8767d2a0ca6879dd38585dc258613000000445179cb00013ff406000000e4c8a6ae3e300d8b02000000\
    0001595a";
const LZMA: &str = "5d00100000ffffffffffffffff003f9145846c86e76a8b852749a09d78f7995bc17f59b058a8767d2a0ca6879dd38585\
    dc2fa142fffffb40e000";
const BZIP2: &str = "425a6839314159265359580a10620001b9958040040304234d9c00a0007050d34c00052a9a8d3d4c8d36a644c89c89ec\
    4dc4ec4d73c7027c13a13a13227e13613713e89d8981301342604d6c27f177245385090580a10620";
const ZSTD: &str = "28b52ffd0488150100d07f454c46746865206b65726e656c206f66206120746573742c2001005ecd6a8e01a9e38153";
const LZ4: &str = "02214c1828000000ff0b7f454c46746865206b65726e656c206f66206120746573742c201600ffffff45506573742c20";

fn image() -> Vec<u8> {
    let mut image = ELF.to_vec();
    image.extend("the kernel of a test, ".repeat(40).bytes());
    image
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// A bzImage with this payload 0x40 bytes into the protected-mode code, and something behind it.
fn vmlinuz(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 3 * SECTOR + 0x40];
    file[SETUP_SECTS] = 2;
    file[HEADER..HEADER + 4].copy_from_slice(b"HdrS");
    file[VERSION..VERSION + 2].copy_from_slice(&0x20fu16.to_le_bytes());
    file[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&0x40u32.to_le_bytes());
    file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(payload);
    file.extend_from_slice(&[0xee; 100]);
    file
}

fn with_size(stream: &str, size: usize) -> Vec<u8> {
    let mut payload = bytes(stream);
    payload.extend_from_slice(&(size as u32).to_le_bytes());
    payload
}

#[test]
fn the_compressions_of_kbuild_are_known() {
    let image = image();
    assert_eq!(unpack(&vmlinuz(&bytes(GZIP))).unwrap(), image);
    for stream in [XZ, LZMA, BZIP2, ZSTD, LZ4] {
        assert_eq!(
            unpack(&vmlinuz(&with_size(stream, image.len()))).unwrap(),
            image,
            "{stream}"
        );
    }
}

/// No decoder for it is both safe and under a licence that ours allows; no distribution uses it.
#[test]
fn lzo_is_named() {
    let error = unpack(&vmlinuz(b"\x89LZO\0\r\n\x1a\n")).unwrap_err();
    assert!(error.to_string().contains("LZO"), "{error}");
}

#[test]
fn an_elf_file_is_its_own_image() {
    assert_eq!(unpack(&image()).unwrap(), image());
}

#[test]
fn a_wrong_size_is_found() {
    let of = |size: usize| unpack(&vmlinuz(&with_size(XZ, size))).unwrap_err().to_string();
    let size = image().len();
    assert!(of(size - 1).contains("does not have the size"), "{}", of(size - 1));
    assert!(of(size + 1).contains("does not have the size"), "{}", of(size + 1));
    assert!(of(u32::MAX as usize).contains("claims to have"));
}

#[test]
fn what_is_no_bzimage_says_so() {
    assert!(unpack(b"").is_err() && unpack(&[0; 4096]).is_err());
    let mut old = vmlinuz(&bytes(GZIP));
    old[VERSION] = 7;
    assert!(unpack(&old).unwrap_err().to_string().contains("2.07"));
    let mut outside = vmlinuz(&bytes(GZIP));
    outside[PAYLOAD_LENGTH + 3] = 0xff;
    assert!(unpack(&outside).unwrap_err().to_string().contains("outside the file"));
}

/// Each byte of each stream damaged, and each stream cut off anywhere: an error or the image, never a panic.
#[test]
fn damaged_streams_end_in_errors() {
    let size = image().len();
    for stream in [GZIP, XZ, LZMA, BZIP2, ZSTD, LZ4] {
        let whole = with_size(stream, size);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let _ = unpack(&vmlinuz(&damaged));
            }
            let _ = unpack(&vmlinuz(&whole[..at]));
        }
    }
}

#[test]
fn the_build_id_is_that_of_the_note() {
    use kpatch_core::elf::{File, Section};
    let id: Vec<u8> = (1..=20).collect();
    let mut data = [4u32, 20, object::elf::NT_GNU_BUILD_ID.0]
        .map(u32::to_le_bytes)
        .concat();
    data.extend(b"GNU\0");
    data.extend(&id);
    let notes = Section {
        name: ".notes".into(),
        sh_type: object::elf::SHT_NOTE.0,
        size: data.len() as u64,
        data,
        sh_addralign: 4,
        ..Section::default()
    };
    let file = |sections| File {
        e_machine: object::elf::EM_X86_64.0,
        sections,
        ..File::default()
    };
    let found = build_id(&file(vec![notes]).write()).unwrap();
    assert_eq!(found, "0102030405060708090a0b0c0d0e0f1011121314");
    assert!(build_id(&file(vec![]).write()).is_err() && build_id(b"").is_err());
}

#[test]
fn the_release_is_in_the_setup_header() {
    let mut file = vmlinuz(&bytes(GZIP));
    assert_eq!(release(&file), None);
    file[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x100u16.to_le_bytes());
    let text = b"6.12.1-own (a@b) #1 SMP\0";
    file[SECTOR + 0x100..SECTOR + 0x100 + text.len()].copy_from_slice(text);
    assert_eq!(release(&file).as_deref(), Some("6.12.1-own"));
    file[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0xfff0u16.to_le_bytes());
    assert_eq!(release(&file), None);
    assert_eq!(release(b"\x7fELF"), None);
}
