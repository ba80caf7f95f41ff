//! The endpoints of a cluster, as a registry lists them.
//!
//! One worker of the process asks the registry, and writes here what it was told; all others read
//! it. What is only compared is kept as a hash: names of zones come from a registry, and may be of
//! any length.

use crate::key::fnv1a;
use crate::{DecodeError, Endpoint, Key, MAX_MEMBERS, Reader, Record, UnixNanos, Writer};

/// One endpoint, and what is known of it besides its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its address.
    pub endpoint: Endpoint,
    /// How much it can do compared with the others, at least 1.
    pub weight: u16,
    /// 0 is the first choice; the next number is for when too few of it are fit.
    pub priority: u8,
    /// [`zone_id`] of its zone; 0 if it has none.
    pub zone: u64,
    /// It belongs to the release that is being tried.
    pub is_canary: bool,
}

impl Listed {
    /// An endpoint of which nothing more is known.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, weight: 1, priority: 0, zone: 0, is_canary: false }
    }
}

/// Stands for a zone where zones are compared; 0 for none.
pub fn zone_id(zone: &str) -> u64 {
    if zone.is_empty() { 0 } else { fnv1a(zone.as_bytes()) | 1 }
}

/// A list of endpoints, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// When the registry said so.
    pub told_at: UnixNanos,
    /// The list.
    pub list: Vec<Listed>,
}

impl Listing {
    /// Where the list of `cluster` is kept.
    pub fn key(cluster: &str) -> Key<Self> {
        Key::new("router", &["listing", cluster])
    }
}

impl Record for Listing {
    const TAG: u8 = 11;

    fn write(&self, out: &mut Writer) {
        out.u64(self.told_at.as_nanos());
        out.list(&self.list, MAX_MEMBERS, |out, listed| {
            listed.endpoint.write(out);
            out.u16(listed.weight);
            out.u8(listed.priority);
            out.u64(listed.zone);
            out.u8(u8::from(listed.is_canary));
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let told_at = UnixNanos::from_nanos(input.u64()?);
        let list = input.list(MAX_MEMBERS, |input| {
            Ok(Listed {
                endpoint: Endpoint::read(input)?,
                weight: input.u16()?,
                priority: input.u8()?,
                zone: input.u64()?,
                is_canary: match input.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::Field),
                },
            })
        })?;
        let sound = list.is_sorted_by(|a, b| a.endpoint < b.endpoint)
            && list.iter().all(|listed| listed.weight > 0);
        if sound { Ok(Self { told_at, list }) } else { Err(DecodeError::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use proptest::prelude::*;

    fn listed(port: u16) -> Listed {
        Listed::new(format!("127.0.0.1:{port}").parse().unwrap())
    }

    #[test]
    fn a_list_out_of_order_or_without_weight_does_not_decode() {
        let weightless = Listed { weight: 0, ..listed(1) };
        for list in [vec![listed(2), listed(1)], vec![listed(1), listed(1)], vec![weightless]] {
            let wrong = Listing { told_at: UnixNanos::from_secs(1), list };
            assert_eq!(decode::<Listing>(&encode(&wrong)), Err(DecodeError::Field));
        }
    }

    #[test]
    fn no_zone_is_no_other_zone() {
        assert_eq!(zone_id(""), 0);
        assert_ne!(zone_id("a"), zone_id("b"));
        assert_ne!(zone_id("a"), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::btree_map(
            any::<u16>(), (1..=u16::MAX, any::<u8>(), any::<u64>(), any::<bool>()), 0..50,
        )) {
            let list = entries.into_iter().map(|(port, (weight, priority, zone, is_canary))| {
                Listed { weight, priority, zone, is_canary, ..listed(port) }
            });
            let listing = Listing { told_at: UnixNanos::from_secs(9), list: list.collect() };
            prop_assert_eq!(decode::<Listing>(&encode(&listing)), Ok(listing));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Listing>(&bytes);
        }
    }
}
