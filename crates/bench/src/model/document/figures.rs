/// A number with as many digits as are significant, and commas between thousands.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 0.001 => 5,
        size if size < 0.1 => 4,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    rest.map_or_else(|| grouped(whole), |rest| format!("{}.{rest}", grouped(whole)))
}

/// A number with all its digits.
pub(super) fn plain(value: f64) -> String {
    let text = value.to_string();
    if value.fract() == 0.0 { grouped(&text) } else { text }
}

/// A count, with commas between thousands.
pub(super) fn whole(value: f64) -> String {
    if value.is_finite() { grouped(&format!("{value:.0}")) } else { "–".into() }
}

/// A count in millions or thousands, to two digits.
pub(super) fn about(value: f64) -> String {
    let (size, name) = match value {
        value if value >= 1e6 => (value / 1e6, " million"),
        value if value >= 1e3 => (value / 1e3, ",000"),
        value => (value, ""),
    };
    let step = if size >= 100.0 { 10.0 } else { 1.0 };
    let rounded = if size < 10.0 && name == " million" {
        format!("{size:.1}").trim_end_matches(".0").to_owned()
    } else {
        format!("{:.0}", (size / step).round() * step)
    };
    rounded + name
}

/// A share of 1 as a percentage.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "–".into() }
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_long_as_they_are_exact() {
        assert_eq!(number(1234567.0), "1,234,567");
        assert_eq!(number(7.126), "7.13");
        assert_eq!(number(0.00123), "0.0012");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(whole(10_000_000.0), "10,000,000");
    }

    #[test]
    fn abouts_are_short() {
        assert_eq!(about(1_000_000.0), "1 million");
        assert_eq!(about(2_340_000.0), "2.3 million");
        assert_eq!(about(234_400.0), "230,000");
        assert_eq!(about(42.0), "42");
    }
}
