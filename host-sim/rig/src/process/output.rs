//! What a child process writes: kept in bounded memory, and waited for without polling.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::sync::lock;

/// Lines kept: enough for the end of a debug log.
const MAX_LINES: usize = 2000;

/// Lines kept of a start, of which the one that is waited for may be followed by many.
const MAX_START_LINES: usize = 100_000;

/// Longest part of a line kept, in bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024;

/// Gets every line.
#[derive(Clone)]
pub(super) struct LineSink(pub(super) Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for LineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineSink")
    }
}

/// Both streams of a child, line by line in the order they were read. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<String>,
    most: usize,
    open_streams: usize,
}

impl Output {
    /// Reads the piped streams of `child` on two threads, which end with the streams.
    pub(super) fn of(child: &mut Child, sink: Option<LineSink>) -> Self {
        let stdout = child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>);
        let streams: Vec<_> = [stdout, stderr].into_iter().flatten().collect();
        let (lines, open_streams) = (VecDeque::new(), streams.len());
        let state = State { lines, most: MAX_START_LINES, open_streams };
        let output = Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }));
        for stream in streams {
            let (output, sink) = (output.clone(), sink.clone());
            thread::spawn(move || output.read(stream, sink.as_ref()));
        }
        output
    }

    /// The start is over: from now on the last lines are enough.
    pub(super) fn started(&self) {
        let mut state = lock(&self.0.state);
        state.most = MAX_LINES;
        let more = state.lines.len().saturating_sub(MAX_LINES);
        state.lines.drain(..more);
    }

    /// The lines kept, as text.
    pub(super) fn text(&self) -> String {
        lock(&self.0.state).lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// What `find` makes of each line.
    pub(super) fn find_all<T>(&self, find: impl Fn(&str) -> Option<T>) -> Vec<T> {
        lock(&self.0.state).lines.iter().filter_map(|line| find(line)).collect()
    }

    /// Waits until `look` finds something in the lines; gives up at the deadline, or when both
    /// streams have ended.
    pub(super) fn wait_for<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&VecDeque<String>) -> Option<T>,
    ) -> Option<T> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(found) = look(&state.lines) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open_streams == 0 {
                return None;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn read(&self, stream: Box<dyn Read + Send>, sink: Option<&LineSink>) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // A line longer than the bound goes on as the next.
        while let Ok(1..) = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if let Some(LineSink(sink)) = sink {
                sink(&text);
            }
            let mut state = lock(&self.0.state);
            if state.lines.len() >= state.most {
                state.lines.pop_front();
            }
            state.lines.push_back(text);
            self.0.changed.notify_all();
        }
        lock(&self.0.state).open_streams -= 1;
        self.0.changed.notify_all();
    }
}
