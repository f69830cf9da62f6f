//! Amounts as people read them.

use std::time::Duration;

/// A duration in words: `4.2 s`, `2 min 05 s`.
pub fn seconds(took: Duration) -> String {
    let tenths = took.as_millis() / 100;
    match took.as_secs() {
        0..60 => format!("{}.{} s", tenths / 10, tenths % 10),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// What someone is told who waits for a lock that another run holds.
pub fn waiting(holder: &str, so_far: Duration) -> String {
    format!("waiting for {holder} ({} so far)", seconds(so_far))
}

/// A size in bytes in words, e.g. `1.2 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// `1 function`, `2 functions`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    let shown = grouped(u64::try_from(number).unwrap_or(u64::MAX));
    format!("{shown} {}", if number == 1 { one } else { many })
}

/// A number with a comma before each group of three digits: `1,358`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A time that is only estimated, so coarser the longer it is: `about 40 s`, `about 9 min`, `about 3 h`.
pub(super) fn about(left: Duration) -> String {
    match left.as_secs() {
        0..55 => format!("about {} s", left.as_secs().div_ceil(5).max(1) * 5),
        seconds @ 55..5400 => format!("about {} min", seconds.div_ceil(60)),
        seconds => format!("about {} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(567)), "9 min 27 s");
        assert_eq!(size(1), "1 kB");
        assert_eq!(size(152_784_256), "152 MB");
        assert_eq!(size(4_250_000_000), "4.2 GB");
    }

    #[test]
    fn one_is_singular_and_thousands_are_grouped() {
        assert_eq!(count(0, "entry", "entries"), "0 entries");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(count(1358, "file", "files"), "1,358 files");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn estimates_are_coarse() {
        let about = |seconds| about(Duration::from_secs(seconds));
        assert_eq!(about(0), "about 5 s");
        assert_eq!(about(37), "about 40 s");
        assert_eq!(about(60), "about 1 min");
        assert_eq!(about(500), "about 9 min");
        assert_eq!(about(9000), "about 3 h");
    }
}
