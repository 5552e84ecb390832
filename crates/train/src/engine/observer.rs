//! Who is told by the training loop what happens.

use std::time::Duration;

use evaluation::metrics_log::EpochRecord;

use crate::run::checkpoint::TrainingState;

/// Told by the training loop what happens.
pub trait Observer: Send {
    /// An epoch (from 1) begins, or goes on after a resume.
    fn epoch_started(&mut self, _epoch: usize, _epochs: usize, _images: usize) {}
    /// So many images of the epoch are done, with this mean training loss so far.
    fn batch_done(&mut self, _images: usize, _loss: f64) {}
    /// An epoch ended and was validated; `left` estimates the rest of the run.
    fn epoch_finished(
        &mut self,
        _record: &EpochRecord,
        _epochs: usize,
        _left: Duration,
        _state: &TrainingState,
    ) {
    }
}

/// Hides everything.
pub struct Silent;

impl Observer for Silent {}
