//! Signs a finished module, by the kernel's own program for that.
//!
//! The signature is the last thing that happens to a module: whatever is changed after it makes it worthless. The kernel
//! looks for the key among those built into its image, and in keyrings that only the running machine has (machine owner
//! keys, keys of the firmware): Documentation/admin-guide/module-signing.rst.

mod token;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memchr::memmem;
use serde::Serialize;

use crate::build::kbuild::facts::Config;
use crate::kernel::Kernel;
use crate::outcome::Ending;
use crate::sh;
use crate::supply::stock::vmlinuz;

/// What ends a signed module: include/linux/module_signature.h, `MODULE_SIG_STRING`.
const MARK: &[u8] = b"~Module signature appended~\n";

/// How the name of a key in a token begins (RFC 7512).
const PKCS11: &str = "pkcs11:";

/// Who signs.
#[derive(Debug, Clone)]
pub struct Key {
    /// A file in PEM with the private key, or the `pkcs11:` name of one in a token.
    pub key: String,
    /// Its certificate, in PEM or DER.
    pub cert: PathBuf,
    certificate: Vec<u8>,
}

impl Key {
    fn is_in_token(&self) -> bool {
        self.key.starts_with(PKCS11)
    }

    /// The key that somebody named. A PEM file may have key and certificate both, as that of a kernel build has.
    ///
    /// # Errors
    /// A wrong command line: files that are not there, or not what they should be.
    pub fn new(key: &str, cert: Option<&Path>) -> Result<Self> {
        let cert = match cert {
            Some(cert) => cert.to_owned(),
            None if key.starts_with(PKCS11) => {
                return Err(Ending::usage("--sign-key: a key in a token needs --sign-cert"));
            }
            None => PathBuf::from(key),
        };
        let wrong = |what: &str, why: String| Ending::usage(format!("{what}: {why}"));
        if !key.starts_with(PKCS11) {
            let text = fs::read(key).map_err(|error| wrong("--sign-key", format!("cannot read {key}: {error}")))?;
            if memmem::find(&text, b"PRIVATE KEY-----").is_none() {
                return Err(wrong("--sign-key", format!("{key} has no private key in PEM")));
            }
        }
        let bytes = fs::read(&cert)
            .map_err(|error| wrong("--sign-cert", format!("cannot read {}: {error}", cert.display())))?;
        let certificate =
            der(&bytes).ok_or_else(|| wrong("--sign-cert", format!("no certificate in {}", cert.display())))?;
        let absolute =
            |path: &Path| std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
        Ok(Key {
            key: match key.starts_with(PKCS11) {
                true => key.to_owned(),
                false => absolute(Path::new(key))?.to_string_lossy().into_owned(),
            },
            cert: absolute(&cert)?,
            certificate,
        })
    }
}

/// The first certificate of a file in DER: as it is, or out of PEM.
fn der(bytes: &[u8]) -> Option<Vec<u8>> {
    /// How a certificate begins: a SEQUENCE with a length of two bytes (X.690, 8.1.3).
    const SEQUENCE: [u8; 2] = [0x30, 0x82];
    if bytes.starts_with(&SEQUENCE) {
        return Some(bytes.to_vec());
    }
    let blocks = pem::parse_many(bytes).ok()?;
    let certificate = blocks.into_iter().find(|block| block.tag() == "CERTIFICATE")?;
    Some(certificate.into_contents())
}

/// What is known of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The hash, as the kernel's configuration names it.
    pub hash: String,
    /// The certificate is one of those that are built into the image. If not, the machine must have it elsewhere.
    pub built_in: bool,
    /// The kernel loads nothing without a signature (CONFIG_MODULE_SIG_FORCE).
    pub enforced: bool,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match (self.built_in, self.enforced) {
            (true, _) => "the kernel has the certificate built in",
            (false, true) => {
                "the kernel does not have the certificate built in, and loads the module only if the machine's keyrings do"
            }
            (false, false) => {
                "the kernel does not have the certificate built in; unless the machine's keyrings do, the module taints \
                 the kernel, or is rejected where signatures are enforced"
            }
        };
        write!(f, "{}, {known}", self.hash)
    }
}

