//! Whoever knows the secret is told why a request went where it went.
//!
//! An explanation names endpoints, which are nobody's business outside, so it is given to requests
//! that carry the secret only. The secret is compared in a time that does not depend on where it
//! differs, is taken off the request, and is in no log: what is printed of it are asterisks.

use crate::{Pick, Steered};
use core::fmt;

/// When to explain, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugHeader {
    /// Whether anything is explained. Default no.
    pub enabled: bool,
    /// The request header that carries the secret. Default `x-filter-debug`.
    pub request_header: String,
    /// The response header that explains. Default `x-metric-router-pick`.
    pub response_header: String,
    /// What the request header must hold; at least 16 bytes.
    pub secret: Secret,
}

/// Text that is not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// True if `other` is the secret. Takes as long for every text of the same length.
    fn is(&self, other: &str) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), other.as_bytes());
        let differs = mine.iter().zip(theirs).fold(0, |differs, (a, b)| differs | (a ^ b));
        // The compiler must not end the loop at the first difference.
        core::hint::black_box(differs) == 0 && mine.len() == theirs.len()
    }
}

impl DebugHeader {
    /// True if a request with this value of the header is to be explained.
    pub fn asks(&self, value: &str) -> bool {
        self.enabled && !self.secret.0.is_empty() && self.secret.is(value)
    }

    /// The explanation of a pick, for a response header.
    pub fn explain(pick: &Pick) -> String {
        match pick {
            Pick::Steer(steered) => steered.explain(),
            Pick::Leave(_) => pick.to_string(),
        }
    }
}

impl Steered {
    fn explain(&self) -> String {
        use fmt::Write as _;
        let mut text = format!(
            "picked {} policy={} reason={} candidates={} considered={}",
            self.first,
            self.policy.name(),
            self.why.name(),
            self.candidates,
            self.considered
        );
        // Writing to a string cannot fail.
        if let Some(spare) = self.spare {
            let _ = write!(text, " spare={spare}");
        }
        text.push_str(" scores=");
        for (number, (endpoint, ranked)) in self.list.split(',').zip(&self.ranked).enumerate() {
            let comma = if number == 0 { "" } else { "," };
            // Three decimals, by integers: formatting floats brings tables.
            let milli = (ranked.score * 1000.0) as u64;
            let _ = write!(text, "{comma}{endpoint}={}.{:03}", milli / 1000, milli % 1000);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Ranked;
    use crate::{Policy, Reason, Why};
    use proptest::prelude::*;

    fn debug(enabled: bool) -> DebugHeader {
        let secret = Secret("0123456789abcdef".to_owned());
        DebugHeader { enabled, secret, ..DebugHeader::default() }
    }

    #[test]
    fn only_the_secret_is_the_secret_and_only_where_it_is_enabled() {
        assert!(debug(true).asks("0123456789abcdef"));
        for wrong in ["", "0", "0123456789abcdeF", "0123456789abcdef0", "0123456789abcde"] {
            assert!(!debug(true).asks(wrong), "{wrong}");
        }
        assert!(!debug(false).asks("0123456789abcdef"));
        assert!(!DebugHeader { enabled: true, ..DebugHeader::default() }.asks(""));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", debug(true)).contains("0123"));
    }

    #[test]
    fn a_pick_is_explained_with_its_scores() {
        let steered = Steered {
            part: crate::Part::default(),
            first: "10.0.0.1:80".parse().unwrap(),
            list: "10.0.0.1:80,10.0.0.2:80".to_owned(),
            candidates: 5,
            policy: Policy::LeastCost,
            why: Why::Cheapest,
            considered: 5,
            spare: None,
            says_spare: false,
            ranked: [1.25, 20.0].map(|score| Ranked { place: 0, score }).to_vec(),
        };
        assert_eq!(
            DebugHeader::explain(&Pick::Steer(steered)),
            "picked 10.0.0.1:80 policy=least_cost reason=cheapest candidates=5 considered=5 \
             scores=10.0.0.1:80=1.250,10.0.0.2:80=20.000"
        );
        let left = DebugHeader::explain(&Pick::Leave(Reason::Panic));
        assert_eq!(left, "unsteered reason=panic");
    }

    proptest! {
        #[test]
        fn no_other_text_is_the_secret(text in ".{0,20}") {
            prop_assert_eq!(debug(true).asks(&text), text == "0123456789abcdef");
        }
    }
}
