//! Labels of endpoints: what tells one release from another.
//!
//! A label is `name=value`, or a bare name. A registry gives them as metadata, or as tags, which are
//! texts of either form; an entry of the configuration gives them as an object.

/// A label that endpoints are looked up by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    name: String,
    /// Empty for a bare name.
    value: String,
}

impl Label {
    /// Reads `name=value` or `name`; `None` without a name.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = split(text);
        (!name.is_empty()).then(|| Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// True if this is the label. A bare name is any value's.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.name == name && (self.value.is_empty() || self.value == value)
    }

    /// True if this tag says so.
    pub fn is_tag(&self, tag: &str) -> bool {
        let (name, value) = split(tag);
        self.is(name, value)
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_name_and_perhaps_a_value() {
        let label = Label::parse("version=v2").unwrap();
        assert!(label.is("version", "v2") && label.is_tag("version=v2"));
        assert!(!label.is("version", "v1") && !label.is_tag("version") && !label.is_tag("v2"));
        let bare = Label::parse("canary").unwrap();
        assert!(bare.is("canary", "yes") && bare.is_tag("canary") && bare.is_tag("canary=1"));
        assert_eq!((Label::parse(""), Label::parse("=v2")), (None, None));
    }
}
