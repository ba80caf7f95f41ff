//! Response flags: Envoy's one-word reasons why a response is not the upstream's.

use std::fmt;
use std::ops::BitOrAssign;

/// A set of response flags, in the bits of Envoy's legacy `response.flags` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $short:literal;)+) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: Self = Self($bit);)+

            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, $short),)+];
        }
    };
}

// In the order access logs write them. Envoy writes them in the order they were set, and whether to
// retry is decided before the attempt's own flag is set.
flags! {
    /// Every retry is used up.
    RETRY_LIMIT_EXCEEDED = 0x8000, "URX";
    /// A circuit-breaker threshold was reached.
    UPSTREAM_OVERFLOW = 0x80, "UO";
    /// No healthy upstream.
    NO_HEALTHY_UPSTREAM = 0x2, "UH";
    /// The upstream did not answer in time.
    UPSTREAM_TIMEOUT = 0x4, "UT";
    /// We reset the upstream stream.
    LOCAL_RESET = 0x8, "LR";
    /// The upstream reset the stream.
    UPSTREAM_REMOTE_RESET = 0x10, "UR";
    /// No connection to the upstream.
    UPSTREAM_CONNECTION_FAILURE = 0x20, "UF";
    /// The upstream closed the connection.
    UPSTREAM_CONNECTION_TERMINATION = 0x40, "UC";
    /// No route matched.
    NO_ROUTE = 0x100, "NR";
    /// Limited by `local_ratelimit`.
    RATE_LIMITED = 0x800, "RL";
    /// The client went away.
    DOWNSTREAM_DISCONNECT = 0x4000, "DC";
    /// Nothing moved for `stream_idle_timeout`.
    STREAM_IDLE_TIMEOUT = 0x1_0000, "SI";
    /// The client does not speak HTTP as it should.
    DOWNSTREAM_PROTOCOL_ERROR = 0x4_0000, "DPE";
    /// The upstream does not speak HTTP as it should.
    UPSTREAM_PROTOCOL_ERROR = 0x80_0000, "UPE";
    /// The route names a cluster that does not exist.
    NO_CLUSTER = 0x100_0000, "NC";
    /// No configuration of a filter has been discovered yet.
    NO_FILTER_CONFIG_FOUND = 0x400_0000, "NFCF";
}

impl ResponseFlags {
    /// The number the `response.flags` attribute shows.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

/// As `%RESPONSE_FLAGS%` writes it: `UF,URX`, or `-`.
impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).peekable();
        if names.peek().is_none() {
            return f.write_str("-");
        }
        while let Some((_, name)) = names.next() {
            f.write_str(name)?;
            if names.peek().is_some() {
                f.write_str(",")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_last_retry_shows_as_envoy_shows_it() {
        let mut flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        flags |= ResponseFlags::RETRY_LIMIT_EXCEEDED;
        assert_eq!((flags.bits(), flags.to_string().as_str()), (32800, "URX,UF"));
    }

    #[test]
    fn no_flag_is_a_dash() {
        assert_eq!(ResponseFlags::default().to_string(), "-");
    }
}
