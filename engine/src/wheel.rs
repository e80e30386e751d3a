//! O(1) hierarchical timer wheel.
