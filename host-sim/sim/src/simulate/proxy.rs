//! What the kernel asks of a proxy, whatever stands in it.

use super::notices::Notice;
use super::server::AttemptId;
use super::spec::load::Clients;
use super::world::{Outcome, Try, World};
use std::time::Duration;

/// A proxy. It sends attempts and answers clients through the [`World`].
pub(crate) trait Proxy {
    /// A client sends a request; `worker` is to be reduced to how many there are.
    fn request(&mut self, id: Try, client: &Clients, worker: u64, world: &mut World);

    /// An attempt of this proxy has ended.
    fn answered(&mut self, attempt: AttemptId, outcome: Outcome, world: &mut World);

    /// A client has gone. It gets no answer.
    fn abort(&mut self, id: Try, world: &mut World);

    /// When it wants to be woken.
    fn deadline(&mut self) -> Option<Duration>;

    /// It is that time.
    fn wake(&mut self, world: &mut World);

    /// VMs of plugins of these names, or of all, trap in their next callback.
    fn kill_vms(&mut self, _plugins: &[String]) {}

    /// What was said at warn or above, when all is over.
    fn notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }
}
