//! When to stop sending, and how to begin again.
