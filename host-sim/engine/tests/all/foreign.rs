//! Foreign functions: results and statuses as Envoy 1.40 gives them.

use crate::rig::{Plugin, Rig, Setup};

/// Calls a foreign function and logs status, length and result.
fn call(name: &str, args: &[u8]) -> String {
    let args: String = args.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        "(i32.store (i32.const 4096) (i32.const 7)) (i32.store (i32.const 4100) (i32.const 7)) \
         (call $say (call $foreign {{{name}}} {} (i32.const 4096) (i32.const 4100))) \
         (call $say (i32.load (i32.const 4100))) (call $say_value)",
        raw(&args)
    )
}

/// Bytes that need not be UTF-8 go by way of memory at 30000.
fn raw(escaped: &str) -> String {
    let bytes: Vec<u8> =
        escaped.split('\\').skip(1).map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
    let stores: String = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", 30_000 + at))
        .collect();
    format!("(block (result i32) {stores} (i32.const 30000)) (i32.const {})", bytes.len())
}

/// A plugin that does something in on_configure and in on_request_headers.
fn plugin(configure: &str, request: &str) -> Plugin {
    let body = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
          {configure} (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          {request} (i32.const 0))"#
    );
    Plugin::new("p", &body)
}

fn log(rig: &Rig) -> Vec<String> {
    rig.log().iter().map(|line| line.strip_prefix("p: ").unwrap_or(line).to_owned()).collect()
}

/// What is logged during a request for `/a?b`.
fn said(configure: &str, request: &str) -> Vec<String> {
    let mut rig = Setup::of([plugin(configure, request)]).start();
    log(&rig);
    rig.get("/a?b");
    log(&rig)
}

