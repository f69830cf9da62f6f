//! YAML in and out, with typed values on our side. The only file that names the YAML library, so that it can be exchanged in an hour.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a YAML file. The error names the file, the line and the key.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text).with_context(|| file.display().to_string())
}

/// Reads a value from YAML text. The error names the line and the key.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    Ok(serde_yaml::from_str(text)?)
}

/// A value as YAML text.
pub fn text(value: &impl Serialize) -> Result<String> {
    Ok(serde_yaml::to_string(value)?)
}
