//! What is known of an endpoint's health, from every source, as one record.
