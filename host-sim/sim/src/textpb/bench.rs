//! `benchmark: true`: what each callback costs, in instructions, which are the same on every
//! machine; with `num_additional_streams` while so many other streams are under way.

use super::plugin::{Plugin, direction, joined};
use super::suite::{Header, Invocation, Test};
use super::{Setup, chunk};
use bytes::Bytes;
use host_sim_engine::{ExchangeId, Worker};

/// How many of the other streams go on before each callback, if the suite does not say.
const ADVANCE_RATE: u64 = 3;

/// Something that happens to a stream.
#[derive(Clone, Debug)]
enum Action {
    Headers(bool, Vec<Header>),
    Data(bool, Vec<u8>, bool),
}

/// A line a callback; nothing if the plugin does not get through.
pub(super) fn notes(setup: &Setup<'_>, test: &Test) -> Vec<String> {
    measure(setup, test).unwrap_or_else(|error| vec![format!("benchmark: {error}")])
}

fn measure(setup: &Setup<'_>, test: &Test) -> Result<Vec<String>, String> {
    let actions = actions(setup, test)?;
    let mut plugin = Plugin::start(setup, test, true)?;
    let env = &setup.suite.env;
    let mut others: Vec<Other> = Vec::new();
    for _ in 0..env.num_additional_streams {
        others.push(Other { stream: plugin.open(test), next: 0 });
    }
    let rate = match env.additional_stream_advance_rate {
        0 => ADVANCE_RATE,
        rate => rate,
    };
    let (mut notes, mut turn) = (Vec::new(), 0);
    let stream = plugin.open(test);
    for action in &actions {
        for _ in 0..rate {
            if others.is_empty() {
                break;
            }
            // In turns: an even spread without chance.
            let at = turn % others.len();
            turn += 1;
            others[at].advance(&mut plugin, test, &actions);
        }
        let before = plugin.worker().fuel_consumed();
        action.perform(plugin.worker(), stream);
        let fuel = plugin.worker().fuel_consumed() - before;
        notes.push(format!("{}: {fuel} instructions", action.name()));
    }
    plugin.worker().end_bare(stream);
    if let Some(reason) = plugin.failure() {
        return Err(format!("the VM failed: {reason}"));
    }
    notes.push(format!("memory: {} bytes", plugin.worker().memory_bytes()));
    Ok(notes)
}

/// All that happens to a stream of the test.
fn actions(setup: &Setup<'_>, test: &Test) -> Result<Vec<Action>, String> {
    let mut actions = Vec::new();
    for request in [true, false] {
        let (headers, bodies) = if request {
            (&test.request_headers, &test.request_body)
        } else {
            (&test.response_headers, &test.response_body)
        };
        if let Some(Invocation { input, .. }) = headers {
            actions.push(Action::Headers(request, setup.headers(input, request)?));
        }
        for Invocation { input, .. } in bodies {
            let chunks = chunk(&setup.body(input)?, test.chunking);
            let last = chunks.len() - 1;
            let data = chunks.into_iter().enumerate();
            actions.extend(data.map(|(at, data)| Action::Data(request, data, at == last)));
        }
    }
    Ok(actions)
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Headers(true, _) => "request_headers",
            Self::Headers(false, _) => "response_headers",
            Self::Data(true, ..) => "request_body",
            Self::Data(false, ..) => "response_body",
        }
    }

    fn perform(&self, worker: &mut Worker, stream: ExchangeId) {
        match self {
            Self::Headers(request, headers) => {
                worker.bare_headers(stream, direction(*request), joined(headers));
            }
            Self::Data(request, data, end) => {
                let data = Bytes::copy_from_slice(data);
                worker.bare_data(stream, direction(*request), data, *end);
            }
        }
    }
}

/// Another stream, which does the same at its own pace, again and again.
struct Other {
    stream: ExchangeId,
    next: usize,
}

impl Other {
    fn advance(&mut self, plugin: &mut Plugin, test: &Test, actions: &[Action]) {
        match actions.get(self.next) {
            Some(action) => {
                action.perform(plugin.worker(), self.stream);
                self.next += 1;
            }
            None => {
                plugin.worker().end_bare(self.stream);
                *self = Self { stream: plugin.open(test), next: 0 };
            }
        }
    }
}