/// A key, and the kernel's own program for it. Whether there is one is known before anything is built.
pub struct Signer<'a> {
    key: &'a Key,
    kernel: Kernel<'a>,
    program: PathBuf,
    hash: String,
    enforced: bool,
}

impl<'a> Signer<'a> {
    /// Who signs modules for this kernel.
    ///
    /// # Errors
    /// An environment problem: a kernel that knows no signatures, or has no program that makes them.
    pub fn new(key: &'a Key, kernel: Kernel<'a>) -> Result<Self> {
        let build = build_of(kernel);
        let config = Config::read(build)?;
        let Some(hash) = config.get("MODULE_SIG_HASH").filter(|_| config.is_on("MODULE_SIG")) else {
            let text =
                "--sign-key: this kernel is built without CONFIG_MODULE_SIG and would take a signature for garbage";
            return Err(Ending::infrastructure(text));
        };
        let program = build.join("scripts/sign-file");
        if !program.is_file() {
            let text = format!(
                "--sign-key: the kernel's own program is not there: {}",
                program.display()
            );
            return Err(Ending::infrastructure(text));
        }
        let signer = Signer {
            key,
            kernel,
            program,
            hash: hash.to_owned(),
            enforced: config.is_on("MODULE_SIG_FORCE"),
        };
        signer.try_key()?;
        Ok(signer)
    }

    /// Signs a few bytes: a certificate of another key, a wrong PIN or a token without the key are known before anything is
    /// built.
    fn try_key(&self) -> Result<()> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let file = folder.path().join("tried");
        fs::write(&file, "a few bytes").with_context(|| format!("cannot write {}", file.display()))?;
        let Err(error) = self.put_signature(&file) else {
            return Ok(());
        };
        if sh::was_interrupted() {
            return Err(error);
        }
        let why = why(&format!("{error:#}"));
        let text = format!(
            "--sign-key {}, --sign-cert {}: {why}",
            without_pin(&self.key.key),
            self.key.cert.display()
        );
        Err(match self.key.is_in_token() {
            true => Ending::infrastructure(text),
            false => Ending::usage(text),
        })
    }

    fn put_signature(&self, ko: &Path) -> Result<()> {
        let mut command = sh::command(&self.program);
        command.arg(&self.hash).arg(&self.key.key).arg(&self.key.cert).arg(ko);
        token::environment(&mut command);
        let signed = sh::output(&mut command).context("cannot sign the module");
        match signed {
            Err(_) if self.key.is_in_token() && !sh::was_interrupted() => {
                // The first error is that of a missing provider, most likely; the second one is about the key itself.
                token::sign(&self.program, &self.hash, self.key, ko)
            }
            signed => signed.map(drop),
        }
    }

    /// Signs a module in place.
    ///
    /// # Errors
    /// What the program reports.
    pub fn sign(self, ko: &Path) -> Result<Signature> {
        let signed = self.put_signature(ko);
        signed.map_err(|error| anyhow::anyhow!(without_pin(&format!("{error:#}"))))?;
        let signed = fs::read(ko).with_context(|| format!("cannot read {}", ko.display()))?;
        if !signed.ends_with(MARK) {
            anyhow::bail!("{} ended well, and the module has no signature", self.program.display());
        }
        Ok(Signature {
            hash: self.hash,
            built_in: has(self.kernel, &self.key.certificate)?,
            enforced: self.enforced,
        })
    }
}

/// The name of a key, or a text that has it, without the PIN (RFC 7512, 2.4).
fn without_pin(text: &str) -> String {
    const PIN: &str = "pin-value=";
    let mut parts = text.split(PIN);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || ";&?'\"`".contains(c));
        shown = format!("{shown}{PIN}…{}", &part[end.unwrap_or(part.len())..]);
    }
    shown
}

