//! Fences: proof of a lease, which guards what is written for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::Unknown;

use super::arguments::{Fields, path, text, whole_number};
use super::call::workspace_path;
use super::leases::STORE_PATIENCE;
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::lease::{Fence, LeaseManager, LeaseOptions, OwnedKey};
use crate::patience::Patience;
use crate::shared::Shared;
use crate::text::Text;

/// A fence and the workspace whose leases it is about.
#[derive(Debug, Clone)]
pub(super) struct WorkspaceFence {
    pub(super) workspace: PathBuf,
    pub(super) fence: Fence,
}

impl WorkspaceFence {
    /// Reads a fence.
    pub(super) fn read(value: Unknown<'_>, argument: &'static str) -> Result<Self> {
        let fields = Fields::required(value, argument)?;
        let token = fields.read_required("token", "a fencing token", whole_number)?;
        let lease_id = fields.read_required("leaseId", "a lease's id", text)?;
        let key = OwnedKey {
            task: fields.read_required("taskId", "a string", text)?,
            phase: fields.read_required("phase", "a string", text)?,
        };
        let workspace = fields.read_required("workspace", "a path", path)?;
        Ok(Self {
            workspace: workspace_path(workspace),
            fence: Fence {
                key,
                token: i64::try_from(token).unwrap_or(i64::MAX),
                lease_id: lease_id.to_string(),
            },
        })
    }

    /// Fails unless the fence is for this task and phase.
    pub(super) fn must_be_for(self, task: &Text, phase: &Text) -> Result<Self> {
        let key = &self.fence.key;
        if (&key.task, &key.phase) == (task, phase) {
            return Ok(self);
        }
        Err(Error::InvalidArgument {
            argument: "fence",
            expected: "for the task and phase that are written",
            actual: format!("one for phase {} of task {}", key.phase, key.task),
        })
    }

    /// Fails unless the fence is of this workspace.
    pub(super) fn must_be_of(self, workspace: &Path) -> Result<Self> {
        if self.workspace == workspace {
            return Ok(self);
        }
        Err(Error::InvalidArgument {
            argument: "fence",
            expected: "of this manager's workspace",
            actual: format!("one of {}", self.workspace.display()),
        })
    }

    /// Runs `work` while nobody can be granted the fence's key, if its lease is still the newest one.
    pub(super) fn pass(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        checker(&self.workspace)?.fenced(&self.fence, work, Patience::lasting(STORE_PATIENCE))
    }
}

/// The leases of a workspace, shared by those who check fences at the same time. A process that has a manager open
/// shares its database, so that this costs little. A workspace without a database has no leases, so none is made.
fn checker(workspace: &Path) -> Result<Arc<LeaseManager>> {
    static CHECKERS: Shared<LeaseManager> = Shared::new();
    let open = || {
        let options = LeaseOptions::of(Text::from("fence"));
        LeaseManager::open_existing(workspace, options, Arc::new(SystemClock))
    };
    CHECKERS.try_get(workspace, open)
}
