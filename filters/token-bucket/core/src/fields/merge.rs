//! Our items and an origin's in one field.
//!
//! An origin may have limits of its own, and say so in the same fields. A proxy must not make what
//! it says more permissive: of two items with one name the stricter stays, whoever wrote it. Items
//! of other names are added after the origin's. A field that is no structured field stays as it is,
//! and nothing is added to it: a client ignores it as a whole.

/// What becomes of a field of the origin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// This line is added to it.
    Add(String),
    /// This stands in its place.
    Replace(String),
    /// Nothing.
    Keep,
}

/// Merges our items into the origin's field, all lines of it joined by commas.
pub fn merge(origin: &str, ours: &str) -> Merge {
    let (Some(theirs), Some(ours)) = (items(origin), items(ours)) else { return Merge::Keep };
    let mut all: Vec<&str> = theirs.iter().map(|item| item.text).collect();
    let mut added = Vec::new();
    let mut is_replaced = false;
    for item in &ours {
        let mut is_placed = false;
        for (place, other) in all.iter_mut().zip(&theirs) {
            if other.name == item.name
                && let Some(is_stricter) = item.is_stricter(other)
            {
                is_placed = true;
                if is_stricter {
                    *place = item.text;
                    is_replaced = true;
                }
            }
        }
        if !is_placed {
            added.push(item.text);
        }
    }
    if is_replaced {
        all.extend(added);
        Merge::Replace(all.join(", "))
    } else if added.is_empty() {
        Merge::Keep
    } else {
        Merge::Add(added.join(", "))
    }
}

/// An item of a list, with the parameters that are compared: `q`, `w`, `r` and `t`.
#[derive(Debug, Default)]
struct Item<'a> {
    text: &'a str,
    /// With its quotes.
    name: &'a str,
    numbers: [Option<u64>; 4],
}

impl Item<'_> {
    /// `None` if they cannot be compared.
    fn is_stricter(&self, other: &Self) -> Option<bool> {
        let ([q, w, r, t], [other_q, other_w, other_r, other_t]) = (self.numbers, other.numbers);
        if let (Some(ours), Some(theirs)) = (r, other_r) {
            return Some(ours < theirs || ours == theirs && t > other_t);
        }
        let (ours, theirs) = (q? as f64, other_q? as f64);
        Some(match (w, other_w) {
            // As rates: more in a longer time may be less.
            (Some(w), Some(other)) => ours * (other as f64) < theirs * (w as f64),
            _ => ours < theirs,
        })
    }
}

