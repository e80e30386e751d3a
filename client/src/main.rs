//! `drover-client`.

fn main() {}
