//! Memory that requests may hold together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes, shared by whoever needs some.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
}

/// A part of a budget until dropped.
pub(crate) type Share = OwnedSemaphorePermit;

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(total)), total }
    }

    /// All of it, in bytes.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// A share of so many bytes, if they are free.
    pub(crate) fn take(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }

    /// A share of so many bytes, as soon as they are free.
    pub(crate) async fn wait(&self, bytes: usize) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()
    }
}
