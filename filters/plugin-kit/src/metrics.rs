//! Counters, gauges and histograms with labels.
//!
//! The ABI knows names only. Labels are written before the name as `key=.=value;.;`, the encoding
//! of Istio's own plugins, which a `stats_tags` rule (in Istio an annotation) turns back into
//! labels. Envoy never forgets a metric, so values come from configuration and endpoint addresses
//! only, and a [`Family`] is bounded.

use crate::ffi;
use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use core::marker::PhantomData;
use std::rc::Rc;

/// Label sets of one family. What comes later is counted under [`OTHER`].
const MAX_LABEL_SETS: usize = 256;

/// Longest label value, in bytes.
const MAX_VALUE_BYTES: usize = 128;

/// The value that stands for all label sets beyond the bound.
const OTHER: &str = "other";

/// A kind of metric.
pub trait Metric {
    /// The ABI's number of this kind.
    #[doc(hidden)]
    const KIND: u32;

    #[doc(hidden)]
    fn of(handle: Rc<Handle>) -> Self;
}

/// A metric of any kind, not typed: what all kinds have in common is compiled once.
#[doc(hidden)]
#[derive(Debug)]
pub struct Handle {
    kind: u32,
    full_name: String,
    id: Cell<Option<Result<u32, u32>>>,
}

impl Handle {
    fn new(kind: u32, full_name: String) -> Rc<Self> {
        Rc::new(Self { kind, full_name, id: Cell::new(None) })
    }

    /// Defined at first use. A host that refuses once is not asked again.
    fn id(&self) -> Option<u32> {
        let id = self.id.get().unwrap_or_else(|| {
            let id = ffi::define_metric(self.kind, &self.full_name);
            self.id.set(Some(id));
            id
        });
        id.ok()
    }
}

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Rc<Handle>);

        impl $name {
            /// With these labels, in this order.
            pub fn new(name: &str, labels: &[(&str, &str)]) -> Self {
                Self(Handle::new($kind, encode(name, labels)))
            }
        }

        impl Metric for $name {
            const KIND: u32 = $kind;

            fn of(handle: Rc<Handle>) -> Self {
                Self(handle)
            }
        }
    };
}

metric!(
    /// Only grows. One value over all workers.
    Counter,
    0
);
metric!(
    /// Goes up and down. One value over all workers: whoever sets it last wins.
    Gauge,
    1
);
metric!(
    /// A distribution of whole numbers.
    Histogram,
    2
);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        // The host refuses an increment by nothing, and nothing defines no metric either.
        let Ok(count @ 1..) = i64::try_from(count) else { return };
        if let Some(id) = self.0.id() {
            let _ = ffi::increment_metric(id, count);
        }
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: u64) {
        if let Some(id) = self.0.id() {
            let _ = ffi::record_metric(id, value);
        }
    }

    /// Adds `change`. Below zero the host's gauges wrap: give back only what was added before.
    pub fn add(&self, change: i64) {
        if let Some(id) = self.0.id() {
            let _ = ffi::increment_metric(id, change);
        }
    }
}

impl Histogram {
    /// Adds a value to the distribution.
    pub fn record(&self, value: u64) {
        if let Some(id) = self.0.id() {
            let _ = ffi::record_metric(id, value);
        }
    }
}

/// Metrics of one name that differ in some labels.
#[derive(Debug)]
pub struct Family<M> {
    handles: Handles,
    metric: PhantomData<M>,
}

impl<M: Metric> Family<M> {
    /// With labels that are the same for all, and the names of those that differ.
    pub fn new(
        name: &'static str,
        fixed: &[(&'static str, &str)],
        varying: &'static [&'static str],
    ) -> Self {
        Self { handles: Handles::new(M::KIND, name, fixed, varying), metric: PhantomData }
    }

    /// The metric with these values of the differing labels.
    pub fn with(&self, values: &[&str]) -> M {
        M::of(self.handles.with(values))
    }
}

/// A family of any kind.
#[derive(Debug)]
struct Handles {
    kind: u32,
    name: &'static str,
    fixed: Vec<(&'static str, String)>,
    varying: &'static [&'static str],
    /// In order of values. A map would be three kilobytes in every module, for at most
    /// [`MAX_LABEL_SETS`] rows.
    members: RefCell<Vec<(Vec<String>, Rc<Handle>)>>,
}

impl Handles {
    fn new(
        kind: u32,
        name: &'static str,
        fixed: &[(&'static str, &str)],
        varying: &'static [&'static str],
    ) -> Self {
        let fixed = fixed.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        Self { kind, name, fixed, varying, members: RefCell::default() }
    }

    fn with(&self, values: &[&str]) -> Rc<Handle> {
        let Ok(mut members) = self.members.try_borrow_mut() else { return self.make(values) };
        let position = |members: &[(Vec<String>, Rc<Handle>)], values: &[&str]| {
            let order = |key: &[String]| key.iter().map(String::as_str).cmp(values.iter().copied());
            members.binary_search_by(|(key, _)| order(key))
        };
        let others: Vec<&str>;
        let (mut values, mut found) = (values, position(&members, values));
        if found.is_err() && members.len() >= MAX_LABEL_SETS {
            others = values.iter().map(|_| OTHER).collect();
            values = &others;
            found = position(&members, values);
        }
        match found {
            Ok(at) => members.get(at).map(|(_, member)| Rc::clone(member)),
            Err(at) => {
                let member = self.make(values);
                let key = values.iter().map(|value| (*value).to_owned()).collect();
                members.insert(at, (key, Rc::clone(&member)));
                Some(member)
            }
        }
        .unwrap_or_else(|| self.make(values))
    }

    fn make(&self, values: &[&str]) -> Rc<Handle> {
        let fixed = self.fixed.iter().map(|(label, value)| (*label, value.as_str()));
        let varying = self.varying.iter().copied().zip(values.iter().copied());
        let labels: Vec<_> = fixed.chain(varying).collect();
        Handle::new(self.kind, encode(self.name, &labels))
    }
}

fn encode(name: &str, labels: &[(&str, &str)]) -> String {
    let mut full = String::new();
    for (label, value) in labels {
        // Writing to a String cannot fail.
        let _ = write!(full, "{label}=.={};.;", sanitise(value));
    }
    full + name
}

/// Makes a value safe within the encoding, and within Istio's bootstrap, whose loose tag rules
/// take `cache.`, `component.`, `tag.` and `wasm_filter.` anywhere in a name for tags.
fn sanitise(value: &str) -> String {
    let mut clean: String = value
        .chars()
        .map(|c| if c.is_control() || matches!(c, ';' | '=' | '"' | '\\') { '_' } else { c })
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_VALUE_BYTES).then_some(c)
        })
        .collect();
    for word in ["cache.", "component.", "tag.", "wasm_filter."] {
        // By bytes: the search for a string in a string is two kilobytes.
        let is_word = |found: &[u8]| found == word.as_bytes();
        while let Some(at) = clean.as_bytes().windows(word.len()).position(is_word) {
            let end = at.saturating_add(word.len());
            clean.replace_range(end.saturating_sub(1)..end, "_");
        }
    }
    clean
}
