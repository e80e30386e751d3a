//! An operator's site: reading it, checking all of it, and compiling it to what clients take.
//!
//! ```text
//! site.toml                     the site's id, lifetime of assignments
//! hosts.yaml                    the inventory: the first line that matches a host decides
//! groups/NAME.yaml              policies and variables that several lines share
//! policies/NAME/policy.yaml     resources
//! policies/NAME/files/          what their `source` names
//! ```
//!
//! Text becomes a tree of values that know their line (`yaml`), the tree becomes checked
//! declarations ([`Site`]), and for every distinct set of policies and variables of the
//! inventory these become resources, a graph, and a catalog ([`compile`]). Each step adds what
//! it finds wrong to one sorted list, so that one run shows as many mistakes as it can.

mod compile;
mod expand;
mod fields;
mod graph;
mod inventory;
mod kinds;
mod mistake;
mod owners;
mod plan;
mod policy;
mod settings;
mod source;
mod yaml;

pub use compile::{CompileError, Compiled, CompiledLine, CompiledSet, Progress, compile};
pub use mistake::{Mistake, Mistakes};
pub use settings::is_site_id;
pub use source::Site;

#[cfg(test)]
mod tests;
