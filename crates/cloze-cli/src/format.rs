//! Numbers for people.

use std::time::Duration;

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many things: `1 step`, `1,200 steps`.
#[must_use]
pub fn counted(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number of bytes in powers of 1,000: `12.3 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// A large number, short: `12.3 M`.
#[must_use]
pub fn short(n: f64) -> String {
    scaled(n, &["", "k", "M", "G", "T"]).trim_end().to_owned()
}

fn scaled(n: f64, units: &[&str]) -> String {
    let mut value = n;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
}

/// A time: `4.2 s`, `1 min 05 s`, `2 h 03 min`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = seconds.round() as u64;
    if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3_600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60)
    }
}

/// A share as `12.3 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [999, 1_000, 23_940_000, 999_999_999].map(bytes),
            ["999 B", "1.0 kB", "23.9 MB", "1.0 GB"]
        );
        assert_eq!(
            [12.0, 1_650.0, 3_500_000.0].map(short),
            ["12", "1.6 k", "3.5 M"]
        );
        let times =
            [4.21, 59.99, 65.0, 3_599.6, 7_380.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(
            times,
            [
                "4.2 s",
                "1 min 00 s",
                "1 min 05 s",
                "1 h 00 min",
                "2 h 03 min"
            ]
        );
    }
}
