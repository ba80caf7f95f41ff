//! The health-signal plugin: translates callbacks for its core.
