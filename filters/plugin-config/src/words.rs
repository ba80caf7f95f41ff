//! What messages say of the values that were found.

use crate::{Value, nearest};

/// A word that is none of those there are.
#[cold]
#[inline(never)]
pub(crate) fn not_known(text: &str, words: &[&str]) -> String {
    match nearest(text, words) {
        Some(meant) => format!("'{text}' is not known: did you mean '{meant}'?"),
        None => format!("'{text}' is not known: expected one of {}", words.join(", ")),
    }
}

/// In the words of JSON. A fraction is not shown: printing any float costs a module ten KiB.
#[cold]
#[inline(never)]
pub(crate) fn expected(wanted: &str, found: &Value) -> String {
    let shown;
    let found = match found {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "a number with a fraction",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Integer(value) => {
            shown = value.to_string();
            &shown
        }
        Value::String(text) => {
            shown = format!("the text \"{text}\"");
            &shown
        }
    };
    format!("expected {wanted}, found {found}")
}

/// With up to three decimals, for the reason that [`expected`] names.
#[cold]
#[inline(never)]
pub(crate) fn shown(number: f64) -> String {
    let thousandths = (number.abs() * 1000.0).round() as u64;
    let sign = if number < 0.0 { "-" } else { "" };
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let rest = format!("{rest:03}");
    format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn fractions_are_shown_as_they_are_written() {
        let shown: Vec<_> = [0.0, 0.5, 100.0, -2.25, 33.333].into_iter().map(shown).collect();
        assert_eq!(shown, ["0", "0.5", "100", "-2.25", "33.333"]);
    }
}
