//! One object for each path, shared by all who use the path in this process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Objects by path. An object lives as long as somebody uses it.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Option<HashMap<PathBuf, Weak<T>>>>);

impl<T> Shared<T> {
    /// No objects.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The object for this path, made by `make` if nobody uses one.
    pub fn get(&self, path: &Path, make: impl FnOnce() -> T) -> Arc<T> {
        let object: Result<_, std::convert::Infallible> = self.try_get(path, || Ok(make()));
        match object {
            Ok(object) => object,
            Err(never) => match never {},
        }
    }

    /// [`Self::get`] where making an object may fail.
    pub fn try_get<E>(&self, path: &Path, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = objects.get_or_insert_default();
        if let Some(object) = objects.get(path).and_then(Weak::upgrade) {
            return Ok(object);
        }
        objects.retain(|_, object| object.strong_count() > 0);
        let object = Arc::new(make()?);
        objects.insert(path.to_owned(), Arc::downgrade(&object));
        Ok(object)
    }

    /// An object in use for which `is_meant` holds.
    pub fn find(&self, is_meant: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().flatten().filter_map(|(_, object)| object.upgrade()).find(|object| is_meant(object))
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_shared_while_it_is_used() {
        let shared = Shared::new();
        let one = shared.get(Path::new("/a"), || 1);
        assert_eq!(*shared.get(Path::new("/a"), || 2), 1);
        assert_eq!(*shared.get(Path::new("/b"), || 3), 3);
        assert_eq!(shared.find(|object| *object == 1), Some(Arc::clone(&one)));
        assert_eq!(shared.find(|object| *object == 3), None);
        drop(one);
        assert_eq!(*shared.get(Path::new("/a"), || 2), 2);
    }
}
