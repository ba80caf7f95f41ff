//! What is done between requests, so that they find it done.

use super::{Event, Followed, PATIENCE, Subject, WorkerBreakers};
use core::time::Duration;
use shared_state::{SharedStore, UnixNanos};

impl WorkerBreakers {
    /// Stores what has waited long enough, reads what requests will ask for, and forgets breakers
    /// that nobody asks for. If there is no room left, what never answered and has no record goes
    /// first: a list that anyone may write has named it, or a route that takes its cluster from the
    /// request.
    pub fn tick(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
        mut draw: impl FnMut() -> u64,
    ) {
        let due = |followed: &Followed| {
            !followed.waiting.is_empty() && followed.is_overdue(now, PATIENCE)
        };
        let overdue: Vec<Subject> =
            self.followed.iter().filter(|(_, f)| due(f)).map(|(s, _)| s.clone()).collect();
        for subject in &overdue {
            self.flush(store, subject, now, draw());
        }
        let Self { followed, events, .. } = self;
        for followed in followed.values_mut() {
            // One request is served as well by reading when it comes.
            if followed.uses > 1 && !followed.is_fresh(now, Duration::ZERO) {
                events.extend(followed.refresh(store, now).map(Event::Degraded));
            }
            followed.uses = 0;
        }
        let (room, idle) = (self.room(), self.idle());
        let has_room = self.followed.len() < room;
        self.followed.retain(|followed| {
            // A use in the future was before the clock stepped back: its age counts from here.
            followed.used_at = followed.used_at.min(now);
            let is_kept = has_room || followed.answered || followed.record.is_some();
            !followed.waiting.is_empty() || is_kept && now.since(followed.used_at) < idle
        });
    }
}
