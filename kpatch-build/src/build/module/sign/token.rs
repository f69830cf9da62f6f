//! Signs with a key that never leaves its token, where the kernel's own program cannot reach it.
//!
//! scripts/sign-file.c of 6.12 and later asks OpenSSL 3 for the provider `pkcs11`, which not every distribution has; the
//! engine of that name is older and more widespread. OpenSSL's own program signs with the engine, and sign-file puts the
//! finished signature behind the module (its option `-s`). Both ways give the same bytes.

use std::path::Path;

use anyhow::{Context, Result};

use super::Key;
use crate::sh;

/// Gives the environment of a program that opens a token: the PIN, where the library of the token is, and what that and
/// OpenSSL read.
pub(super) fn environment(command: &mut std::process::Command) {
    for name in ["KBUILD_SIGN_PIN", "PKCS11_MODULE_PATH", "SOFTHSM2_CONF", "OPENSSL_CONF"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// Signs a module in place by OpenSSL's engine.
///
/// # Errors
/// What the programs report.
pub(super) fn sign(program: &Path, hash: &str, key: &Key, ko: &Path) -> Result<()> {
    let signature = ko.with_extension("signature");
    let mut command = sh::command("openssl");
    // What the kernel wants of a signature: scripts/sign-file.c, CMS_sign() and CMS_add1_signer().
    command
        .args([
            "cms",
            "-sign",
            "-binary",
            "-noattr",
            "-nocerts",
            "-nosmimecap",
            "-outform",
            "DER",
        ])
        .args([
            "-engine", "pkcs11", "-keyform", "engine", "-inkey", &key.key, "-md", hash,
        ])
        .arg("-signer")
        .arg(&key.cert)
        .arg("-in")
        .arg(ko)
        .arg("-out")
        .arg(&signature);
    if std::env::var_os("KBUILD_SIGN_PIN").is_some() {
        command.args(["-passin", "env:KBUILD_SIGN_PIN"]);
    }
    environment(&mut command);
    sh::output(&mut command).context("cannot sign the module with the key of the token")?;
    let mut command = sh::command(program);
    command.arg("-s").arg(&signature).arg(hash).arg(&key.cert).arg(ko);
    sh::output(&mut command).context("cannot put the signature behind the module")?;
    Ok(())
}
