//! Headers as arguments.

/// Reads `NAME: VALUE`. Blanks around both are dropped; the value may hold colons, and may be
/// empty.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'name: value'")?;
    match name.trim() {
        "" => Err("the name is empty: write it as 'name: value'".to_owned()),
        name => Ok((name.to_owned(), value.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_split_at_its_first_colon() {
        assert_eq!(parse("x-a: b:c"), Ok(("x-a".to_owned(), "b:c".to_owned())));
        assert_eq!(parse("x-a:"), Ok(("x-a".to_owned(), String::new())));
    }

    #[test]
    fn without_a_colon_or_a_name_it_says_how_to_write_one() {
        for text in ["x-a", ": b", ""] {
            assert!(parse(text).is_err_and(|error| error.contains("'name: value'")), "{text}");
        }
    }
}
