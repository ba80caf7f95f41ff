use super::*;
use crate::{Or, Required, read};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Colour {
    Red,
    Green,
}

impl Choice for Colour {
    const CHOICES: &'static [(&'static str, Self)] = &[("red", Self::Red), ("green", Self::Green)];
}

fn problems<T: core::fmt::Debug>(json: &str, config: fn(Fields<'_>) -> T) -> Vec<String> {
    let problems = read(json.as_bytes(), config).unwrap_err();
    problems.0.iter().map(ToString::to_string).collect()
}

#[test]
fn null_stands_for_an_absent_field() {
    let config = |mut fields: Fields<'_>| {
        (fields.integer("a", 1..=9_u8, Or(7)), fields.has("b"), fields.count("b"))
    };
    assert_eq!(read(br#"{"a":null,"b":null}"#, config).unwrap().value, (7, false, Some(0)));
}

#[test]
fn a_range_includes_both_ends_and_nothing_else() {
    let config = |mut fields: Fields<'_>| {
        (fields.integer("a", 1..=9_u8, Required), fields.number("b", 0.5..=2.25, Or(1.0)))
    };
    assert_eq!(read(br#"{"a":9,"b":0.5}"#, config).unwrap().value, (9, 0.5));
    assert_eq!(
        problems(r#"{"a":-1,"b":2.5}"#, config),
        ["/a: -1 is out of range: 1 to 9", "/b: 2.5 is out of range: 0.5 to 2.25"]
    );
    assert_eq!(
        problems(r#"{"a":1.5}"#, config),
        ["/a: expected a whole number, found a number with a fraction"]
    );
}

#[test]
fn a_list_names_the_place_of_each_bad_element() {
    let config = |mut fields: Fields<'_>| {
        let mut texts = Vec::new();
        fields.one_or_many("a/b", &["x"], &mut |text| {
            texts.push(text.to_owned());
            if text.is_empty() { Err("empty".to_owned()) } else { Ok(()) }
        });
        (texts, fields.choices("c", Or(&[Colour::Green])))
    };
    assert_eq!(read(b"{}", config).unwrap().value, (vec!["x".into()], vec![Colour::Green]));
    let one = read(br#"{"a/b":"y","c":["red","green"]}"#, config).unwrap().value;
    assert_eq!(one, (vec!["y".into()], vec![Colour::Red, Colour::Green]));
    assert_eq!(
        problems(r#"{"a/b":["x","",1],"c":["grean"]}"#, config),
        [
            "/a~1b/1: empty",
            "/a~1b/2: expected a text, found 1",
            "/c/0: 'grean' is not known: did you mean 'green'?",
        ]
    );
    assert_eq!(problems(r#"{"a/b":""}"#, config), ["/a~1b: empty"]);
}

#[test]
fn an_object_that_is_missing_is_told_once() {
    let config = |mut fields: Fields<'_>| {
        let mut object = fields.required_object("a");
        let value = object.integer("b", 1..=9_u8, Required);
        assert!(!object.is_clean());
        value
    };
    assert_eq!(problems("{}", config), ["/: missing field 'a': add it, it has no default"]);
    assert_eq!(problems(r#"{"a":[]}"#, config), ["/a: expected an object, found a list"]);
    assert_eq!(
        problems(r#"{"a":{}}"#, config),
        ["/a: missing field 'b': add it, it has no default"]
    );
}

#[test]
fn names_that_repeat_are_told_with_the_first() {
    let config = |mut fields: Fields<'_>| {
        fields.unique("list", "name");
        fields.each("list", |_, mut fields| fields.name("name", Or("")))
    };
    assert_eq!(
        problems(r#"{"list":[{"name":"a"},{},{"name":"a"},{"name":"A"}]}"#, config),
        [
            "/list/2/name: 'a' is taken by entry 0: rename one",
            "/list/3/name: 'A' is no usable name: 1 to 64 characters of a-z, 0-9, '_', '.', \
             '-'",
        ]
    );
}

#[test]
fn one_object_may_stand_for_a_list_of_one() {
    let config = |mut fields: Fields<'_>| {
        fields.each_or_one("list", |mut fields| fields.integer("a", 1..=9_u8, Or(7)))
    };
    let value = |json: &str| read(json.as_bytes(), config).unwrap().value;
    assert_eq!(value("{}"), [0_u8; 0]);
    assert_eq!(value(r#"{"list":{"a":3}}"#), [3]);
    assert_eq!(value(r#"{"list":[{"a":3},{}]}"#), [3, 7]);
    assert_eq!(problems(r#"{"list":{"a":30}}"#, config), ["/list/a: 30 is out of range: 1 to 9"]);
    assert_eq!(problems(r#"{"list":7}"#, config), ["/list: expected a list, found 7"]);
}
