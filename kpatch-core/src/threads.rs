//! When work is done on several threads.
//!
//! Starting them takes longer than comparing two small objects: a few milliseconds, against a tenth of one. Most objects
//! that a patch touches are small, and a driver starts the differ once for each.

use rayon::prelude::*;

/// Fewer bytes of objects than these are read faster than threads are started: an object of 5 MB takes about 0.2 s.
const WORTH: usize = 256 << 10;

/// Whether the work is done on this thread. Within a pool the others have been started.
fn alone(bytes: usize) -> bool {
    bytes < WORTH && rayon::current_thread_index().is_none()
}

/// Applies a function to each item. `bytes` says how much there is to do.
pub fn map<T: Sync, R: Send>(items: &[T], bytes: usize, each: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if alone(bytes) || items.len() < 2 {
        items.iter().map(each).collect()
    } else {
        items.par_iter().map(each).collect()
    }
}

/// The same for many items with little to do for each.
pub fn map_many<T: Sync, R: Send>(items: &[T], bytes: usize, each: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if alone(bytes) {
        items.iter().map(each).collect()
    } else {
        items.par_iter().with_min_len(64).map(each).collect()
    }
}

/// Does both. `bytes` says how much there is to do.
pub fn both<A: Send, B: Send>(
    bytes: usize,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    if alone(bytes) {
        (one(), other())
    } else {
        rayon::join(one, other)
    }
}
