//! Something that is kept in lines, in an order that only grows.

use sha2::{Digest, Sha256};

use crate::error::Result;

/// Takes lines, a few at a time.
pub(super) type Take<'a> = dyn FnMut(&[Vec<u8>]) -> Result<()> + 'a;

/// Lines in a store.
pub(super) trait Lines {
    /// Gives the lines from one position, counted from 0, up to another, or up to the end; how many damaged ones were left
    /// out, which have no position.
    fn read(&self, from: u64, to: u64, take: &mut Take<'_>) -> Result<u64>;

    /// Appends what `source` gives, at a position that is the end now.
    fn append(&self, at: u64, source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>) -> Result<()>;
}

/// How many lines there are, and what stands in them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) digest: [u8; 32],
    /// How many were left out.
    pub(super) damaged: u64,
}

impl Summary {
    /// That of the first lines, so many at most.
    pub(super) fn of(lines: &dyn Lines, most: u64) -> Result<Self> {
        Ok(Self::of_both(lines, most)?.0)
    }

    /// That of the first lines, so many at most, and that of all.
    pub(super) fn of_both(lines: &dyn Lines, most: u64) -> Result<(Self, Self)> {
        let (mut count, mut hasher) = (0, Sha256::new());
        let mut first = None;
        let damaged = lines.read(0, u64::MAX, &mut |batch| {
            for line in batch {
                if count == most {
                    first = Some(hasher.clone());
                }
                hasher.update((line.len() as u64).to_be_bytes());
                hasher.update(line);
                count += 1;
            }
            Ok(())
        })?;
        let summary = |count, hasher: Sha256| Self { count, digest: hasher.finalize().into(), damaged };
        let all = summary(count, hasher);
        let first = first.map_or_else(|| all.clone(), |hasher| summary(most, hasher));
        Ok((first, all))
    }
}

/// What stands for a line that has no id of its own: the same whenever it is copied.
pub(super) fn id_of(position: u64, line: &[u8]) -> uuid::Uuid {
    let mut hasher = Sha256::new();
    hasher.update(position.to_be_bytes());
    hasher.update(line);
    let digest: [u8; 32] = hasher.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(id).into_uuid()
}
