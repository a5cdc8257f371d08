//! Where each entry of the baselines file is.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::json::{self, Damage};
use crate::text::Text;

/// Where each entry starts: 16 bytes an entry, and no text.
#[derive(Debug, Default)]
pub(super) struct EntryIndex {
    places: HashTable<(u64, u64)>,
    hasher: RandomState,
}

impl EntryIndex {
    pub(super) fn add(&mut self, key: &[u8], start: u64) {
        let hash = self.hasher.hash_one(key);
        self.places.insert_unique(hash, (hash, start), |place| place.0);
    }

    /// Adds the entries that `scan` finds in `bytes`, which are at `offset` in the file.
    pub(super) fn add_all<T>(
        &mut self,
        bytes: &[u8],
        offset: u64,
        scan: impl FnOnce(&[u8], &mut dyn FnMut(json::Entry)) -> Result<T, Damage>,
    ) -> Result<T, Damage> {
        let mut undecodable =
            std::str::from_utf8(bytes).err().map(|error| Damage { at: error.valid_up_to() });
        let extent = scan(bytes, &mut |entry| match json::string(&bytes[entry.key.clone()]) {
            Some(key) => self.add(&key, offset + entry.key.start as u64),
            None => undecodable = undecodable.or(Some(Damage { at: entry.key.start })),
        })?;
        undecodable.map_or(Ok(extent), Err)
    }

    /// The places at which an entry with this key may start, in the order of the file.
    pub(super) fn places(&self, key: &Text) -> impl Iterator<Item = u64> {
        let hash = self.hasher.hash_one(key.as_wtf8());
        let mut places: Vec<u64> =
            self.places.iter_hash(hash).filter(|place| place.0 == hash).map(|place| place.1).collect();
        places.sort_unstable();
        places.into_iter()
    }

    pub(super) fn might_contain(&self, key: &Text) -> bool {
        let hash = self.hasher.hash_one(key.as_wtf8());
        self.places.find(hash, |place| place.0 == hash).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
