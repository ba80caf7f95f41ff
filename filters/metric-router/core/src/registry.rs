//! A list of endpoints that a registry keeps, asked for over HTTP.
//!
//! One worker of the process asks, and writes what it was told into shared data; all others read
//! that. Who asks is decided by a lease, so that another takes over when its VM ends. A registry
//! that does not answer, or answers nonsense, changes nothing: the last good list stays, for as long
//! as the process lives, because endpoints that were there are a better guess than none. What is
//! wrong is told.

mod consul;

use crate::{Label, Note};
use core::time::Duration;
use shared_state::{
    Endpoint, Expected, Key, Leadership, Lease, Listed, Listing, MAX_MEMBERS, Members, SharedStore,
    Standing, UnixNanos, encode, update,
};
use sorting::sort_by_key;

/// Largest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How long the one that asks is believed to be alive without a sign of it.
const LEASE: Duration = Duration::from_secs(3);

/// Who to ask for the endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The proxy's name of the cluster that the registry is.
    pub cluster: String,
    /// Path of the question, query included.
    pub path: String,
    /// `:authority`. Default the cluster's name.
    pub host: Option<String>,
    /// How often to ask, 0.5 s to 3600 s. Default 5 s.
    pub interval: Duration,
    /// How long to wait for the answer. Default 2 s.
    pub timeout: Duration,
}

/// What a registry answered.
#[derive(Clone, Copy, Debug)]
pub struct RegistryAnswer<'a> {
    /// `:status`; `None` if there were no headers.
    pub status: Option<u16>,
    /// At most [`MAX_ANSWER_BYTES`] and one byte more.
    pub body: &'a [u8],
}

/// Why an answer was not used. The list stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The status was not 200, or there was none.
    Status(u16),
    /// Longer than [`MAX_ANSWER_BYTES`].
    TooLong,
    /// It is not of the registry's shape.
    Shape,
    /// The host made no call.
    NotAsked,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Endpoints that were taken up.
    pub listed: usize,
    /// Entries without `ip:port`, or beyond the limit.
    pub left_out: usize,
    /// The list is not what it was.
    pub is_new: bool,
}

/// The part of one worker in asking the registry of one cluster.
#[derive(Debug)]
pub(crate) struct Enquiry {
    registry: Registry,
    canary: Option<Label>,
    listing_key: Key<Listing>,
    leader_key: Key<Lease>,
    leadership: Leadership,
    asked_at: Option<UnixNanos>,
    last: Option<Vec<Listed>>,
}

impl Enquiry {
    pub(crate) fn new(cluster: &str, registry: Registry, canary: Option<Label>) -> Self {
        Self {
            registry,
            canary,
            listing_key: Listing::key(cluster),
            leader_key: Key::new("router", &["leader", cluster]),
            leadership: Leadership::default(),
            asked_at: None,
            last: None,
        }
    }

    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The list, as whoever asks has written it.
    pub(crate) const fn listing_key(&self) -> &Key<Listing> {
        &self.listing_key
    }

    /// True if this worker should ask now; it is then taken to have done so.
    /// `owner` tells this worker from the others; `None` if nothing does.
    pub(crate) fn is_due(
        &mut self,
        store: &impl SharedStore,
        owner: Option<u64>,
        now: UnixNanos,
    ) -> bool {
        let asks = match owner {
            Some(owner) => {
                let key = &self.leader_key;
                let (standing, asked) = self.leadership.stand(store, key, owner, now, LEASE);
                // Without shared data every worker is alone, and asks for itself.
                asked.is_err() || matches!(standing, Standing::Elected | Standing::Leader)
            }
            None => shared_state::read(store, &self.leader_key).is_err(),
        };
        if !asks {
            self.asked_at = None;
            return false;
        }
        let due = |at: UnixNanos| at > now || now.since(at) >= self.registry.interval;
        let is_due = self.asked_at.is_none_or(due);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }

    /// Takes up an answer, and tells the other workers.
    pub(crate) fn answered(
        &mut self,
        store: &impl SharedStore,
        members_key: &Key<Members>,
        answer: RegistryAnswer<'_>,
        now: UnixNanos,
    ) -> Result<(Vec<Listed>, Told), Note> {
        let (list, left_out) = read(answer, self.canary.as_ref()).map_err(Note::Registry)?;
        let is_new = self.last.as_ref() != Some(&list);
        let told = Told { listed: list.len(), left_out, is_new };
        let listing = Listing { told_at: now, list: list.clone() };
        let written = store.set(self.listing_key.as_str(), &encode(&listing), Expected::Any);
        let endpoints: Vec<Endpoint> = list.iter().map(|listed| listed.endpoint).collect();
        let members = update(store, members_key, |prior| Members::told(prior, &endpoints, now));
        if written.is_ok() && members.is_ok() {
            self.last = Some(list.clone());
        }
        Ok((list, told))
    }
}

/// The endpoints that an answer lists, in order of address and each once, and how many of its
/// entries were left out.
fn read(
    answer: RegistryAnswer<'_>,
    canary: Option<&Label>,
) -> Result<(Vec<Listed>, usize), Unusable> {
    if answer.status != Some(200) {
        return Err(Unusable::Status(answer.status.unwrap_or(0)));
    }
    if answer.body.len() > MAX_ANSWER_BYTES {
        return Err(Unusable::TooLong);
    }
    let entries = consul::read(answer.body, canary).ok_or(Unusable::Shape)?;
    let named = entries.len();
    let mut list: Vec<Listed> = entries.into_iter().flatten().collect();
    sort_by_key(&mut list, |listed| listed.endpoint);
    list.dedup_by_key(|listed| listed.endpoint);
    list.truncate(MAX_MEMBERS.into());
    let left_out = named - list.len();
    Ok((list, left_out))
}

#[cfg(test)]
mod tests;
