//! Which of the things that are ready a machine takes next.

use std::collections::VecDeque;

/// A boot takes about as long as building one livepatch, so it is worth waiting until it serves several.
pub const ENOUGH: usize = 8;
/// What one machine takes at most: more would mean more to do again if it dies.
pub const MOST: usize = 24;

/// The next machine's batch: one that needs it for itself, or enough that share it, or what is left at the end.
pub fn next<T>(ready: &mut VecDeque<T>, done: bool, needs_own_machine: &dyn Fn(&T) -> bool) -> Option<Vec<T>> {
    if let Some(at) = ready.iter().position(needs_own_machine) {
        return ready.remove(at).map(|one| vec![one]);
    }
    let count = ready.len();
    // At the end two machines share what is left.
    let share = if done {
        count.div_ceil(2).max(ENOUGH.min(count))
    } else {
        count
    };
    (done || count >= ENOUGH).then(|| ready.drain(..share.min(MOST)).collect())
}

/// The second machine only helps once nobody builds any more.
pub fn last<T>(ready: &mut VecDeque<T>, done: bool, needs_own_machine: &dyn Fn(&T) -> bool) -> Option<Vec<T>> {
    done.then(|| next(ready, done, needs_own_machine)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(count: usize, done: bool, second: bool) -> Vec<usize> {
        let mut ready: VecDeque<usize> = (0..count).collect();
        let take = if second { last } else { next };
        let mut sizes = Vec::new();
        while let Some(batch) = take(&mut ready, done, &|_| false).filter(|batch| !batch.is_empty()) {
            sizes.push(batch.len());
        }
        sizes
    }

    #[test]
    fn a_machine_waits_for_enough_and_takes_no_more_than_it_can() {
        assert!(sizes(ENOUGH - 1, false, false).is_empty());
        assert_eq!(sizes(ENOUGH + 1, false, false), [ENOUGH + 1]);
        assert_eq!(sizes(MOST + 2, false, false), [MOST]);
    }

    #[test]
    fn at_the_end_two_machines_share_what_is_left() {
        assert_eq!(sizes(3, true, false), [3]);
        assert_eq!(sizes(20, true, false), [10, 8, 2]);
        assert!(sizes(20, false, true).is_empty());
        assert_eq!(sizes(20, true, true), [10, 8, 2]);
    }

    #[test]
    fn what_needs_a_machine_for_itself_does_not_wait() {
        let mut ready = VecDeque::from([1, 2, 3]);
        assert_eq!(next(&mut ready, false, &|one| *one == 2), Some(vec![2]));
        assert_eq!(next(&mut ready, false, &|one| *one == 2), None);
        assert_eq!(ready, [1, 3]);
    }
}
