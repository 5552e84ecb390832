//! Text and figures as pictures and page show them.

use std::fmt::{self, Display, Formatter, Write};

/// Text made safe between tags and inside quoted attributes.
pub(super) struct Escaped<'a>(&'a str);

/// See [`Escaped`].
pub(super) fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(' ')?, // XML forbids most of them
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A share of 1 as `99.21 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// [`percent`], and a dash for a figure that does not exist.
pub(super) fn percent_or_dash(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), percent)
}

/// Digits in groups of three: `60,000`.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 60_000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "60,000", "1,234,567"]
        );
        assert_eq!(percent(0.992_14), "99.21 %");
    }
}
