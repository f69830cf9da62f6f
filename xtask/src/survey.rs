//! How much of the difference of two point releases can be livepatched, found out by trying.
//!
//! Each changed file that the configured kernel is made of becomes a patch of its own ([`pieces`]), goes through
//! `build-patch`'s own steps, and what was built is booted ([`run`]). A file whose change does not compile alone is
//! tried together with the other changes that the compiler asks for ([`group`]). What became of each file is written
//! down at once ([`record`]), so a run that was killed goes on where it was.
//!
//! A file is not a fix: one upstream commit often changes several. Files are what can be counted without a history.

mod codes;
mod csv;
mod difference;
mod group;
mod judge;
mod page;
mod pieces;
mod record;
mod results;
mod run;
mod series;
mod tally;

pub use csv::text as csv;
pub use difference::{Changed, difference};
pub use page::page;
pub use pieces::{Piece, Pieces, sample, turn};
pub use record::{Outcome, Record};
pub use results::Results;
pub use run::{Run, TOO_WIDE, weight};
pub use series::write_series;
pub use tally::{About, Survey};
