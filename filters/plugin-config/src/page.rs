//! A module's page held against its reader.
//!
//! What a page says of fields is true only as long as somebody compares. The reader is the only
//! description of the format, and it notes what it asks for: so the comparison is of names, both
//! ways, over every example of the page and one document that uses everything.

use crate::{Fields, Problems, asked};
use std::collections::BTreeSet;

/// The README of a module, with the table of its fields under `## Fields`.
#[derive(Clone, Copy, Debug)]
pub struct Page<'p> {
    text: &'p str,
    /// What a name that begins with a dot is a field of.
    parent: &'p str,
}

impl<'p> Page<'p> {
    /// A page with this text. `parent` is what a listed name that begins with a dot continues.
    pub fn new(text: &'p str, parent: &'p str) -> Self {
        Self { text, parent }
    }

    /// All of it.
    pub fn text(&self) -> &'p str {
        self.text
    }

    /// Its blocks of JSON, in their order.
    pub fn examples(&self) -> Vec<&'p str> {
        let blocks = self.text.split("```json\n").skip(1);
        blocks.filter_map(|rest| rest.split("```").next()).collect()
    }

    /// What `read` refuses of the examples and `everything`, each with its problems.
    pub fn refused<T>(
        &self,
        everything: &str,
        read: impl Fn(&[u8]) -> Result<T, Problems>,
    ) -> Vec<String> {
        let documents = self.examples().into_iter().chain([everything]);
        let told = |document: &str| {
            read(document.as_bytes()).err().map(|problems| format!("{problems}\n{document}"))
        };
        documents.filter_map(told).collect()
    }

    /// Names in the first column of the table, without the brackets of lists.
    fn listed(&self) -> BTreeSet<String> {
        let table = self.text.split_once("\n## Fields\n").map_or("", |(_, rest)| rest);
        let rows = table.lines().take_while(|line| !line.starts_with('#'));
        let name = |row: &str| {
            let name = row.strip_prefix("| `")?.split('`').next()?.replace("[]", "");
            Some(if name.starts_with('.') { format!("{}{name}", self.parent) } else { name })
        };
        rows.filter_map(name).collect()
    }

    /// What the page lists and `config` does not ask for in the examples and in `everything`, and
    /// what it asks for and the page does not list; a line each. A part `<of a name>` that is listed
    /// stands for any. What has fields of its own is listed by them.
    pub fn differences<T>(
        &self,
        everything: &str,
        config: impl Fn(Fields<'_>) -> T,
    ) -> Vec<String> {
        let documents = self.examples().into_iter().chain([everything]);
        let read: BTreeSet<String> =
            documents.flat_map(|document| asked(document.as_bytes(), &config)).collect();
        let listed = self.listed();
        let is_read = |name: &&String| read.iter().any(|read| stands_for(name, read));
        let unread = listed.iter().filter(|name| !is_read(name));
        let unread = unread.map(|name| format!("listed, but not read: {name}"));
        let has_fields = |name: &str| {
            let inner = format!("{name}.");
            read.iter().any(|other| other.starts_with(&inner))
        };
        let is_listed = |name: &&String| listed.iter().any(|listed| stands_for(listed, name));
        let unlisted = read.iter().filter(|name| !is_listed(name) && !has_fields(name));
        let unlisted = unlisted.map(|name| format!("read, but not listed: {name}"));
        unread.chain(unlisted).collect()
    }
}

/// Whether a listed name is this one, or a pattern of it. A name that is anything may have dots.
fn stands_for(listed: &str, read: &str) -> bool {
    let Some((before, after)) = listed.split_once('<') else { return listed == read };
    let after = after.split_once('>').map_or("", |(_, after)| after);
    let rest = read.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    rest.is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Presence::Or;

    const PAGE: &str = "
## Fields

| field | effect |
|---|---|
| `a` | ... |
| `list[].b` | ... |
| `.c` | ... |
| `limits.<signal>` | ... |

## More

| `none` | ... |

```json
{\"list\": [{}]}
```
";

    fn config(mut fields: Fields<'_>) {
        fields.text("a", Or("x"));
        fields.each("list", |_, mut item| {
            item.text("b", Or("x"));
            item.text("c", Or("x"));
        });
        let mut limits = fields.object("limits");
        limits.text("rif", Or("x"));
    }

    #[test]
    fn a_page_that_lists_what_is_read_has_no_differences() {
        assert_eq!(Page::new(PAGE, "list").differences("{}", config), [""; 0]);
    }

    #[test]
    fn an_example_that_is_refused_is_told_with_its_problems() {
        let read = |document: &[u8]| crate::read(document, config);
        assert_eq!(Page::new(PAGE, "list").refused("{}", read), [""; 0]);
        let page = PAGE.replace("[{}]", "[{\"b\": 7}]");
        let told = Page::new(&page, "list").refused("{\"z\": 1}", read);
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told[0].starts_with("/list/0/b: ") && told[0].ends_with("}\n"), "{told:#?}");
        assert!(told[1].contains("unknown field") && told[1].ends_with("{\"z\": 1}"), "{told:#?}");
    }

    #[test]
    fn what_is_listed_or_read_alone_is_told() {
        let page = PAGE.replace("`a`", "`z`").replace(".<signal>", ".rps");
        let told = Page::new(&page, "list").differences("{}", config);
        let expected = [
            "listed, but not read: limits.rps",
            "listed, but not read: z",
            "read, but not listed: a",
            "read, but not listed: limits.rif",
        ];
        assert_eq!(told, expected);
    }
}
