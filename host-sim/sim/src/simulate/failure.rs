//! What failures do: one file each.
//!
//! To add one, add a file with a struct that holds its parameters and implements [`Effect`], and name
//! it in `spec/failure.rs`. It is handed a [`Site`]: the endpoints it is meant for, the proxies, and
//! the world, whose methods are what can be done to them.

mod answers;
mod down;
mod slow;
mod vms_die;

use super::proxy::Proxy;
use super::server::EffectId;
use super::world::World;
use std::fmt::Debug;

pub(crate) use answers::{Answers, Report};
pub(crate) use down::Down;
pub(crate) use slow::Slow;
pub(crate) use vms_die::VmsDie;

/// A kind of failure. Effects on one endpoint pile up; each is lifted by the id it was set with.
pub(crate) trait Effect: Debug {
    /// Whom it befalls.
    fn befalls(&self) -> Victims {
        Victims::Endpoints
    }

    /// It begins.
    fn begin(&self, site: &mut Site<'_, '_>, id: EffectId);

    /// It ends. What happens in a moment has no end.
    fn end(&self, _site: &mut Site<'_, '_>, _id: EffectId) {}
}

/// Whom a failure befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victims {
    /// The endpoints it names.
    Endpoints,
    /// All proxies.
    Proxies,
}

/// What a failure can get at.
pub(crate) struct Site<'a, 'p> {
    pub(crate) world: &'a mut World,
    /// Those that are named.
    pub(crate) endpoints: &'a [usize],
    pub(crate) proxies: &'a mut [Box<dyn Proxy + 'p>],
}
