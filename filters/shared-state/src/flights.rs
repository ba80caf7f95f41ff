//! What each worker has in flight in a cluster, and how it gets on, as of a moment ago.
//!
//! A worker's report comes with a tick, and by then most of the requests that it counts are done. This
//! record is written and read between ticks, every few requests, so it is small: some bytes an
//! endpoint, in the order in which the cluster's endpoints are known, which all workers have from the
//! same place. A number that stands for that order tells apart those who know of another one.

use crate::key::fnv1a;
use crate::{
    DecodeError, Endpoint, Key, MAX_MEMBERS, MAX_WORKERS, Reader, Record, UnixNanos, Writer,
};

/// One worker's requests at one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// In flight now; more than 255 are 255.
    pub in_flight: u8,
    /// For how long the endpoint has worked on requests, in microseconds. A sum that begins again
    /// at 0 after its greatest value, so what counts is by how much it has grown.
    pub worked_us: u32,
    /// How many it has answered well in that time. A sum, too.
    pub answered: u16,
}

/// One worker's requests at all endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flights {
    /// Owner of the worker's slot.
    pub owner: u64,
    /// When this was written.
    pub written_at: UnixNanos,
    /// [`Flights::order`] of the endpoints.
    pub order: u64,
    /// How many requests an endpoint is taken to work on at once, which the sums rest on; 0 if that is
    /// not known.
    pub concurrency: u8,
    /// One entry an endpoint, in that order.
    pub endpoints: Vec<Progress>,
}

impl Flights {
    /// Stands for these endpoints in this order.
    pub fn order(endpoints: &[Endpoint]) -> u64 {
        let mut out = Writer::default();
        endpoints.iter().for_each(|endpoint| endpoint.write(&mut out));
        fnv1a(&out.into_bytes())
    }
}

/// What the workers of the process have in flight in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllFlights {
    /// One entry a worker.
    pub workers: Vec<Flights>,
}

impl AllFlights {
    /// Where those of `cluster` are kept.
    pub fn key(cluster: &str) -> Key<Self> {
        Key::new("router", &["flights", cluster])
    }
}

impl Record for AllFlights {
    const TAG: u8 = 12;

    fn write(&self, out: &mut Writer) {
        out.list(&self.workers, MAX_WORKERS, |out, worker| {
            out.u64(worker.owner);
            out.u64(worker.written_at.as_nanos());
            out.u64(worker.order);
            out.u8(worker.concurrency);
            out.pieces(&worker.endpoints, MAX_MEMBERS, |progress| {
                let [w0, w1, w2, w3] = progress.worked_us.to_le_bytes();
                let [a0, a1] = progress.answered.to_le_bytes();
                [progress.in_flight, w0, w1, w2, w3, a0, a1]
            });
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let workers = input.list(MAX_WORKERS, |input| {
            Ok(Flights {
                owner: input.u64()?,
                written_at: UnixNanos::from_nanos(input.u64()?),
                order: input.u64()?,
                concurrency: input.u8()?,
                endpoints: input.pieces(MAX_MEMBERS, |&[in_flight, w0, w1, w2, w3, a0, a1]| {
                    let worked_us = u32::from_le_bytes([w0, w1, w2, w3]);
                    Progress { in_flight, worked_us, answered: u16::from_le_bytes([a0, a1]) }
                })?,
            })
        })?;
        Ok(Self { workers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use proptest::prelude::*;

    #[test]
    fn another_endpoint_or_another_order_is_told_apart() {
        let [one, two] = ["127.0.0.1:1", "[::1]:2"].map(|text| text.parse::<Endpoint>().unwrap());
        let orders = [[one, two], [two, one], [one, one]].map(|list| Flights::order(&list));
        assert!(orders[0] != orders[1] && orders[0] != orders[2]);
        assert_eq!(orders[0], Flights::order(&[one, two]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(workers in proptest::collection::vec((
            any::<u64>(), any::<u64>(), any::<u8>(),
            proptest::collection::vec((any::<u8>(), any::<u32>(), any::<u16>()), 0..30),
        ), 0..5)) {
            let worker = |(owner, order, concurrency, list): (u64, u64, u8, Vec<(u8, u32, u16)>)| Flights {
                owner,
                written_at: UnixNanos::from_secs(9),
                order,
                concurrency,
                endpoints: (list.into_iter())
                    .map(|(in_flight, worked_us, answered)| Progress { in_flight, worked_us, answered })
                    .collect(),
            };
            let all = AllFlights { workers: workers.into_iter().map(worker).collect() };
            prop_assert_eq!(decode::<AllFlights>(&encode(&all)), Ok(all));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<AllFlights>(&bytes);
        }
    }
}
