use super::super::wire::{Input, Value};
use super::*;
use crate::testing::Request;
use plugin_config::Parsed;

fn global(extra: &str) -> Global {
    let json = format!(
        r#"{{"cluster":"ratelimit","domain":"edge","descriptors":[
            {{"entries":[{{"key":"remote_address","from":"source.address"}}]}},
            {{"entries":[{{"key":"path","value":"/api"}},{{"key":"client","from":"header:x-client"}}]}}]
            {extra}}}"#
    );
    let Parsed { value, .. } =
        plugin_config::read(json.as_bytes(), |fields| Global::read(fields, None)).unwrap();
    value
}

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(100_000 + millis)
}

/// Descriptors as `key=value,key=value`, and the hits.
fn asked(question: &Question) -> (Vec<String>, u64) {
    let (mut descriptors, mut hits) = (Vec::new(), 0);
    let mut input = Input(question.message());
    while let Some(field) = input.field().unwrap() {
        match field {
            (1, Value::Bytes(domain)) => assert_eq!(domain, b"edge"),
            (2, Value::Bytes(descriptor)) => descriptors.push(entries(descriptor)),
            (3, Value::Number(number)) => hits = number,
            other => panic!("{other:?}"),
        }
    }
    (descriptors, hits)
}

fn entries(descriptor: &[u8]) -> String {
    let mut all = Vec::new();
    let mut input = Input(descriptor);
    while let Some((1, Value::Bytes(entry))) = input.field().unwrap() {
        let mut texts = Vec::new();
        let mut input = Input(entry);
        while let Some((_, Value::Bytes(text))) = input.field().unwrap() {
            texts.push(String::from_utf8(text.to_vec()).unwrap());
        }
        all.push(texts.join("="));
    }
    all.join(",")
}

fn begin(asker: &mut Asker, global: &Global, request: &Request, cost: u32, millis: u64) -> Begun {
    let prepared = asker.prepare(3, global, request).unwrap();
    asker.begin(prepared, global, cost, at(millis))
}

fn question(begun: Begun) -> Question {
    let Begun::Ask(question) = begun else { panic!("{begun:?}") };
    question
}

/// The service's message, as the limiter takes it.
fn end(asker: &mut Asker, asked: &mut Question, message: Option<&[u8]>, millis: u64) -> Ended {
    let answer = message.and_then(|message| Answer::decode(message).ok());
    let global = global(r#","batch":{"max":50}"#);
    asker.end(asked, &global, answer.as_ref(), at(millis))
}

fn answer(code: u64) -> Vec<u8> {
    let mut answer = Message::default();
    answer.number(1, code);
    answer.0
}

fn refused_for(seconds: u64) -> Vec<u8> {
    let (mut answer, mut status, mut rate, mut reset) =
        (Message::default(), Message::default(), Message::default(), Message::default());
    rate.number(1, 10);
    reset.number(1, seconds);
    status.number(1, 2);
    status.bytes(2, &rate.0);
    status.bytes(4, &reset.0);
    answer.number(1, 2);
    answer.bytes(2, &status.0);
    answer.0
}

#[test]
fn a_question_names_domain_descriptors_and_hits() {
    let (mut asker, global) = (Asker::new([1, 2]), global(""));
    let request = Request::default().with("x-client", "alice");
    let begun = begin(&mut asker, &global, &request, 3, 0);
    let descriptors = ["remote_address=10.0.0.1", "path=/api,client=alice"].map(str::to_owned);
    assert_eq!(asked(&question(begun)), (descriptors.to_vec(), 3));
}

#[test]
fn a_descriptor_without_a_value_is_left_out_and_without_any_nothing_is_asked() {
    let (mut asker, mut global) = (Asker::new([1, 2]), global(""));
    let begun = begin(&mut asker, &global, &Request::default(), 1, 0);
    assert_eq!(asked(&question(begun)).0, ["remote_address=10.0.0.1"]);
    global.descriptors.remove(0);
    assert_eq!(asker.prepare(3, &global, &Request::default()), None);
}

#[test]
fn a_long_value_is_cut_and_a_request_that_costs_nothing_asks_for_one() {
    let (mut asker, global) = (Asker::new([1, 2]), global(""));
    let request = Request::default().with("x-client", &"\u{e9}".repeat(1_000));
    let (descriptors, hits) = asked(&question(begin(&mut asker, &global, &request, 0, 0)));
    assert_eq!((descriptors[1].len(), hits), ("path=/api,client=".len() + 512, 1));
}

#[test]
fn what_the_service_grants_passes_and_what_it_refuses_is_remembered() {
    let (mut asker, global) = (Asker::new([1, 2]), global(""));
    let request = Request::default();
    let mut asked = question(begin(&mut asker, &global, &request, 1, 0));
    assert_eq!(end(&mut asker, &mut asked, Some(&answer(1)), 1), Ended::Granted);
    let mut asked = question(begin(&mut asker, &global, &request, 1, 2));
    let ended = end(&mut asker, &mut asked, Some(&refused_for(5)), 3);
    assert_eq!(ended, Ended::Refused(Some(Duration::from_secs(5))));
    let prepared = asker.prepare(3, &global, &request).unwrap();
    assert_eq!(asker.refusal(&prepared, 1, at(1_003)), Some(Duration::from_secs(4)));
    let elsewhere = asker.prepare(4, &global, &request).unwrap();
    assert_eq!(asker.refusal(&elsewhere, 1, at(1_003)), None, "another policy, another service");
}

#[test]
fn a_batch_that_is_refused_is_asked_again_for_the_request_alone() {
    let (mut asker, global) = (Asker::new([1, 2]), global(r#","batch":{"max":50}"#));
    let request = Request::default();
    let mut once = question(begin(&mut asker, &global, &request, 1, 0));
    end(&mut asker, &mut once, Some(&answer(1)), 0);
    let mut batch = question(begin(&mut asker, &global, &request, 1, 1));
    assert_eq!(asked(&batch).1, 2);
    assert_eq!(end(&mut asker, &mut batch, Some(&refused_for(5)), 2), Ended::Again);
    assert_eq!(asked(&batch).1, 1);
    assert_eq!(end(&mut asker, &mut batch, Some(&answer(2)), 3), Ended::Refused(None));
}

#[test]
fn a_batch_is_spent_without_a_question() {
    let (mut asker, global) = (Asker::new([1, 2]), global(r#","batch":{"max":50}"#));
    let request = Request::default();
    let mut questions = 0;
    for millis in 0..100 {
        if let Begun::Ask(mut asked) = begin(&mut asker, &global, &request, 1, millis) {
            questions += 1;
            end(&mut asker, &mut asked, Some(&answer(1)), millis);
        }
    }
    assert!(questions <= 8, "{questions}");
}

#[test]
fn a_service_that_fails_is_left_alone_and_then_tried_by_one() {
    let (mut asker, global) = (Asker::new([1, 2]), global(""));
    let request = Request::default();
    for reply in [None, Some(&b"garbage"[..]), None, Some(&answer(0)), None] {
        let mut asked = question(begin(&mut asker, &global, &request, 1, 0));
        assert_eq!(end(&mut asker, &mut asked, reply, 20), Ended::Failed);
    }
    assert_eq!(begin(&mut asker, &global, &request, 1, 21), Begun::Down);
    let mut trial = question(begin(&mut asker, &global, &request, 1, 1_021));
    assert_eq!(begin(&mut asker, &global, &request, 1, 1_022), Begun::Down, "one tries");
    end(&mut asker, &mut trial, Some(&answer(1)), 1_030);
    question(begin(&mut asker, &global, &request, 1, 1_031));
}
