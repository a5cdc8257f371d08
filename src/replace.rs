//! Putting a new file in the place of another.

use std::io::Write;
use std::path::Path;

use crate::error::{IoContext, Result};
use crate::files;
use crate::gate::Gate;

/// Puts a file with this content in the place of the one at `path`, if the gate lets it pass: else nothing is changed.
///
/// Readers see the old content or the new one. What is there is not synced: a power cut may leave either.
pub fn replace_through(gate: Gate<'_>, path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let new = path.with_file_name(name);
    let write = || -> Result<()> {
        let mut file = files::options().write(true).create_new(true).open(&new).context("create", &new)?;
        if let Ok(metadata) = std::fs::symlink_metadata(path)
            && metadata.is_file()
        {
            file.set_permissions(metadata.permissions()).context("set the mode of", &new)?;
        }
        file.write_all(content).context("write", &new)?;
        drop(file);
        gate(&mut || std::fs::rename(&new, path).context("replace", path))
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_closed_gate_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace_through(&crate::gate::open, &path, b"one").unwrap();
        assert!(replace_through(&|_| Err(Error::Closed), &path, b"two").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
