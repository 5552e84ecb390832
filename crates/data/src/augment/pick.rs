//! An image in its place in an epoch.

/// An image in its place in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Position in the data set.
    pub index: u32,
    /// How often it came before in the epoch; above 0 only where rare classes are repeated.
    pub repetition: u32,
}

impl Pick {
    /// Last part of the path of its random streams: the index alone for its first appearance.
    pub(super) fn key(self) -> u64 {
        u64::from(self.index) | u64::from(self.repetition) << 32
    }
}

impl From<u32> for Pick {
    fn from(index: u32) -> Self {
        Self { index, repetition: 0 }
    }
}