/// The items of a list of strings with parameters (RFC 9651, 4.2.1); `None` if it is none. The draft
/// knows no other items, and no parameters with dates or display strings.
fn items(text: &str) -> Option<Vec<Item<'_>>> {
    let mut parser = Parser { text, at: 0 };
    let mut items = Vec::new();
    parser.pass(b" ");
    while parser.next().is_some() {
        items.push(parser.item()?);
        parser.pass(b" \t");
        match parser.next() {
            None => break,
            Some(b',') => parser.at += 1,
            Some(_) => return None,
        }
        parser.pass(b" \t");
        // A list does not end in a comma.
        parser.next()?;
    }
    Some(items)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes on while the bytes are letters, digits or such: to where it was before.
    fn pass(&mut self, such: &[u8]) {
        let is_word = !such.starts_with(b" ");
        while self
            .next()
            .is_some_and(|byte| such.contains(&byte) || is_word && byte.is_ascii_alphanumeric())
        {
            self.at += 1;
        }
    }

    fn since(&self, start: usize) -> Option<&'a str> {
        self.text.get(start..self.at)
    }

    fn item(&mut self) -> Option<Item<'a>> {
        let start = self.at;
        self.string()?;
        let name = self.since(start)?;
        let mut numbers = [None; 4];
        while self.next() == Some(b';') {
            self.at += 1;
            self.pass(b" ");
            let key = self.word(b"_-.*")?;
            let mut value = "";
            if self.next() == Some(b'=') {
                self.at += 1;
                value = self.value()?;
            }
            let place = ["q", "w", "r", "t"].iter().position(|known| *known == key);
            if let Some(number) = place.and_then(|place| numbers.get_mut(place)) {
                *number = value.parse().ok();
            }
        }
        Some(Item { text: self.since(start)?, name, numbers })
    }

    fn value(&mut self) -> Option<&'a str> {
        match self.next()? {
            b'"' => self.string().map(|()| ""),
            // Bytes in base64, the one place for an equals sign.
            b':' => self.word(b":+/="),
            _ => self.word(b"!#$%&'*+-.^_`|~:/?"),
        }
    }

    /// At least one letter, digit or such.
    fn word(&mut self, such: &[u8]) -> Option<&'a str> {
        let start = self.at;
        self.pass(such);
        self.since(start).filter(|word| !word.is_empty())
    }

    fn string(&mut self) -> Option<()> {
        (self.next()? == b'"').then_some(())?;
        loop {
            self.at += 1;
            match self.next()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    matches!(self.next()?, b'"' | b'\\').then_some(())?;
                }
                b' '..=b'~' => {}
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = r#""per-client";r=12;t=1, "all";r=40;t=2"#;

    fn add(text: &str) -> Merge {
        Merge::Add(text.to_owned())
    }

    fn replace(text: &str) -> Merge {
        Merge::Replace(text.to_owned())
    }

    #[test]
    fn what_an_origin_says_of_other_policies_stays_and_ours_is_added() {
        for origin in [r#""daily";r=5"#, "", " ", r#""a\"b";r=1"#, r#""a";pk=:YQ==:;x=tok/en;y=?1"#]
        {
            assert_eq!(merge(origin, OURS), add(OURS), "{origin}");
        }
    }

    #[test]
    fn of_two_with_one_name_the_stricter_stays() {
        let origin = r#""daily";r=900,  "per-client";r=11;t=1"#;
        assert_eq!(merge(origin, OURS), add(r#""all";r=40;t=2"#), "theirs is");
        let origin = r#""per-client";r=13;x="a, b";t=9 , "daily";r=5"#;
        let merged = r#""per-client";r=12;t=1, "daily";r=5, "all";r=40;t=2"#;
        assert_eq!(merge(origin, OURS), replace(merged), "ours is");
        let both = r#""all";r=40;t=2, "per-client";r=12;t=5"#;
        assert_eq!(merge(both, OURS), Merge::Keep, "the later one is stricter");
        let sooner = r#""all";r=40;t=3, "per-client";r=12"#;
        assert_eq!(merge(sooner, OURS), replace(r#""all";r=40;t=3, "per-client";r=12;t=1"#));
    }

    #[test]
    fn policies_are_compared_as_rates() {
        let ours = r#""p";q=100;w=60"#;
        assert_eq!(merge(r#""p";q=10;w=1"#, ours), replace(ours), "600 in a minute");
        assert_eq!(merge(r#""p";q=1000;w=3600"#, ours), Merge::Keep);
        assert_eq!(merge(r#""p";q=99"#, ours), Merge::Keep);
        assert_eq!(merge(r#""p";q=101"#, ours), replace(ours));
        assert_eq!(merge(r#""p";w=1"#, ours), add(ours), "nothing to compare");
    }

    #[test]
    fn a_field_that_is_none_is_left_alone() {
        for origin in [
            "limit=100, remaining=5",
            "100;w=60",
            r#"("a");r=1"#,
            r#""a"#,
            r#""a";r=1,"#,
            r#""a" "b""#,
            ",",
            r#""a\b""#,
            "é",
            "\"é\"",
            r#""a";"#,
            r#""a";=1"#,
            r#""per-client";r="#,
            "\"a\u{7f}\"",
            r#""a"x"#,
        ] {
            assert_eq!(merge(origin, OURS), Merge::Keep, "{origin}");
        }
    }

    proptest! {
        #[test]
        fn any_field_is_merged_or_left_alone(origin in ".{0,60}") {
            let _ = merge(&origin, OURS);
        }

        #[test]
        fn any_near_field_is_merged_or_left_alone(
            origin in r#"("p"|a|\(|\)|;r=|;q=|[0-9]{1,3}|, |;t=|:|\?1|\\|"){0,14}"#
        ) {
            let _ = merge(&origin, OURS);
        }

        #[test]
        fn no_policy_looks_more_permissive_than_either_said(
            theirs in 0_u64..5, mine in 0_u64..5, t in 0_u64..3, reset in 0_u64..3,
        ) {
            let origin = format!("\"x\";r=9, \"p\";r={theirs};t={t}");
            let ours = format!("\"p\";r={mine};t={reset}");
            let merged = match merge(&origin, &ours) {
                Merge::Add(line) => format!("{origin}, {line}"),
                Merge::Replace(all) => all,
                Merge::Keep => origin,
            };
            let found = items(&merged).unwrap();
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(found[1].numbers[2], Some(theirs.min(mine)));
        }
    }
}
