//! How a pick reaches the proxy.
//!
//! | mechanism | what is written | who reads it | a retry goes to |
//! |---|---|---|---|
//! | `override_host` | a header, `ip:port,ip:port` | the cluster's `override_host` policy | the next of the list |
//! | `stateful_session` | a header, `ip:port` in base64 | the filter `stateful_session` behind this one | the cluster's policy |
//! | `original_dst` | filter state, `ip:port` | a cluster of type ORIGINAL_DST | the same endpoint |
//! | `advisory` | a header, as `override_host` | whoever wants to know | the cluster's policy |
//!
//! `override_host` is the default because it alone has an answer for the second attempt. The others
//! are for clusters whose policy cannot be changed: a session is kept by a filter, and an
//! ORIGINAL_DST cluster has no policy at all, so that whatever is not steered there fails.

use crate::{Steered, base64};
use std::borrow::Cow;

/// How a pick reaches the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// A list in a header, for the cluster's `override_host` policy.
    #[default]
    OverrideHost,
    /// An address in a header, for the filter `stateful_session` with a session in that header.
    StatefulSession,
    /// An address in filter state, for a cluster of type ORIGINAL_DST.
    OriginalDst,
    /// A list in a header that nothing obeys.
    Advisory,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::OverrideHost, Self::StatefulSession, Self::OriginalDst, Self::Advisory];

    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverrideHost => "override_host",
            Self::StatefulSession => "stateful_session",
            Self::OriginalDst => "original_dst",
            Self::Advisory => "advisory",
        }
    }

    /// True if requests go where a pick says.
    pub const fn steers(self) -> bool {
        !matches!(self, Self::Advisory)
    }

    /// True if a pick can name more than one endpoint.
    pub const fn lists(self) -> bool {
        matches!(self, Self::OverrideHost | Self::Advisory)
    }

    /// True if a request that is not steered fails, because the cluster has no policy of its own.
    pub const fn must_steer(self) -> bool {
        matches!(self, Self::OriginalDst)
    }

    /// True if the pick travels in the steering header, which clients must not be able to send.
    pub const fn uses_header(self) -> bool {
        !matches!(self, Self::OriginalDst)
    }

    /// What is written.
    pub fn value(self, steered: &Steered) -> Cow<'_, str> {
        match self {
            Self::OverrideHost | Self::OriginalDst | Self::Advisory => Cow::Borrowed(&steered.list),
            Self::StatefulSession => Cow::Owned(base64::encode(steered.list.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn steered(list: &str) -> Steered {
        let first = list.split(',').next().unwrap().parse().unwrap();
        let policy = Policy::LeastCost;
        let why = crate::Why::Cheapest;
        Steered {
            first,
            list: list.to_owned(),
            candidates: 2,
            policy,
            part: crate::Part::default(),
            why,
            considered: 2,
            spare: None,
            says_spare: false,
            ranked: Vec::new(),
        }
    }

    #[test]
    fn a_session_is_the_address_in_base64() {
        let steered = steered("1.2.3.4:80");
        assert_eq!(Mechanism::StatefulSession.value(&steered), "MS4yLjMuNDo4MA==");
    }

    #[test]
    fn a_list_is_written_as_it_is() {
        for mechanism in [Mechanism::OverrideHost, Mechanism::Advisory] {
            assert!(mechanism.lists());
            assert_eq!(mechanism.value(&steered("[::1]:80,[::1]:81")), "[::1]:80,[::1]:81");
        }
    }

    #[test]
    fn only_a_cluster_without_a_policy_must_be_steered_and_only_advice_is_not_followed() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.must_steer(), mechanism == Mechanism::OriginalDst);
            assert_eq!(mechanism.steers(), mechanism != Mechanism::Advisory);
        }
    }
}
