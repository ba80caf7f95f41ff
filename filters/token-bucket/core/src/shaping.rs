//! Requests that wait for their token instead of being refused.
//!
//! A bucket that shapes gives tokens that are not there yet: the request is charged now and is
//! *held* until the moment at which the bucket would have admitted it, if that is no further than
//! `max_wait` away. Seen from behind the limiter nothing changes, since each request goes on when
//! its token exists; seen from the client a burst is slow and not refused.
//!
//! **Order.** Reservations are made one after the other on the bucket's one number, so each is due
//! after the one before it, whichever worker made it. Each worker lets its own go in order of due
//! time, and in order of arrival where that is equal; before it looks at a new request it lets go
//! what is due, so that no newcomer overtakes a request which only waits for the next tick.
//!
//! **Leaving.** Who ends while it is held leaves its turn to the next with the same tokens, that one
//! its own to the one behind it, and so on; what is given back is the last turn, on which nobody has
//! built. To give back the one in the middle would leave a gap that nobody could use, because a
//! bucket is one number and says nothing of gaps. That holds among the requests of one worker; behind
//! the last of them another worker's may have built, and then a gap is what is left.
//!
//! **Bounded.** A worker holds at most so many requests; what is beyond is refused. A held request
//! costs the proxy a stream, its buffered headers and no work.
//!
//! **Clock.** Nothing is let go early. A request whose due time lies further ahead than any wait
//! was reserved before the clock stepped back, and is let go at once: its token was paid for.

use crate::Admission;
use core::time::Duration;
use shared_state::{CLOCK_TOLERANCE, UnixNanos};

/// One request that waits.
#[derive(Debug, PartialEq)]
struct Held {
    due: UnixNanos,
    stream: u32,
    admission: Admission,
}

/// The requests that one worker holds.
#[derive(Debug)]
pub struct Queue {
    /// The last one due first; of those due together, the last one that came.
    held: Vec<Held>,
    /// Most requests.
    most: usize,
    /// Longest wait.
    longest: Duration,
}

impl Queue {
    /// For at most `most` requests, none of which waits for longer than `longest`.
    pub fn new(most: usize, longest: Duration) -> Self {
        Self { held: Vec::new(), most, longest }
    }

    /// True if no more can be held.
    pub fn is_full(&self) -> bool {
        self.held.len() >= self.most
    }

    /// Holds a stream until `due`, with what it holds itself. The error gives that back, if the queue
    /// is full.
    pub fn push(
        &mut self,
        due: UnixNanos,
        stream: u32,
        admission: Admission,
    ) -> Result<(), Admission> {
        if self.is_full() {
            return Err(admission);
        }
        let at = self.held.partition_point(|held| held.due > due);
        self.held.insert(at, Held { due, stream, admission });
        Ok(())
    }

    /// Forgets a stream that has ended, and lets those behind it move up. Gives what is not needed
    /// any more; `None` if the stream was not held.
    pub fn cancel(&mut self, stream: u32) -> Option<Admission> {
        let mut freed = self.held.iter().position(|held| held.stream == stream)?;
        // From its place towards the last one due.
        for at in (0..freed).rev() {
            let (Some(next), Some(free)) = (self.held.get(at), self.held.get(freed)) else { break };
            if next.admission.is_like(&free.admission) {
                let moved = next.stream;
                if let Some(free) = self.held.get_mut(freed) {
                    free.stream = moved;
                }
                freed = at;
            }
        }
        Some(self.held.remove(freed).admission)
    }

    /// Takes the next stream that is due, and what it holds.
    pub fn pop_due(&mut self, now: UnixNanos) -> Option<(u32, Admission)> {
        let given = |held: Held| (held.stream, held.admission);
        if self.held.last()?.due <= now {
            return self.held.pop().map(given);
        }
        let longest = self.longest.saturating_add(CLOCK_TOLERANCE);
        let stale = self.held.first()?.due.is_stale_deadline(now, longest);
        stale.then(|| given(self.held.remove(0)))
    }

    /// Time until the next one is due; `None` if none waits.
    pub fn next_in(&self, now: UnixNanos) -> Option<Duration> {
        self.held.last().map(|held| held.due.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Request, config};
    use crate::{Limiter, Reason, Settlement};
    use proptest::prelude::*;
    use shared_state::{HashSeed, MemoryStore};

    const LONGEST: Duration = Duration::from_secs(2);

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(1_000_000 + millis)
    }

    fn queue(most: usize, held: &[(u64, u32)]) -> Queue {
        let mut queue = Queue::new(most, LONGEST);
        for (due, stream) in held {
            assert!(queue.push(at(*due), *stream, Admission::default()).is_ok());
        }
        queue
    }

    fn due(queue: &mut Queue, now: UnixNanos) -> Vec<u32> {
        core::iter::from_fn(|| queue.pop_due(now)).map(|(stream, _)| stream).collect()
    }

