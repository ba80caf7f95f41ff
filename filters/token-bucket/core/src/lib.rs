//! Exact keyed token buckets in bounded memory.
