//! What runs a catalog: the graph of its resources, and one run over it.

pub mod graph;
pub mod run;
pub mod stop;
