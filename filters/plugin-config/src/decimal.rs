//! Decimal numbers in text, without the tables of the standard library.
//!
//! Rust reads every decimal to the nearest double, for which it keeps ten KiB of powers of five.
//! What a load report says is rounded to a single anyway: here the digits are one integer and the
//! exponent one power of ten, which is right to a few units in the last place of the double.

/// Significant digits that are kept; a `u64` holds as many.
const MAX_DIGITS: u32 = 19;

/// An exponent beyond all numbers.
const MAX_POWER: i32 = 100_000_000;

/// The number that `text` writes, as `f64::from_str` takes it: sign, digits with a point, exponent,
/// or `inf`, `infinity` and `nan` in any case.
pub fn parse_decimal(text: &str) -> Option<f64> {
    let (is_negative, text) = signed(text.as_bytes());
    let number = match text.first()? {
        b'0'..=b'9' | b'.' => magnitude(text)?,
        _ if text.eq_ignore_ascii_case(b"nan") => f64::NAN,
        _ if text.eq_ignore_ascii_case(b"inf") => f64::INFINITY,
        _ if text.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        _ => return None,
    };
    Some(if is_negative { -number } else { number })
}

/// Whether it is negative, and what stands behind the sign.
fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

fn magnitude(text: &[u8]) -> Option<f64> {
    let (mut mantissa, mut kept, mut exponent) = (0_u64, 0, 0_i32);
    let (mut has_digits, mut is_fraction) = (false, false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' => {
                has_digits = true;
                // Zeros in front of the first other digit are not significant.
                if kept < MAX_DIGITS {
                    mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                    kept += u32::from(mantissa > 0);
                    exponent -= i32::from(is_fraction);
                } else {
                    exponent += i32::from(!is_fraction);
                }
            }
            b'.' if !is_fraction => is_fraction = true,
            b'e' | b'E' => {
                exponent += power(bytes.as_slice())?;
                break;
            }
            _ => return None,
        }
    }
    has_digits.then(|| if mantissa == 0 { 0.0 } else { scaled(mantissa as f64, exponent) })
}

/// An exponent. One beyond all numbers is held where sums with it do not overflow.
fn power(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = signed(text);
    let mut size = 0_i32;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        size = (size * 10 + i32::from(digit)).min(MAX_POWER);
    }
    (!digits.is_empty()).then_some(if is_negative { -size } else { size })
}

/// In two steps where one is not enough: the power of ten of the least numbers is no double.
fn scaled(number: f64, exponent: i32) -> f64 {
    let first = exponent.clamp(-300, 300);
    let number = shifted(number, first);
    if first == exponent { number } else { shifted(number, (exponent - first).clamp(-300, 300)) }
}

fn shifted(number: f64, exponent: i32) -> f64 {
    match exponent {
        0.. => number * 10_f64.powi(exponent),
        _ => number / 10_f64.powi(-exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_decimal;
    use proptest::prelude::*;

    fn close(ours: f64, exact: f64) -> bool {
        ours == exact
            || (ours - exact).abs() <= exact.abs() * 1e-13
            || ours.is_nan() && exact.is_nan()
    }

    #[test]
    fn it_takes_what_the_standard_library_takes() {
        for text in [
            "0",
            "-0.0",
            "1",
            "+1",
            ".5",
            "5.",
            "0.30",
            "1e3",
            "1E-3",
            "2.5e+2",
            "inf",
            "-Infinity",
            "NaN",
            "1e999",
            "1e-999",
            "1e99999999999",
            "0e99999999999",
            "123456789012345678901234",
            "0.00000000000000000000000012345",
            "18446744073709551615",
            "2.2250738585072014e-308",
        ] {
            let (ours, exact) = (parse_decimal(text).unwrap(), text.parse().unwrap());
            assert!(close(ours, exact), "{text}: {ours} for {exact}");
        }
        for bad in
            ["", "-", ".", "e5", "1e", "1e+", "1e1.5", "1.2.3", "0x1", "1_0", " 1", "--1", "in"]
        {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_standard_library(
            text in r"[-+]?[0-9]{0,25}\.?[0-9]{0,25}([eE][-+]?[0-9]{1,2})?|.{0,6}"
        ) {
            match (parse_decimal(&text), text.parse::<f64>()) {
                (Some(ours), Ok(exact)) => prop_assert!(close(ours, exact), "{ours} for {exact}"),
                (ours, exact) => prop_assert_eq!(ours, exact.ok()),
            }
        }
    }
}
