//! Builders and machines side by side: while one thing is built, those built before it are booted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{getpriority_process, setpriority_process};

/// Takes the next batch from what is ready; `None`: not worth a machine yet. The flag says that nothing more can come.
/// Then whatever is ready has to be taken, sooner or later.
pub type Take<'t, T> = &'t (dyn Fn(&mut VecDeque<T>, bool) -> Option<Vec<T>> + Sync);

struct State<T> {
    ready: VecDeque<T>,
    /// Builders that still work.
    builders: usize,
}

struct Workers<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Workers<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, take: Take<'_, T>) -> Option<Vec<T>> {
        let mut state = self.lock();
        loop {
            let done = state.builders == 0;
            if done && state.ready.is_empty() {
                return None;
            }
            if let Some(batch) = take(&mut state.ready, done) {
                return Some(batch);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Says that a builder has ended, also when it panics: a machine would wait for it for ever.
struct Leaving<'l, T>(&'l Workers<T>);

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.0.lock().builders -= 1;
        self.0.changed.notify_all();
    }
}

/// Builds items in their order with so many builders, and boots in batches what comes of them, with one machine for each
/// element of `machines`. Returns when everything is through.
pub fn run<I: Sync, T: Send>(
    items: &[I],
    builders: usize,
    machines: &[Take<'_, T>],
    build: &(dyn Fn(&I) -> Option<T> + Sync),
    boot: &(dyn Fn(Vec<T>) + Sync),
) {
    let builders = builders.min(items.len()).max(1);
    let workers = Workers {
        state: Mutex::new(State {
            ready: VecDeque::new(),
            builders,
        }),
        changed: Condvar::new(),
    };
    let next = AtomicUsize::new(0);
    let build_all = || {
        let _leaving = Leaving(&workers);
        step_back();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(built) = build(item) {
                workers.lock().ready.push_back(built);
                workers.changed.notify_all();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..builders {
            scope.spawn(build_all);
        }
        for take in machines {
            scope.spawn(|| {
                while let Some(batch) = workers.next(*take) {
                    boot(batch);
                }
            });
        }
    });
}

/// By how much builders are nicer than machines.
const NICER: i32 = 5;

/// Lets machines go first. A machine's clock goes on while it waits for a processor, so what takes too long there looks
/// like a hang; a compiler has no clock. A priority is that of one thread, and of the programs it starts (`setpriority(2)`).
fn step_back() {
    // A system that does not allow even this is only slower.
    let _ = getpriority_process(None).and_then(|own| setpriority_process(None, (own + NICER).min(19)));
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    fn three_or_the_rest(ready: &mut VecDeque<u32>, done: bool) -> Option<Vec<u32>> {
        let count = ready.len().min(3);
        (done || count == 3).then(|| ready.drain(..count).collect())
    }

    #[test]
    fn what_is_built_is_booted_once_in_full_batches() {
        let batches = Mutex::new(Vec::new());
        let items: Vec<u32> = (0..20).collect();
        let build = |item: &u32| item.is_multiple_of(2).then_some(*item);
        let boot = |batch: Vec<u32>| batches.lock().unwrap().push(batch);
        run(&items, 4, &[&three_or_the_rest, &three_or_the_rest], &build, &boot);
        let batches = batches.into_inner().unwrap();
        let mut all: Vec<u32> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..20).step_by(2).collect::<Vec<_>>());
        assert_eq!(batches.iter().filter(|batch| batch.len() < 3).count(), 1, "{batches:?}");
    }

    #[test]
    fn nothing_to_build_ends() {
        run(&[], 2, &[&three_or_the_rest], &|_: &u32| None, &|_| unreachable!());
    }

    #[test]
    fn a_builder_that_panics_does_not_keep_the_machines_waiting() {
        let booted = AtomicUsize::new(0);
        let build = |item: &u32| match item {
            0 => panic!("on purpose"),
            item => Some(*item),
        };
        let boot = |batch: Vec<u32>| {
            booted.fetch_add(batch.len(), Ordering::Relaxed);
        };
        let all = || run(&[0, 1, 2], 2, &[&three_or_the_rest], &build, &boot);
        assert!(std::panic::catch_unwind(AssertUnwindSafe(all)).is_err());
        assert_eq!(booted.into_inner(), 2);
    }

    #[test]
    fn machines_go_before_builders() {
        let own = getpriority_process(None).unwrap();
        let niceness = |_: &u32| getpriority_process(None).unwrap();
        let build = |item: &u32| Some(niceness(item));
        let boot = |batch: Vec<i32>| {
            assert_eq!(getpriority_process(None).unwrap(), own);
            assert_eq!(batch, [(own + NICER).min(19)]);
        };
        let one: Take<'_, i32> = &|ready, _| Some(vec![ready.pop_front()?]);
        run(&[0], 1, &[one], &build, &boot);
        assert_eq!(getpriority_process(None).unwrap(), own);
    }
}
