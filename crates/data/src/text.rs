//! Text that came from outside: names of classes and files.

use std::any::Any;
use std::borrow::Cow;

use encoding_rs::{UTF_16BE, UTF_16LE, WINDOWS_1252};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The one form in which names of classes are kept and compared: Unicode's composed form (NFC). macOS writes the
/// names of files decomposed, so that the same name comes in two forms.
pub fn composed(name: &str) -> String {
    match is_nfc_quick(name.chars()) {
        IsNormalized::Yes => name.to_owned(),
        _ => name.nfc().collect(),
    }
}

/// The text of a list of names or pictures, and what had to be guessed: UTF-8 or UTF-16, with or without a mark at the
/// beginning, else Windows-1252.
///
/// # Errors
/// When it is no such text: what it seems to be, and what to do.
pub(crate) fn decoded(bytes: &[u8]) -> Result<(Cow<'_, str>, Option<&'static str>), String> {
    let wrong = "it is no text in UTF-8, UTF-16 or Windows-1252; save it in UTF-8";
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err(
            "it is a workbook, not text; save it as CSV in UTF-8 from the spreadsheet program".to_owned()
        );
    }
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Err("it is written in UTF-32; save it in UTF-8".to_owned());
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let zeros = |from: usize| bytes.iter().skip(from).step_by(2).take(512).filter(|byte| **byte == 0).count();
    let wide = match bytes {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        // Western text has a zero in every second byte.
        _ if bytes.contains(&0) && zeros(0) != zeros(1) => {
            Some(if zeros(1) > zeros(0) { UTF_16LE } else { UTF_16BE })
        }
        _ if bytes.contains(&0) => return Err(wrong.to_owned()),
        _ => None,
    };
    if let Some(encoding) = wide {
        let (text, damaged) = encoding.decode_with_bom_removal(bytes);
        let damaged = damaged || bytes.len() % 2 == 1 || text.contains('\0');
        return if damaged { Err(wrong.to_owned()) } else { Ok((text, None)) };
    }
    if let Ok(text) = std::str::from_utf8(text) {
        return Ok((text.into(), None));
    }
    let (text, _) = WINDOWS_1252.decode_without_bom_handling(text);
    let guess = "it is not written in UTF-8 and is read as Windows-1252 (Latin-1); if names come out wrong, save it in UTF-8";
    Ok((text, Some(guess)))
}

/// Whether a terminal would act on the character, or show the text around it in another order, instead of showing it:
/// controls (C0, delete, C1), line and paragraph separators, and the marks that turn the direction of writing.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, passes: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> String {
    if !text.chars().any(|character| acts(character) && !passes(character)) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if acts(character) && !passes(character) {
            safe.push_str(&escape(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

fn in_words(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ if character.is_ascii() => format!("\\x{:02x}", u32::from(character)),
        _ => format!("\\u{{{:x}}}", u32::from(character)),
    }
}

/// Lines as a terminal may have them: whatever it would act on is shown as an escape such as `\x1b`. Ends of lines
/// and tabs stay.
pub fn visible(text: &str) -> String {
    escaped(text, |character| matches!(character, '\n' | '\t'), in_words)
}

/// A name as a part of one line: as [`visible`], with ends of lines and tabs escaped too.
pub fn one_line(name: &str) -> String {
    escaped(name, |_| false, in_words)
}

/// JSON that means the same and holds nothing that a terminal would act on. Such characters stand only within
/// strings there, except for ends of lines and blanks between the values.
pub fn visible_json(json: &str) -> String {
    escaped(
        json,
        |character| matches!(character, '\n' | '\t' | '\r'),
        |character| format!("\\u{:04x}", u32::from(character)),
    )
}

/// A text as a cell of a table that a spreadsheet may open: one that it would take for a formula gets an apostrophe in
/// front, and nothing in it acts on a terminal. Numbers that are ours need it not.
///
/// The beginnings are those of OWASP's page on CSV injection.
pub fn csv_cell(text: &str) -> String {
    let cell = one_line(text);
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        format!("'{cell}")
    } else {
        cell
    }
}

/// What a panic said, where it said something.
pub fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
}

/// A number of things: `1 picture`, `2 pictures`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_panic_is_read_in_either_form() {
        let said = |panic: Box<dyn Any + Send>| panic_message(panic.as_ref()).map(str::to_owned);
        assert_eq!(said(Box::new("plain")), Some("plain".to_owned()));
        assert_eq!(said(Box::new("formatted".to_owned())), Some("formatted".to_owned()));
        assert_eq!(said(Box::new(7)), None);
    }

    #[test]
    fn what_a_terminal_acts_on_is_shown() {
        assert_eq!(visible("a\x1b[31mred\x07\n\tb"), "a\\x1b[31mred\\x07\n\tb");
        assert_eq!(visible("\u{9b}2J\u{7f}\r\u{0}"), "\\u{9b}2J\\x7f\\r\\x00");
        assert_eq!(visible("exe\u{202e}gnp.\u{2066}\u{200f}"), "exe\\u{202e}gnp.\\u{2066}\\u{200f}");
        assert_eq!(one_line("a\nerror: b\t"), "a\\nerror: b\\t");
        for plain in ["Crème brûlée", "猫", "👩‍🔬", "a\\x1b", ""] {
            assert_eq!((visible(plain), one_line(plain)), (plain.to_owned(), plain.to_owned()));
        }
    }

    #[test]
    fn formulas_become_text() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2", "'-2"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("\t=1", "'\\t=1"),
            ("\r=1", "'\\r=1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(csv_cell(text), cell);
        }
    }

    #[test]
    fn one_name_has_one_form() {
        assert_eq!(composed("Mo\u{308}hre"), "M\u{f6}hre");
        assert_eq!(composed("M\u{f6}hre"), "M\u{f6}hre");
        assert_eq!(composed("\u{1100}\u{1161}"), "\u{ac00}");
    }

    proptest! {
        #[test]
        fn any_text_is_safe_and_json_keeps_its_meaning(text: String) {
            prop_assert!(!visible(&text).chars().any(|c| acts(c) && c != '\n' && c != '\t'));
            prop_assert!(!one_line(&text).chars().any(acts));
            let json = visible_json(&serde_json::to_string(&[&text]).unwrap());
            prop_assert!(!json.chars().any(acts));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
        }
    }
}
