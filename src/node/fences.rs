//! Fences: proof of a lease, which guards what is written for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::Unknown;

use super::arguments::{Fields, path, text, whole_number};
use super::call::workspace_path;
use super::leases::STORE_PATIENCE;
use super::store::{Store, leases_at};
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::gate::{Gate, Guard};
use crate::lease::{
    Closing, Fence, LeaseManager, LeaseOptions, LeaseStore, OwnedKey, PostgresLeaseStore, Wait,
};
use crate::location::Location;
use crate::patience::Patience;
use crate::shared::Shared;
use crate::text::Text;

/// A fence and where the leases are that it is about.
#[derive(Debug, Clone)]
pub(super) struct WorkspaceFence {
    workspace: PathBuf,
    /// The server that has them, as [`LeaseManager::server`] shows it; `None` if the workspace has.
    server: Option<String>,
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
        let server = fields.read("store", text)?;
        Ok(Self {
            workspace: workspace_path(workspace),
            server: server
                .map(|server| server.to_string_lossy().into_owned())
                .filter(|server| server != "sqlite"),
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

    /// Fails unless the fence is of these leases. On a server they are the same for all workspaces.
    pub(super) fn must_be_of(self, workspace: &Path, server: Option<&str>) -> Result<Self> {
        if self.server.as_deref() == server && (server.is_some() || self.workspace == workspace) {
            return Ok(self);
        }
        Err(Error::InvalidArgument {
            argument: "fence",
            expected: "of the leases of this manager's workspace and store",
            actual: format!("one of {}", self.place()),
        })
    }

    /// Runs `work` while nobody can be granted the fence's key, if its lease is still the newest one.
    pub(super) fn pass(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let patience = Patience::lasting(STORE_PATIENCE);
        match &self.server {
            Some(server) => {
                let closing = Closing::default();
                self.store_at(server)?.fenced(&self.fence, work, Wait::new(patience, &closing))
            }
            None => checker(&self.workspace)?.fenced(&self.fence, work, patience),
        }
    }

    /// What has to let a write pass into a store: the store itself checks a fence of its own server, for the others there
    /// is a gate.
    pub(super) fn guard<'a>(&'a self, location: Location<'_>, gate: Gate<'a>) -> Guard<'a> {
        match (&self.server, location) {
            (Some(server), Location::Server(own)) if server == own => Guard::Fence(&self.fence),
            _ => Guard::Gate(gate),
        }
    }

    /// The leases of this server: a fence names it, but not how to get in.
    fn store_at(&self, server: &str) -> Result<PostgresLeaseStore> {
        if let Some(store) = PostgresLeaseStore::in_use_at(server) {
            return Ok(store);
        }
        if let Store::Server(url) = Store::of_environment()? {
            let store = leases_at(&url, &self.workspace)?;
            if store.server().as_deref() == Some(server) {
                return Ok(store);
            }
        }
        Err(Error::InvalidArgument {
            argument: "fence",
            expected: "of a store that this process knows: open a PhaseLeaseManager on it, or set DRIFTLOCK_STORE",
            actual: format!("one of {}", self.place()),
        })
    }

    /// Where its leases are, for messages.
    fn place(&self) -> String {
        match &self.server {
            // Fences of our own have no credentials.
            Some(server) if server.contains('@') || server.contains("password") => {
                "a server that is not named as fences name it".to_owned()
            }
            Some(server) => server.clone(),
            None => self.workspace.display().to_string(),
        }
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
