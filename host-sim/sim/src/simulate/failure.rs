//! What failures do to endpoints: one file each.

mod answers;
mod down;
mod slow;

use super::server::EffectId;
use super::world::World;
use std::fmt::Debug;

pub(crate) use answers::Answers;
pub(crate) use down::Down;
pub(crate) use slow::Slow;

/// A kind of failure. Effects on one endpoint pile up; each is lifted by the id it was set with.
pub(crate) trait Effect: Debug {
    /// It begins.
    fn begin(&self, world: &mut World, endpoint: usize, id: EffectId);

    /// It ends.
    fn end(&self, world: &mut World, endpoint: usize, id: EffectId);
}
