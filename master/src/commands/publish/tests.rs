//! Tests of publishing.
