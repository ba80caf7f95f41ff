//! Scenarios on a virtual clock with the shipped modules.
