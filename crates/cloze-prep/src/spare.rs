//! Memory by turns.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What threads are done with and can use again: what was used last, and so is near to a processor, goes first.
pub struct Spare<T>(Mutex<Vec<T>>);

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spare<T> {
    /// What was used last, if there is any.
    pub fn take(&self) -> Option<T> {
        self.all().pop()
    }

    /// For the next.
    pub fn give(&self, used: T) {
        self.all().push(used);
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// It is whole between calls, whatever panicked.
    fn all(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
