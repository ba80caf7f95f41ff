//! Files that cannot be run: every problem at its place.

use crate::{Folder, tells};
use host_sim::Format;

fn told(file: &str, contents: &str) -> String {
    let report = Folder::with([]).run(file, contents);
    assert_eq!(report.exit_code(), 2);
    report.render(Format::Text)
}

#[test]
fn names_that_do_not_exist_are_told_with_line_and_column() {
    let text = told(
        "scenario.yaml",
        "scenario: x
suite:
  filters:
  - {module: missing.wasm, denied_capabilities: [proxy_sing]}
endpoints:
  127.0.0.1:9001: {answer: {body: {file: no-such-file}}}
steps:
- send: {name: first}
- expect: {reply: {of: frist}}
- expect: {reply: {status: 200}, metrics: {'x{': 1}, log_count: {'(': 1}}
  faults: [{hostcall: proxy_log}, {trap: proxy_on_log, answer: ok}, {}]
",
    );
    tells(
        &text,
        &[
            "line 4 column 14: no module",
            "line 4 column 49: denied_capabilities: no capability is called 'proxy_sing'",
            "line 6 column 19: ",
            "no-such-file",
            "line 9 column 24: no step before has `send: {name: frist}`, did you mean 'first'?",
            "line 10 column 19: this step sends nothing",
            "x{: write name",
            "no regular expression",
            "line 11 column 12: `hostcall` needs an `answer`",
            "line 11 column 35: `trap` takes no `answer`",
            "line 11 column 69: a fault needs one of `hostcall` and `trap`",
        ],
    );
}

#[test]
fn a_fault_of_the_syntax_has_its_place() {
    let text = told("scenario.yaml", "scenario: x\nsteps: [\n");
    assert!(text.contains("line 3") && text.contains("no YAML"), "{text}");
}

#[test]
fn a_suite_with_faults_tells_them_all() {
    let text = told("suite.textpb", "env { wasm_pth: 'x' }\ntest { name: 'a' benchmrk: true }\n");
    tells(
        &text,
        &[
            "line 1 column 7: unknown field 'wasm_pth', did you mean 'wasm_path'?",
            "line 2 column 18: unknown field 'benchmrk', did you mean 'benchmark'?",
        ],
    );
    let text = told("suite.textpb", "test { name: 'a' }");
    tells(&text, &["the suite names no `wasm_path`: say --plugin FILE"]);
    let text = told("suite.textpb", "env { wasm_path: 'none.wasm' } test { name: 'a' }");
    tells(&text, &["no module", "none.wasm"]);
    let text = told("suite.textpb", "env { wasm_path: 'none.wasm' }");
    tells(&text, &["the suite has no test"]);
}
