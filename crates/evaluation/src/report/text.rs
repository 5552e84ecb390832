//! Text and figures as pictures and page show them.

use std::fmt::{self, Display, Formatter, Write};

/// Text made safe between tags and inside quoted attributes of HTML and SVG.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

/// See [`Escaped`].
pub fn escape(text: &str) -> Escaped<'_> {
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
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char(' ')?, // XML forbids them
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_tag_or_an_attribute() {
        let escaped = |text: &str| escape(text).to_string();
        assert_eq!(escaped("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(escaped("two\nlines\tand a\u{7}bell\0"), "two\nlines\tand a bell ");
    }

    #[test]
    fn shares_are_percent() {
        assert_eq!(percent(0.992_14), "99.21 %");
    }
}
