//! A node: what happens between frames in and frames out, without sockets, clocks or threads.

pub mod io;