/// What OpenSSL's trace comes to, in a sentence.
fn why(trace: &str) -> String {
    let known = [
        (
            ["key values mismatch", "not match", "different key"],
            "the certificate is not that of the key",
        ),
        (
            ["PIN incorrect", "pin incorrect", "Login failed"],
            "the token does not take the PIN (KBUILD_SIGN_PIN)",
        ),
        (
            ["object not found", "The private key was not found", "No matching"],
            "there is no such key in a token",
        ),
        (
            ["bad decrypt", "bad password", "maybe wrong password"],
            "the password of the key is wrong (KBUILD_SIGN_PIN)",
        ),
    ];
    let found = known
        .iter()
        .find(|(words, _)| words.iter().any(|words| trace.contains(words)));
    if let Some((_, sentence)) = found {
        return (*sentence).to_owned();
    }
    let last = trace
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or_default();
    format!("nothing can be signed with it ({})", without_pin(last))
}

/// Whether this kernel looks at signatures. One that does not ignores `module.sig_enforce`.
///
/// # Errors
/// The configuration cannot be read.
pub fn knows_signatures(kernel: Kernel<'_>) -> Result<bool> {
    Ok(Config::read(build_of(kernel))?.is_on("MODULE_SIG"))
}

fn build_of(kernel: Kernel<'_>) -> &Path {
    match kernel {
        Kernel::Recorded(kernel) => &kernel.build,
        Kernel::Stock(kernel) => &kernel.objects,
    }
}

/// Whether the image has this certificate: certs/system_certificates.S puts them into it as they are.
fn has(kernel: Kernel<'_>, certificate: &[u8]) -> Result<bool> {
    let path = match kernel {
        Kernel::Recorded(kernel) => &kernel.vmlinux,
        Kernel::Stock(kernel) => &kernel.vmlinuz,
    };
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let image = match kernel {
        Kernel::Recorded(_) => bytes,
        Kernel::Stock(_) => vmlinuz::unpack(&bytes).with_context(|| format!("cannot unpack {}", path.display()))?,
    };
    Ok(memmem::find(&image, certificate).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_in_both_formats() {
        let der_bytes = [0x30, 0x82, 0, 1, 5];
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der_bytes));
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", [1, 2]));
        assert_eq!(der(&der_bytes).unwrap(), der_bytes);
        assert_eq!(der(format!("{key}{text}").as_bytes()).unwrap(), der_bytes);
        assert_eq!(der(key.as_bytes()), None);
    }

    #[test]
    fn a_pin_is_not_repeated() {
        let shown = without_pin("pkcs11:token=a?pin-value=1234&x=y failed: 'pkcs11:b?pin-value=56' z");
        assert_eq!(shown, "pkcs11:token=a?pin-value=…&x=y failed: 'pkcs11:b?pin-value=…' z");
        assert_eq!(without_pin("pkcs11:token=a"), "pkcs11:token=a");
        assert!(!why("trace\npkcs11:b?pin-value=56 is bad\n").contains("56"));
        assert!(why("error:05800074:x509 certificate routines::key values mismatch").contains("not that of the key"));
    }

    #[test]
    fn wrong_keys_are_named_before_anything_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let wrong = |key: &str, cert: Option<&Path>| {
            let error = Key::new(key, cert).unwrap_err();
            assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE);
            error.to_string()
        };
        let name = file.to_str().unwrap();
        assert!(wrong(name, None).contains("cannot read"));
        fs::write(&file, "text").unwrap();
        assert!(wrong(name, None).contains("no private key"));
        fs::write(&file, pem::encode(&pem::Pem::new("PRIVATE KEY", [1]))).unwrap();
        assert!(wrong(name, None).contains("no certificate"));
        assert!(wrong("pkcs11:token=x", None).contains("needs --sign-cert"));
    }
}
