//! What an operator's site becomes once it is published, as master and client share it: the
//! signed assignment, the manifest, the catalog and the trees. `docs/PROTOCOL.md` has the
//! formats; all are rkyv archives with a schema number of their own.

mod assignment;
mod catalog;
mod glob;

pub use assignment::{Assignment, AssignmentError, SignedAssignment, TrustedKeys};
pub use catalog::{
    ArchivedCatalog, ArchivedManifestBlob, ArchivedResource, ArchivedTree, ArchivedTreeEntry,
    Attribute, CATALOG_SCHEMA, Catalog, FileEntry, ManifestBlob, NAME_CATALOG, NAME_MANIFEST,
    Resource, Tree, TreeEntry, TreeKind, access, decode,
};
pub use glob::{Pattern, PatternError};