    #[test]
    fn what_is_due_goes_in_order_of_due_time_and_then_of_arrival() {
        let mut queue = queue(9, &[(20, 3), (10, 1), (20, 4), (10, 2), (30, 5)]);
        assert_eq!(due(&mut queue, at(9)), [0; 0]);
        assert_eq!(due(&mut queue, at(20)), [1, 2, 3, 4]);
        assert_eq!(queue.next_in(at(20)), Some(Duration::from_millis(10)));
    }

    #[test]
    fn a_queue_is_bounded() {
        let mut queue = queue(2, &[(10, 1), (20, 2)]);
        assert!(queue.is_full() && queue.push(at(5), 3, Admission::default()).is_err());
        assert_eq!(due(&mut queue, at(99)), [1, 2]);
    }

    #[test]
    fn a_stream_that_has_ended_is_never_let_go_and_those_behind_it_move_up() {
        let mut queue = queue(9, &[(10, 1), (20, 2), (30, 3)]);
        assert!(queue.cancel(1).is_some() && queue.cancel(1).is_none());
        assert_eq!(due(&mut queue, at(10)), [2]);
        assert_eq!(due(&mut queue, at(20)), [3]);
        assert_eq!(queue.next_in(at(20)), None);
    }

    #[test]
    fn a_clock_that_stepped_back_lets_go_what_it_would_hold_for_ever() {
        let mut queue = queue(9, &[(900_000, 1), (900_010, 2)]);
        assert_eq!(due(&mut queue, at(0)), [2, 1]);
    }

    /// Ten a second for each client, one at a time.
    fn limiter() -> Limiter {
        let policy = r#"{"max_held":9,"policies":[{"name":"p","key":"header:x-client","max_wait":"2s",
            "gcra":{"rate":10,"burst":1}}]}"#;
        Limiter::new(config(policy), HashSeed([1, 2]))
    }

    #[test]
    fn all_who_leave_give_all_tokens_back_in_whatever_order_and_only_their_own_clients() {
        let orders: [[u32; 3]; 6] =
            [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        for order in orders {
            let (store, mut limiter) = (MemoryStore::default(), limiter());
            let mut queue = limiter.queue();
            for (stream, client) in (0..).zip(["a", "a", "a", "a", "b", "b"]) {
                let request = Request::default().with("x-client", client);
                let verdict = limiter.decide(&store, &request, at(0));
                assert_eq!(verdict.refusal, None);
                if let Some(wait) = verdict.hold {
                    let pushed = queue.push(at(0).plus(wait), stream, verdict.admission);
                    assert!(pushed.is_ok());
                }
            }
            for stream in order {
                let admission = queue.cancel(stream).unwrap();
                let _ = limiter.end(&store, admission, Settlement::Undone, at(50));
            }
            let next = Request::default().with("x-client", "a");
            let hold = limiter.decide(&store, &next, at(50)).hold;
            assert_eq!(hold, Some(Duration::from_millis(50)), "{order:?}");
            let next = Request::default().with("x-client", "b");
            let hold = limiter.decide(&store, &next, at(50)).hold;
            assert_eq!(hold, Some(Duration::from_millis(150)), "{order:?}");
            assert_eq!(due(&mut queue, at(100)), [5]);
        }
    }

    #[test]
    fn without_room_to_wait_a_request_is_refused_until_its_token_comes() {
        let (store, mut limiter) = (MemoryStore::default(), limiter());
        let request = Request::default().with("x-client", "a");
        assert_eq!(limiter.decide(&store, &request, at(0)).hold, None);
        limiter.may_hold(false);
        let refusal = limiter.decide(&store, &request, at(0)).refusal.unwrap();
        assert_eq!(
            (refusal.reason, refusal.wait),
            (Reason::NoToken, Some(Duration::from_millis(100)))
        );
    }

    proptest! {
        #[test]
        fn nothing_goes_early_nothing_stays_and_due_times_never_fall(
            held in proptest::collection::vec(0u64..2_000, 1..100),
            steps in proptest::collection::vec(0u64..100, 1..50),
        ) {
            let mut queue = Queue::new(100, LONGEST);
            for (stream, due) in (0..).zip(&held) {
                prop_assert!(queue.push(at(*due), stream, Admission::default()).is_ok());
            }
            let (mut now, mut last, mut gone) = (0, 0, 0);
            for step in steps.into_iter().chain([5_000]) {
                now += step;
                while let Some((stream, _)) = queue.pop_due(at(now)) {
                    let due = held[stream as usize];
                    prop_assert!(due <= now && due >= last);
                    last = due;
                    gone += 1;
                }
                prop_assert!(queue.next_in(at(now)) != Some(Duration::ZERO));
            }
            prop_assert_eq!(gone, held.len());
        }
    }
}