/// A protobuf message of strings (field number, text) and numbers.
fn message(texts: &[(u8, &[u8])], numbers: &[(u8, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, text) in texts {
        out.push((number << 3) | 2);
        let mut len = text.len();
        while len >= 0x80 {
            out.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        out.push(u8::try_from(len).unwrap());
        out.extend_from_slice(text);
    }
    for (number, value) in numbers {
        out.extend_from_slice(&[number << 3, *value]);
    }
    out
}

/// Reads a property and logs status and value.
fn property(path: &str) -> String {
    let path = path.replace('.', "\0");
    format!(
        "(i32.store (i32.const 4100) (i32.const 0)) \
         (call $say (call $property {{{path}}} (i32.const 4096) (i32.const 4100))) \
         (call $say_value)"
    )
}

fn set_property(path: &str, value: &str) -> String {
    format!("(call $say (call $set_property {{{path}}} {{{value}}}))")
}

#[test]
fn an_unknown_function_is_not_found_and_touches_nothing() {
    let request = "(i32.store (i32.const 4100) (i32.const 7))
        (call $say (call $foreign {nope} {} (i32.const 4096) (i32.const 4100)))
        (call $say (i32.load (i32.const 4100)))
        (call $say (call $foreign {compress} {x} (i32.const 0) (i32.const 0)))
        (call $say (call $foreign (i32.const -1) (i32.const 9) {} (i32.const 0) (i32.const 0)))";
    assert_eq!(said("", request), ["1", "7", "0", "6"]);
}

#[test]
fn what_was_compressed_can_be_uncompressed_and_other_bytes_cannot() {
    const HELLO: [u8; 13] =
        [0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15];
    let with_more = [&HELLO[..], b"more"].concat();
    let request = [
        "(call $say (call $foreign {compress} {hello} (i32.const 4096) (i32.const 4100)))
         (call $say (i32.load (i32.const 4100)))",
        &call("uncompress", &HELLO),
        &call("uncompress", &with_more),
        &call("uncompress", b"junk"),
        &call("uncompress", b""),
        &call("uncompress", &HELLO[..9]),
    ]
    .concat();
    let expected =
        ["0", "13", "0", "5", "hello", "0", "5", "hello", "3", "0", "", "3", "0", "", "3", "0", ""];
    assert_eq!(said("", &request), expected);
}

#[test]
fn envoys_objects_are_set_under_envoys_names_and_only_on_streams() {
    let set = |name: &str, value: &str| {
        call(
            "set_envoy_filter_state",
            &message(&[(1, name.as_bytes()), (2, value.as_bytes())], &[]),
        )
    };
    let key = "envoy.network.transport_socket.original_dst_address";
    // Segments are joined with NUL, so the key's dots must stay.
    let read = |rest: &str| {
        property(&format!("filter_state.{}{rest}", key.replace('.', "\u{1}"))).replace('\u{1}', ".")
    };
    let request = set("my.key", "x")
        + &set("envoy.bool", "maybe")
        + &set(key, "1.2.3.4:80")
        + &read("")
        + &read(".ip")
        + &call("set_envoy_filter_state", &[0xff])
        + &call("set_envoy_filter_state", b"");
    let expected = [
        "1", "0", "", "2", "0", "", "0", "0", "", "0", "\0\0\0\0", "0", "1.2.3.4", "2", "0", "",
        "1", "0", "",
    ];
    assert_eq!(said("", &request), expected);
    let mut rig = Setup::of([plugin(&(set(key, "1.2.3.4:80") + &set("my.key", "x")), "")]).start();
    assert_eq!(log(&rig), ["1", "0", "", "1", "0", ""]);
    rig.get("/");
}

#[test]
fn a_declared_property_has_its_type_and_is_perhaps_written_once() {
    const SCHEMA: &[u8] = b"type.googleapis.com/google.protobuf.StringValue";
    let declare = |texts: &[(u8, &[u8])], numbers: &[(u8, u8)]| {
        call("declare_property", &message(texts, numbers))
    };
    let configure = declare(&[(1, b"text")], &[(3, 1)])
        + &declare(&[(1, b"once")], &[(2, 1)])
        + &declare(&[(1, b"proto"), (4, SCHEMA)], &[(3, 3)])
        + &declare(&[(1, b"text")], &[])
        + &call("declare_property", &[0xff]);
    let plugin = plugin(
        &configure,
        &[
            set_property("once", "a"),
            set_property("once", "b"),
            property("once"),
            set_property("proto", "\n\u{2}hi"),
            property("proto"),
            property("proto.value"),
            property("filter_state.wasm\u{1}proto").replace('\u{1}', "."),
            set_property("text", "t"),
            property("text"),
            property("text.x"),
        ]
        .concat(),
    );
    let mut rig = Setup::of([plugin]).start();
    let expected = ["0", "0", "", "0", "0", "", "0", "0", "", "2", "0", "", "2", "0", ""];
    assert_eq!(log(&rig), expected);
    rig.get("/");
    let expected =
        ["0", "2", "0", "a", "0", "0", "\n\u{2}hi", "1", "", "0", "hi", "0", "0", "t", "1", ""];
    assert_eq!(log(&rig), expected);
}

#[test]
fn what_a_stream_declares_counts_for_nothing_but_cannot_be_declared_again() {
    let declare = call("declare_property", &message(&[(1, b"x")], &[(2, 1)]));
    let request = [&declare, &declare, &set_property("x", "1"), &set_property("x", "2")]
        .map(String::as_str)
        .concat();
    assert_eq!(said("", &request), ["0", "0", "", "2", "0", "", "0", "0"]);
}

#[test]
fn a_property_of_the_connection_is_there_for_its_next_request() {
    let declare = call("declare_property", &message(&[(1, b"kept")], &[(5, 2)]));
    let request = [&property("kept"), &set_property("kept", "yes"), &set_property("lost", "yes")]
        .map(String::as_str)
        .concat();
    let mut rig = Setup::of([plugin(&declare, &(request + &property("lost")))]).start();
    log(&rig);
    rig.get("/");
    assert_eq!(log(&rig), ["1", "", "0", "0", "0", "yes"]);
    let again = rig.get("/");
    assert_eq!(log(&rig)[..2], ["0", "yes"]);
    rig.worker.downstream_reset(again);
    rig.worker.connection_closed(1);
    rig.get("/");
    assert_eq!(log(&rig)[..2], ["1", ""]);
}

#[test]
fn expressions_have_tokens_and_are_evaluated_over_the_attributes() {
    let evaluate = |token: u8| call("expr_evaluate", &[token, 0, 0, 0]);
    let create = |text: &str| {
        format!(
            "(call $say (call $foreign {{expr_create}} {{{text}}} (i32.const 4096) \
             (i32.const 4100))) (call $say (i32.load (i32.load (i32.const 4096))))"
        )
    };
    let request = create("request.path + plugin_name")
        + &create("1 + 2")
        + &evaluate(0)
        + &call("expr_delete", &[0, 0, 0, 0])
        + &evaluate(0)
        + &call("expr_delete", &[0, 0, 0, 0])
        + &create("request.nope")
        + &evaluate(2)
        + &create("null")
        + &evaluate(3)
        + &call("expr_create", b"1 +")
        + &call("expr_create", b"nope(1)")
        + &call("expr_evaluate", b"ab")
        + &call("expr_delete", b"ab");
    let expected = [
        "0", "0", "0", "1", "0", "5", "/a?bp", "0", "0", "", "1", "0", "", "0", "0", "", "0", "2",
        "10", "0", "", "0", "3", "3", "0", "", "2", "0", "", "2", "0", "", "2", "0", "", "2", "0",
        "",
    ];
    assert_eq!(said("", &request), expected);
}

#[test]
fn an_expression_sees_the_callbacks_context_whatever_is_effective() {
    let request = "(drop (call $foreign {expr_create} {request.method} (i32.const 4096)
          (i32.const 4100)))
        (call $say (call $effective (i32.const 1)))"
        .to_owned()
        + &call("expr_evaluate", &[0; 4])
        + &property("request.method");
    assert_eq!(said("", &request), ["0", "0", "3", "GET", "1", ""]);
}

