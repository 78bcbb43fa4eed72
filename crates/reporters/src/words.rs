//! Numbers, moments and names as people read them.

use mloop_core::Window;

/// A number with three digits that count; a dash for what is none.
pub(crate) fn number(value: f64) -> String {
    // Adding 0 makes -0 a plain 0.
    let value = value + 0.0;
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{value:.1e}");
    }
    if size >= 1e4 {
        let text = count(size.round() as u64);
        return if value < 0.0 { format!("−{text}") } else { text };
    }
    let digits = 2 - size.max(1e-3).log10().floor() as i32;
    let text = format!("{value:.*}", usize::try_from(digits).unwrap_or(0));
    let text = match text.split_once('.') {
        Some((whole, part)) if part.trim_end_matches('0').is_empty() => whole.to_owned(),
        Some((whole, part)) => format!("{whole}.{}", part.trim_end_matches('0')),
        None => text,
    };
    text.replace('-', "−")
}

/// A share of 1 in percent.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        "–".to_owned()
    } else if percent == 0.0 || percent >= 9.95 {
        format!("{percent:.0} %")
    } else if percent >= 0.1 {
        format!("{percent:.1} %")
    } else {
        "< 0.1 %".to_owned()
    }
}

/// A count with its thousands set off: `12,400`.
pub(crate) fn count(rows: u64) -> String {
    let digits = rows.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration that is given in microseconds.
pub(crate) fn duration(micros: f64) -> String {
    match micros {
        _ if !micros.is_finite() => "–".to_owned(),
        _ if micros < 1e3 => format!("{} µs", number(micros)),
        _ if micros < 1e6 => format!("{} ms", number(micros / 1e3)),
        _ => format!("{} s", number(micros / 1e6)),
    }
}

/// How many times something is its tolerance.
pub(crate) fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio >= 100.0 => "over 100 ×".to_owned(),
        _ if ratio >= 10.0 => format!("{ratio:.0} ×"),
        _ => format!("{ratio:.1} ×"),
    }
}

/// A name out of code in words: `jensen_shannon` is `jensen shannon`.
pub(crate) fn plain(name: &str) -> String {
    name.replace('_', " ")
}

/// The name of a method, as it is written.
pub(crate) fn method(name: &str) -> String {
    let written = match name {
        "jensen_shannon" => "Jensen-Shannon distance",
        "hellinger" => "Hellinger distance",
        "kolmogorov_smirnov" => "Kolmogorov-Smirnov distance",
        "wasserstein" => "Wasserstein distance",
        "normed_wasserstein" => "normed Wasserstein distance",
        "mmd" => "maximum mean discrepancy",
        "psi" => "PSI",
        "auc" => "AUC",
        "ece" => "ECE",
        "f1" => "F1",
        "mae" => "MAE",
        "rmse" => "RMSE",
        "slo_burn_rate" => "burn rate of the objective",
        other => return plain(other),
    };
    written.to_owned()
}

/// A number with the noun that fits it.
pub(crate) fn counted(n: usize, one: &str, several: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {several}") }
}

/// From when to when, UTC.
pub(crate) fn span(window: &Window) -> String {
    let (start, end) = (window.start(), window.end());
    let whole = window.length().num_seconds() % 60 == 0 && start.timestamp() % 60 == 0;
    let time = if whole { "%H:%M" } else { "%H:%M:%S" };
    let day = format!("%-d %b %Y, {time}");
    let until = if start.date_naive() == end.date_naive() { time } else { day.as_str() };
    format!("{} – {} UTC", start.format(&day), end.format(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_nonsense() {
        let table = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.123_456, "0.123"),
            (-2.5, "−2.5"),
            (0.100, "0.1"),
            (1234.5, "1234"),
            (-25_000.0, "−25,000"),
            (1e-9, "1.0e-9"),
            (3e9, "3.0e9"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text, "{value}");
        }
        assert_eq!(
            [0.0, 0.5, 0.031, 1e-9, f64::NAN].map(percent),
            ["0 %", "50 %", "3.1 %", "< 0.1 %", "–"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([840.0, 12_300.0, 2.5e6].map(duration), ["840 µs", "12.3 ms", "2.5 s"]);
        assert_eq!([1.04, 34.4, f64::INFINITY].map(times), ["1.0 ×", "34 ×", "over 100 ×"]);
    }

    #[test]
    fn a_span_repeats_no_day() {
        let window = |start: &str, end: &str| {
            Window::new(start.parse().expect("a moment"), end.parse().expect("a moment"))
        };
        let hour = window("2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z").expect("an hour");
        assert_eq!(span(&hour), "1 Mar 2026, 12:00 – 13:00 UTC");
        let night = window("2026-03-01T12:00:30Z", "2026-03-02T00:00:30Z").expect("a night");
        assert_eq!(span(&night), "1 Mar 2026, 12:00:30 – 2 Mar 2026, 00:00:30 UTC");
    }
}
