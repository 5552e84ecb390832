//! What a person sees while a run goes on; everything here goes to standard error.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use evaluation::metrics_log::EpochRecord;
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::Backend;
use crate::engine::observer::Observer;
use crate::run::checkpoint::TrainingState;
use crate::run::folder::RunFolder;
use crate::terminal::say;

/// Until the first line within an epoch, and between the first two; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(4);
/// The longest pause between two lines.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Says every few seconds that the first step is not done yet, from a thread of its own, until it is dropped.
struct Waiting(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Waiting {
    fn start() -> Self {
        let (done, is_done) = mpsc::channel();
        let begin = Instant::now();
        let thread = std::thread::Builder::new().name("waiting".to_owned()).spawn(move || {
            let mut pause = FIRST_PAUSE;
            while is_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                say(&format!("still compiling kernels, {:.0} s so far", begin.elapsed().as_secs_f64()));
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        });
        Self(thread.ok().map(|thread| (done, thread)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            drop(done);
            // It has nothing to do but to end.
            drop(thread.join());
        }
    }
}

/// How fast the run goes, and when a line about it is due.
struct Pace {
    started: Instant,
    /// When the first step was done, which is slower than the others, and the images of the run until then.
    first: Option<(Instant, usize)>,
    /// Steps after it.
    steps: usize,
    /// Images of the run that are done, and that there are.
    done: usize,
    all: usize,
    /// Images before the current epoch.
    before: usize,
    last_line: Instant,
    pause: Duration,
}

impl Pace {
    fn new(now: Instant) -> Self {
        let (first, last_line) = (None, now);
        Self { started: now, first, steps: 0, done: 0, all: 0, before: 0, last_line, pause: FIRST_PAUSE }
    }

    fn epoch_started(&mut self, epoch: usize, epochs: usize, images: usize) {
        self.before = (epoch - 1) * images;
        self.all = epochs * images;
    }

    /// Counts a step; after the first one gives the time it took.
    fn step_done(&mut self, images: usize, now: Instant) -> Option<Duration> {
        self.done = self.before + images;
        if self.first.is_none() {
            self.first = Some((now, self.done));
            return Some(now - self.started);
        }
        self.steps += 1;
        None
    }

    /// Steps and images a second, and the rest of the run; nothing before there is anything to measure.
    fn speed(&self, now: Instant) -> Option<(f64, f64, Duration)> {
        let (since, images) = self.first?;
        let seconds = (now - since).as_secs_f64();
        let (steps, images) = (self.steps as f64, self.done.saturating_sub(images) as f64);
        let left = self.all.saturating_sub(self.done) as f64 * seconds / images;
        let left = Duration::try_from_secs_f64(left).ok()?;
        (steps > 0.0).then_some((steps / seconds, images / seconds, left))
    }

    /// Whether nothing was said for so long that a line is due.
    fn is_due(&self, now: Instant) -> bool {
        now - self.last_line >= self.pause
    }

    fn said(&mut self, now: Instant) {
        self.last_line = now;
    }

    fn wait_longer(&mut self) {
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}

/// One line an epoch; between those a bar on a terminal, and elsewhere lines that become rarer.
pub struct Lines {
    bar: Option<ProgressBar>,
    last_drawn: Instant,
    pace: Pace,
    /// `1/10`
    epoch: String,
    images: usize,
    /// Whether the first step compiles kernels.
    compiles: bool,
    /// While it does and there is no bar.
    waiting: Option<Waiting>,
    /// Whether it must still be said that the adapter is software.
    software: bool,
}

impl Lines {
    /// With or without the bar, for a run on this backend.
    pub fn new(with_bar: bool, backend: Backend) -> Self {
        let now = Instant::now();
        Self {
            bar: with_bar.then(ProgressBar::hidden),
            last_drawn: now,
            pace: Pace::new(now),
            epoch: String::new(),
            images: 0,
            compiles: !backend.is_cpu(),
            waiting: None,
            software: backend.adapter().is_some_and(|adapter| adapter.software),
        }
    }

    fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // A closed standard error is no reason to stop training.
            None => say(line),
        }
    }

    /// A line within an epoch, where there is no bar and nothing was said for long.
    fn between(&mut self, images: usize, loss: f64, now: Instant) {
        if self.bar.is_some() || !self.pace.is_due(now) {
            return;
        }
        let Some((steps, rate, left)) = self.pace.speed(now) else { return };
        self.print(&format!(
            "epoch {}  {images}/{} images  train loss {loss:.4}  {steps:.2} steps/s  {rate:.1} images/s  {} left",
            self.epoch,
            self.images,
            clock(left)
        ));
        self.pace.said(now);
        self.pace.wait_longer();
    }

    /// Once, when the first steps show what a software adapter means.
    fn estimate(&mut self, now: Instant) {
        // The second step may compile, too; where steps are that slow, it must do.
        if !self.software || (self.pace.steps < 2 && !self.pace.is_due(now)) {
            return;
        }
        let Some((_, rate, left)) = self.pace.speed(now) else { return };
        self.software = false;
        self.print(&format!(
            "warning: on this software adapter the run takes about {} more ({rate:.1} images/s); stop it and use \
             `--backend flex`, which is made for the processor",
            clock(left)
        ));
    }
}

impl Observer for Lines {
    fn epoch_started(&mut self, epoch: usize, epochs: usize, images: usize) {
        let begins = self.epoch.is_empty();
        self.pace.epoch_started(epoch, epochs, images);
        self.epoch = format!("{epoch}/{epochs}");
        self.images = images;
        if begins && self.compiles {
            self.print("compiling kernels: the first step takes a while");
        }
        if self.bar.is_none() {
            self.waiting = (begins && self.compiles).then(Waiting::start);
            return;
        }
        let bar = ProgressBar::new(images as u64);
        let style = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {pos}/{len} images, {elapsed}, {per_sec}, {eta} left, {msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("epoch {epoch}/{epochs}"));
        if begins && self.compiles {
            bar.set_message("compiling kernels");
        }
        // The clock goes on while a step takes long.
        bar.enable_steady_tick(Duration::from_secs(1));
        self.bar = Some(bar);
    }

    fn batch_done(&mut self, images: usize, loss: f64) {
        let now = Instant::now();
        if let Some(first) = self.pace.step_done(images, now)
            && self.compiles
        {
            self.waiting = None;
            self.print(&format!("kernels compiled: the first step took {:.1} s", first.as_secs_f64()));
        }
        self.estimate(now);
        self.between(images, loss, now);
        // Ten times a second is enough for the eye, and costs the training loop nothing.
        if let Some(bar) = &self.bar
            && now - self.last_drawn >= Duration::from_millis(100)
        {
            self.last_drawn = now;
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
        // With several labels a picture the shares are those of pictures with all labels right.
        let map = record.valid_mean_average_precision.map(|map| format!(" mAP {map:.4}"));
        let what = if map.is_some() { "all right" } else { "acc" };
        let map = map.unwrap_or_default();
        self.print(&format!(
            "epoch {:>width$}/{epochs}  train loss {:.4} {what} {:.2}%  valid loss {:.4} {what} {:.2}%{map}  rate {:.2e}  \
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
        self.pace.said(Instant::now());
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
    pub(crate) run: RunFolder,
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
    fn the_rest_of_a_run_follows_from_the_steps_after_the_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(start);
        pace.epoch_started(1, 2, 100);
        // The first step compiles for 20 s; the others take 2 s each.
        assert_eq!(pace.step_done(10, at(20)), Some(Duration::from_secs(20)));
        assert_eq!(pace.speed(at(20)), None);
        assert_eq!(pace.step_done(20, at(22)), None);
        assert_eq!(pace.step_done(30, at(24)), None);
        assert_eq!(pace.speed(at(24)), Some((0.5, 5.0, Duration::from_secs(34))));
        pace.epoch_started(2, 2, 100);
        pace.step_done(10, at(40));
        assert_eq!(pace.speed(at(40)), Some((0.15, 5.0, Duration::from_secs(18))));
    }

    #[test]
    fn lines_come_soon_and_become_rarer() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut lines = Vec::new();
        for second in 1..=240 {
            let now = start + Duration::from_secs(second);
            if pace.is_due(now) {
                lines.push(second);
                pace.said(now);
                pace.wait_longer();
            }
        }
        assert_eq!(lines, [4, 12, 28, 60, 120, 180, 240]);
    }

    #[test]
    fn durations_read_as_a_clock() {
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
    }
}
