//! A mirror on the loopback interface, with a list of checksums signed by a key of its own.
//!
//! The files in `testdata/kernel-org` were made once with gpg: `keyring.gpg` has the key that signed
//! `sha256sums.asc`, and not the one that signed `sha256sums-other.asc`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::*;
use crate::outcome::{EXIT_ENVIRONMENT, exit_code};

const SIGNER: &str = "60E848F0769EFFFC33A4A14D9E610C8C06EC2AEB";
const OTHER: &str = "2AFADA411100FB31722E1F0865C78537CF219AAC";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/kernel-org")
        .join(name)
}

/// Serves these files until the test ends. Returns the address of the server.
fn serve(files: &[(&str, Vec<u8>)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let files: BTreeMap<String, Vec<u8>> = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()))
        .collect();
    let files = Arc::new(files);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &files);
        }
    });
    address
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    // The request ends with an empty line; a server that does not read it all resets the connection.
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match files.get(path) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &[][..]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn checksum_from(mirror: &str, signer: &str, version: &str) -> Result<Sha256> {
    let scratch = tempfile::tempdir().unwrap();
    let from = KernelOrg {
        mirror,
        keyring: &fixture("keyring.gpg"),
        signer,
    };
    from.checksum(scratch.path(), version)
}

fn refuses(mirror: &str, signer: &str, version: &str) -> String {
    let error = checksum_from(mirror, signer, version).unwrap_err();
    assert_eq!(exit_code(&error), EXIT_ENVIRONMENT, "{error:#}");
    format!("{error:#}")
}

#[test]
fn a_release_is_fetched_under_its_signed_checksum() {
    let mirror = serve(&[
        ("/v9.x/sha256sums.asc", file("sha256sums.asc")),
        ("/v9.x/linux-9.9.3.tar.xz", file("linux-9.9.3.tar.xz")),
    ]);
    let sha256 = checksum_from(&mirror, &SIGNER.to_ascii_lowercase(), "9.9.3").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let source = fetch(&store, &format!("{mirror}/"), "9.9.3", &sha256).unwrap();
    assert_eq!(
        (source.sha256.as_str(), source.origin.version.as_str()),
        (sha256.as_ref(), "9.9.3")
    );
    assert!(source.tree.join("Makefile").is_file());
}

#[test]
fn a_list_signed_by_another_key_is_refused() {
    let mirror = serve(&[("/v9.x/sha256sums.asc", file("sha256sums-other.asc"))]);
    refuses(&mirror, SIGNER, "9.9.3");
    refuses(&mirror, OTHER, "9.9.3");
    // A good signature, but not by the key that must have made it.
    let mirror = serve(&[("/v9.x/sha256sums.asc", file("sha256sums.asc"))]);
    assert!(refuses(&mirror, OTHER, "9.9.3").contains(OTHER));
}

#[test]
fn a_list_that_was_changed_or_added_to_is_refused() {
    let text = String::from_utf8(file("sha256sums.asc")).unwrap();
    let changed = text.replace("1111", "3333").into_bytes();
    let mirror = serve(&[("/v9.x/sha256sums.asc", changed)]);
    refuses(&mirror, SIGNER, "9.9.3");
    // What stands in front of the signed part is not part of it.
    let added = format!("{}  linux-9.9.7.tar.xz\n{text}", "4".repeat(64));
    let mirror = serve(&[("/v9.x/sha256sums.asc", added.into_bytes())]);
    assert!(checksum_from(&mirror, SIGNER, "9.9.7").is_err());
}

#[test]
fn what_is_not_there_is_named() {
    let mirror = serve(&[("/v9.x/sha256sums.asc", file("sha256sums.asc"))]);
    let error = refuses(&mirror, SIGNER, "9.9.77");
    assert!(error.contains("9.9.10") && !error.contains("9.10.1"), "{error}");
    assert!(refuses(&mirror, SIGNER, "8.1.1").contains("/v8.x/sha256sums.asc"));
}

#[test]
fn an_archive_with_another_checksum_is_refused() {
    let mut archive = file("linux-9.9.3.tar.xz");
    let sha256 = checksum_from(
        &serve(&[("/v9.x/sha256sums.asc", file("sha256sums.asc"))]),
        SIGNER,
        "9.9.3",
    )
    .unwrap();
    archive.push(0);
    let mirror = serve(&[("/v9.x/linux-9.9.3.tar.xz", archive)]);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let error = fetch(&store, &mirror, "9.9.3", &sha256).unwrap_err();
    assert_eq!(exit_code(&error), EXIT_ENVIRONMENT);
    assert!(store.sources().unwrap().is_empty());
}

#[test]
fn first_releases_of_a_series_have_two_numbers() {
    assert_eq!(archive_name("6.12.0"), "linux-6.12.tar.xz");
    assert_eq!(archive_name("6.12.10"), "linux-6.12.10.tar.xz");
}
