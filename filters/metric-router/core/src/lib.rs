//! Which endpoints a request should go to, best first.
