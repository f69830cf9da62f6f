//! What long work says about itself while it runs, whoever shows it.

/// Receives the progress of one phase. All methods may be called from any thread.
pub trait Progress: Sync {
    /// What is being done just now: `compiling kernel/sys.o`.
    fn message(&self, text: &str);

    /// From now on `steps` equal steps are expected, such as files to compile; the count starts at zero. It is shown behind
    /// `what`, as in `compile 3/12, about 20 s left`, until all are taken and something else begins.
    fn expect(&self, what: &str, steps: u64);

    /// One of them was taken.
    fn step(&self);

    /// Something that is worth knowing at once, and not only while it is so.
    fn note(&self, text: &str);

    /// The same for those who want to know more.
    fn detail(&self, text: &str);
}

/// For work that nobody watches.
impl Progress for () {
    fn message(&self, _text: &str) {}
    fn expect(&self, _what: &str, _steps: u64) {}
    fn step(&self) {}
    fn note(&self, _text: &str) {}
    fn detail(&self, _text: &str) {}
}
