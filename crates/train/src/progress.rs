//! What a person sees while a run goes on; everything here goes to standard error.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::TrainingState;
use crate::metrics_log::EpochRecord;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// Burn's dashboard; needs a terminal.
    Tui,
    /// A progress bar and one line an epoch.
    Bar,
    /// One line an epoch.
    Plain,
    /// Nothing.
    None,
}

impl ProgressMode {
    /// What was asked for, or a bar on a terminal and plain lines elsewhere.
    pub fn resolve(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stderr().is_terminal() { Self::Bar } else { Self::Plain })
    }

    /// Whether Burn's dashboard is asked for but there is no terminal to draw it on.
    pub fn lacks_terminal(self) -> bool {
        self == Self::Tui && !std::io::stdout().is_terminal()
    }
}

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

/// One line an epoch, and a bar between the lines on a terminal.
pub struct Lines {
    bar: Option<ProgressBar>,
    last_drawn: Instant,
}

impl Lines {
    /// With or without the bar.
    pub fn new(with_bar: bool) -> Self {
        Self { bar: with_bar.then(ProgressBar::hidden), last_drawn: Instant::now() }
    }

    fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // A closed standard error is no reason to stop training.
            None => crate::command::say(line),
        }
    }
}

impl Observer for Lines {
    fn epoch_started(&mut self, epoch: usize, epochs: usize, images: usize) {
        if self.bar.is_none() {
            return;
        }
        let bar = ProgressBar::new(images as u64);
        let style = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {pos}/{len} images, {per_sec}, {eta} left, {msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        self.bar = Some(bar);
    }

    fn batch_done(&mut self, images: usize, loss: f64) {
        // Ten times a second is enough for the eye, and costs the training loop nothing.
        if let Some(bar) = &self.bar
            && self.last_drawn.elapsed() >= Duration::from_millis(100)
        {
            self.last_drawn = Instant::now();
            bar.set_position(images as u64);
            bar.set_message(format!("loss {loss:.4}"));
        }
    }

    fn epoch_finished(&mut self, record: &EpochRecord, epochs: usize, left: Duration, state: &TrainingState) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let best = if state.best.as_ref().is_some_and(|best| best.epoch == record.epoch) {
            ", best so far"
        } else {
            ""
        };
        self.print(&format!(
            "epoch {:>width$}/{epochs}  train loss {:.4} acc {:.2}%  valid loss {:.4} acc {:.2}%  rate {:.2e}  \
             {:.0} images/s  {} left{best}",
            record.epoch,
            record.train_loss,
            record.train_accuracy * 100.0,
            record.valid_loss,
            record.valid_accuracy * 100.0,
            record.learning_rate,
            record.samples_per_second,
            clock(left),
            width = epochs.to_string().len(),
        ));
    }
}

/// Seconds as `m:ss` or `h:mm:ss`.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Writes the run's growing files at the end of every epoch, then passes on.
pub(crate) struct Recorder {
    pub(crate) inner: Box<dyn Observer>,
    pub(crate) run: crate::run_folder::RunFolder,
    pub(crate) started: u64,
    pub(crate) failure: Arc<Mutex<Option<(PathBuf, std::io::Error)>>>,
}

impl Observer for Recorder {
    fn epoch_started(&mut self, epoch: usize, epochs: usize, images: usize) {
        self.inner.epoch_started(epoch, epochs, images);
    }

    fn batch_done(&mut self, images: usize, loss: f64) {
        self.inner.batch_done(images, loss);
    }

    fn epoch_finished(&mut self, record: &EpochRecord, epochs: usize, left: Duration, state: &TrainingState) {
        if let Err(error) = self.run.write_metrics(self.started, &state.epochs) {
            tracing::warn!(path = %error.0.display(), error = %error.1, "cannot write the metrics of this epoch");
            if let Ok(mut failure) = self.failure.lock() {
                failure.get_or_insert(error);
            }
        }
        self.inner.epoch_finished(record, epochs, left, state);
    }
}

/// burn-train wants a renderer; without its dashboard nothing is to be drawn.
pub(crate) mod quiet {
    use burn_train::LearnerSummary;
    use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
    use burn_train::metric::MetricDefinition;
    use burn_train::renderer::{
        EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
    };

    pub(crate) struct QuietRenderer;

    impl MetricsRendererTraining for QuietRenderer {
        fn update_train(&mut self, _: MetricState) {}
        fn update_valid(&mut self, _: MetricState) {}
        fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
            Ok(())
        }
    }

    impl MetricsRendererEvaluation for QuietRenderer {
        fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
    }

    impl TrainingProgressLogger for QuietRenderer {
        fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
        fn update_epoch(&mut self, _: usize) {}
        fn start_split(&mut self, _: &str, _: usize) {}
        fn update_split(&mut self, _: usize) {}
        fn end_split(&mut self) {}
        fn end(&mut self) {}
        fn log_event_training(&mut self, _: String) {}
    }

    impl EvaluationProgressLogger for QuietRenderer {
        fn start_global_progress(&mut self, _: usize) {}
        fn start_test(&mut self, _: &str, _: usize) {}
        fn update_test_progress(&mut self, _: usize) {}
        fn end_test(&mut self) {}
        fn end_global_progress(&mut self) {}
        fn log_event_evaluation(&mut self, _: String) {}
    }

    impl MetricsRenderer for QuietRenderer {
        fn manual_close(&mut self) {}
        fn register_metric(&mut self, _: MetricDefinition) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_clock() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }
}
