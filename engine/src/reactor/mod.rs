//! The event loop: readiness in, frames to a [`crate::node::io::Host`], bytes out.

pub mod poller;
