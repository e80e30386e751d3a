//! An operator's site: reading it, checking all of it, and compiling it to what clients take.

mod place;
