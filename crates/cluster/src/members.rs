//! Who takes part: founding, admission, and the leader's work on the list of members.

mod join;
mod plan;
mod reconcile;

pub(crate) use join::take_part;
pub(crate) use reconcile::reconcile;
