//! The metric-router plugin: translates callbacks for its core.
