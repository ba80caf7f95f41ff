//! Showing two texts that should be equal and are not: where they part, not all of both.

use std::fmt::Write as _;

/// Characters shown around the place where texts part.
const CONTEXT: usize = 30;

/// Longest text that is quoted whole.
const QUOTED: usize = 200;

/// The text in quotes, cut off when long; hexadecimal digits if it is none.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().count() <= QUOTED => format!("{text:?}"),
        Ok(text) => {
            let start: String = text.chars().take(QUOTED).collect();
            format!("{start:?}... ({} bytes)", bytes.len())
        }
        Err(_) => hex(bytes),
    }
}

/// `expected X, got Y`; of long texts and of several lines the place where they part.
pub(crate) fn of_texts(wanted: &[u8], actual: &[u8]) -> String {
    let (Ok(wanted_text), Ok(actual_text)) =
        (std::str::from_utf8(wanted), std::str::from_utf8(actual))
    else {
        return of_bytes(wanted, actual);
    };
    if wanted_text.contains('\n') && actual_text.contains('\n') {
        return of_lines(wanted_text, actual_text);
    }
    let (wanted_chars, actual_chars): (Vec<char>, Vec<char>) =
        (wanted_text.chars().collect(), actual_text.chars().collect());
    if wanted_chars.len().max(actual_chars.len()) <= 2 * CONTEXT {
        return format!("expected {wanted_text:?}, got {actual_text:?}");
    }
    let same = wanted_chars.iter().zip(&actual_chars).take_while(|(a, b)| a == b).count();
    let around = |text: &[char]| {
        let part = &text[same.saturating_sub(CONTEXT)..text.len().min(same + CONTEXT)];
        let before = if same > CONTEXT { "..." } else { "" };
        let after = if same + CONTEXT < text.len() { "..." } else { "" };
        format!("{before}{:?}{after}", part.iter().collect::<String>())
    };
    format!(
        "differs from character {} on:\n  expected {} ({} bytes)\n  got      {} ({} bytes)",
        same + 1,
        around(&wanted_chars),
        wanted.len(),
        around(&actual_chars),
        actual.len()
    )
}

/// Texts of several lines: the first lines that are not the same, with one that is.
fn of_lines(wanted: &str, actual: &str) -> String {
    let (wanted, actual): (Vec<&str>, Vec<&str>) =
        (wanted.split('\n').collect(), actual.split('\n').collect());
    let same = wanted.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let mut text = format!("differs from line {} on (- expected, + got):", same + 1);
    if let Some(last) = same.checked_sub(1).and_then(|last| wanted.get(last)) {
        let _ = write!(text, "\n    {last}");
    }
    for (mark, lines) in [('-', &wanted), ('+', &actual)] {
        for line in lines.iter().skip(same).take(3) {
            let _ = write!(text, "\n  {mark} {line}");
        }
        if lines.len() > same + 3 {
            let _ = write!(text, "\n  {mark} ... {} more lines", lines.len() - same - 3);
        }
    }
    text
}

/// Bytes that are no text.
pub(crate) fn of_bytes(wanted: &[u8], actual: &[u8]) -> String {
    let same = wanted.iter().zip(actual).take_while(|(a, b)| a == b).count();
    format!("differs from byte {same} on: expected {}, got {}", hex(wanted), hex(actual))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = "hex ".to_owned();
    for byte in bytes.iter().take(QUOTED / 4) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > QUOTED / 4 {
        let _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_shown_whole_and_long_ones_where_they_part() {
        assert_eq!(of_texts(b"a", b"b"), "expected \"a\", got \"b\"");
        let (wanted, actual) = ("x".repeat(500) + "left", "x".repeat(500) + "right, and more");
        let shown = of_texts(wanted.as_bytes(), actual.as_bytes());
        assert!(shown.starts_with("differs from character 501 on"), "{shown}");
        assert!(shown.contains("left") && shown.contains("right") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn lines_are_shown_like_a_diff() {
        let shown = of_texts(b"one\ntwo\nthree", b"one\n2\nthree");
        let wanted = "differs from line 2 on (- expected, + got):\n    one\n  - two\n  - three\n  + 2\n  + three";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn bytes_are_shown_as_digits() {
        assert_eq!(
            of_texts(&[0xff, 1], &[0xff]),
            "differs from byte 1 on: expected hex ff01, got hex ff"
        );
        assert_eq!(quoted(&[0xc0]), "hex c0");
    }
}