#[test]
fn clearing_the_route_cache_always_works() {
    let mut rig = Setup::of([plugin(&call("clear_route_cache", b""), "")]).start();
    assert_eq!(log(&rig), ["0", "0", ""]);
    rig.get("/");
}

/// A key of P-256 for tests: PKCS #8 and `SubjectPublicKeyInfo`.
fn key() -> (Vec<u8>, Vec<u8>) {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let head: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    (pkcs8.as_ref().to_vec(), [head, pair.public_key().as_ref()].concat())
}

#[test]
fn a_signature_that_was_made_here_verifies_and_another_does_not() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let (private, public) = key();
    let random = ring::rand::SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &private, &random).unwrap();
    let signature = pair.sign(&random, b"hello").unwrap();
    let verify = |hash: &[u8], key: &[u8], signature: &[u8]| {
        let fields: [(u8, &[u8]); 4] = [(1, hash), (2, key), (3, signature), (4, b"hello")];
        call("verify_signature", &message(&fields, &[]))
    };
    let request = verify(b"SHA256", &public, signature.as_ref())
        + &verify(b"sha256", &public, b"x")
        + &verify(b"md5", &public, b"x")
        + &verify(b"sha256", b"junk", b"x")
        + &verify(b"sha256", b"", b"x");
    let expected = [
        "0",
        "2",
        "\u{8}\u{1}",
        "0",
        "40",
        "\u{12}&Failed to verify digest. Error code: 0",
        "0",
        "23",
        "\u{12}\u{15}md5 is not supported.",
        "0",
        "37",
        "\u{12}#Failed to initialize digest verify.",
        "2",
        "0",
        "",
    ];
    assert_eq!(said("", &request), expected);
    // Status, and the length: the result, a signature of about 70 bytes and their heads.
    let fields: [(u8, &[u8]); 3] = [(1, b"sha256"), (2, &private), (3, b"hello")];
    let request = "(call $say (call $foreign {sign} ".to_owned()
        + &raw(&message(&fields, &[]).iter().map(|b| format!("\\{b:02x}")).collect::<String>())
        + " (i32.const 4096) (i32.const 4100)))
          (call $say (i32.gt_u (i32.load (i32.const 4100)) (i32.const 66)))"
        + &call("sign", &message(&[(1, b"sha256"), (2, b"junk")], &[]));
    let error = "\u{1a}=Invalid key type: private key required for signing operation.";
    assert_eq!(said("", &request), ["0", "1", "0", "63", error]);
}
