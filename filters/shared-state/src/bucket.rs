//! A table of token buckets.
