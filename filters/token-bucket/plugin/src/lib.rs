//! The token-bucket plugin: translates callbacks for its core.
