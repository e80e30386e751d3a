//! The blobs of what is assigned, and of what is enforced and was found broken: fetched, and told
//! to the enforcer when all are there.

use super::{ClientRole, Cx, Effect, Incoming};
use crate::daemon::refused::Refused;
use crate::policy::AssignedManifest;
use engine::blob::{Blob, BlobCommand, FetchEvent};
use engine::ids::{BlobHash, Revision};
use engine::limits::MANIFEST_SIZE_MAX;
use engine::release::{Assignment, ManifestBlob, decode};
use std::collections::HashSet;

impl ClientRole {
    /// Fetches what is held and could not be read at the start, as if it had just been assigned.
    pub(super) fn fetch_held(&mut self, cx: &mut Cx<'_>) {
        if self.incoming.is_none()
            && let (Some(assignment), Some(unfetched)) = (&self.held, &self.options.unfetched)
        {
            self.run_error.clone_from(&unfetched.why);
            let (assignment, signed) = (assignment.clone(), unfetched.signed.clone());
            // A damaged one is removed, and not found in the cache again.
            cx.blob(BlobCommand::Verify { hash: assignment.manifest_hash() });
            let missing = HashSet::new();
            self.incoming = Some(Incoming { assignment, signed, manifest: None, missing });
        }
    }

    pub(super) fn on_fetched(&mut self, event: FetchEvent, cx: &mut Cx<'_>) {
        let (hash, failure) = match event {
            FetchEvent::Stored { hash } => (hash, None),
            FetchEvent::Refused { hash } => {
                (hash, Some("the master does not serve it any more".to_owned()))
            }
            FetchEvent::Broken { hash, error } => (hash, Some(error)),
            FetchEvent::Connect | FetchEvent::Hangup => return,
        };
        let is_awaited =
            |i: &Incoming| i.assignment.manifest_hash() == hash || i.missing.contains(&hash);
        let (was_broken, is_awaited) =
            (self.broken.remove(&hash), self.incoming.as_ref().is_some_and(is_awaited));
        if let Some(why) = failure.filter(|_| was_broken || is_awaited) {
            return self.on_unfetched(hash, &why, is_awaited, cx);
        }
        if was_broken {
            self.on_mended(hash, cx);
        }
        let Some(incoming) = self.incoming.as_mut().filter(|_| is_awaited) else { return };
        incoming.missing.remove(&hash);
        let is_manifest = hash == incoming.assignment.manifest_hash();
        if is_manifest && incoming.manifest.is_none() {
            cx.blob(BlobCommand::Load { hash, size_max: MANIFEST_SIZE_MAX });
        } else {
            self.enforce_if_whole(cx);
        }
    }

    /// A blob cannot be fetched: what has it is given up for now. It is awaited by what is assigned,
    /// or else was broken in what is enforced, which looks for it again by itself.
    fn on_unfetched(&mut self, hash: BlobHash, why: &str, is_awaited: bool, cx: &mut Cx<'_>) {
        self.broken.clear();
        self.refetched = false;
        let (held, again) = (self.held_revision(), "it is asked for again");
        let (revision, when) = match self.incoming.take_if(|_| is_awaited) {
            Some(incoming) => (Revision(incoming.assignment.revision), " at the next poll"),
            None => (held, " when it is looked for"),
        };
        let why =
            format!("revision {revision} cannot be fetched: blob {hash}: {why}; {again}{when}");
        self.refuse(why, cx);
    }

    /// A blob of what is enforced was broken, and has been fetched again.
    fn on_mended(&mut self, hash: BlobHash, cx: &mut Cx<'_>) {
        if self.broken.is_empty() {
            self.refused = Refused::default();
            cx.effect(Effect::Check);
        } else {
            // If it is the manifest, it names the others.
            self.load_held(hash, cx);
        }
    }

    /// Loads the manifest of what is enforced, if that is what this is.
    fn load_held(&self, hash: BlobHash, cx: &mut Cx<'_>) {
        if self.held.as_ref().is_some_and(|held| held.manifest_hash() == hash) {
            cx.blob(BlobCommand::Load { hash, size_max: MANIFEST_SIZE_MAX });
        }
    }

    pub(super) fn on_loaded(&mut self, hash: BlobHash, bytes: &[u8], cx: &mut Cx<'_>) {
        self.refetched = false;
        let Some(manifest) = decode::<ManifestBlob>(bytes) else {
            self.incoming.take_if(|i| i.assignment.manifest_hash() == hash);
            let why = format!("the manifest {hash} is of a format that this version does not know");
            self.refuse(why, cx);
            return;
        };
        if let Some(incoming) = &mut self.incoming
            && incoming.assignment.manifest_hash() == hash
        {
            let wanted: Vec<Blob> = Blob::all_of(&manifest).collect();
            incoming.missing = wanted.iter().map(|blob| blob.hash).collect();
            incoming.manifest = Some(manifest);
            cx.fetch(wanted);
            self.enforce_if_whole(cx);
        } else if !self.broken.is_empty() {
            let broken = &self.broken;
            cx.fetch(
                Blob::all_of(&manifest)
                    .filter(|blob| broken.contains(&blob.hash))
                    .collect::<Vec<_>>(),
            );
        }
    }

    fn enforce_if_whole(&mut self, cx: &mut Cx<'_>) {
        let whole = |i: &mut Incoming| i.manifest.is_some() && i.missing.is_empty();
        let Some(incoming) = self.incoming.take_if(whole) else { return };
        let Some(manifest) = incoming.manifest else { return };
        let assignment = incoming.assignment;
        let manifest_hash = assignment.manifest_hash();
        let revision = Revision(assignment.revision);
        cx.effect(Effect::Enforce {
            signed: incoming.signed,
            manifest: AssignedManifest {
                revision,
                manifest: manifest_hash,
                catalog: BlobHash(manifest.catalog),
            },
        });
        self.held = Some(assignment);
        self.refused = Refused::default();
        self.options.unfetched = None;
        self.run_error.clear();
        let mut keep: Vec<BlobHash> =
            Blob::all_of(&manifest).map(|b| b.hash).chain([manifest_hash]).collect();
        keep.sort_unstable();
        keep.dedup();
        self.keep = Some((revision, keep));
        self.poll(cx);
    }

    /// A blob was looked at: it is whole, or was removed.
    pub(super) fn on_verified(&mut self, hash: BlobHash, whole: bool, cx: &mut Cx<'_>) {
        let is_awaited =
            |i: &Incoming| i.manifest.is_none() && i.assignment.manifest_hash() == hash;
        if whole && self.incoming.as_ref().is_some_and(is_awaited) {
            self.load_held(hash, cx);
        } else if whole {
            self.broken.remove(&hash);
            cx.effect(Effect::Check);
        } else if let Some(manifest) = self.held.as_ref().map(Assignment::manifest_hash) {
            // It has just been looked for: to load it would tell of it once more.
            match manifest == hash {
                true => self.on_missing(hash, cx),
                false => self.load_held(manifest, cx),
            }
        }
    }

    /// The manifest of what is enforced cannot be read.
    pub(super) fn on_missing(&mut self, hash: BlobHash, cx: &mut Cx<'_>) {
        let held = self.held.as_ref().filter(|held| held.manifest_hash() == hash);
        if std::mem::take(&mut self.refetched) {
            // It was fetched and cannot be read all the same: not again before a while.
            self.broken.clear();
            self.incoming.take_if(|i| i.assignment.manifest_hash() == hash);
        } else if let Some(blob) = held.map(Blob::manifest_of) {
            self.broken.insert(hash);
            self.refetched = true;
            cx.fetch([blob]);
        }
    }
}
