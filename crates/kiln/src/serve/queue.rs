//! Requests become batches: a bounded queue and the one thread that runs the network.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{ClassifyError, Scores};
use tokio::sync::oneshot;

use super::budget::Share;
use super::metrics::Metrics;
use super::model_slot::Loaded;

/// How requests are collected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Images that go through the network at once.
    pub(crate) images: usize,
    /// How long the first request waits for others that are on their way.
    pub(crate) wait: Duration,
    /// Requests that may be in progress; more are refused.
    pub(crate) requests: usize,
}

/// Why the network gave no scores.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    /// It panicked.
    Panicked,
    /// The device could not be read.
    Classify(ClassifyError),
}

/// The images of one request.
struct Job {
    loaded: Arc<Loaded>,
    /// `[N, C, H, W]`
    images: Vec<u8>,
    /// What the images hold of the budget.
    _share: Option<Share>,
    answer: oneshot::Sender<Result<Vec<Scores>, Fault>>,
}

impl Job {
    fn len(&self) -> usize {
        self.images.len() / self.loaded.classifier.input().len()
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Images in `jobs`.
    images: usize,
    /// Requests admitted and not yet answered.
    in_progress: usize,
    /// Those of them whose images are still being decoded.
    decoding: usize,
    closed: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limits: BatchLimits,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock; a poisoned queue would still be a sound one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue's way in.
pub(crate) struct Queue {
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

/// A request's place in the queue, given back when it is dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    decoding: bool,
}

impl Queue {
    /// Starts the thread.
    pub(crate) fn start(limits: BatchLimits, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), limits, metrics });
        let own = Arc::clone(&shared);
        let worker = std::thread::Builder::new().name("network".into()).spawn(move || work(&own))?;
        Ok(Self { shared, worker })
    }

    /// A place for one request, or none when the queue is full. `full_too`: another is about to leave for it.
    pub(crate) fn admit(&self, full_too: bool) -> Option<Place> {
        let mut waiting = self.shared.lock();
        if waiting.closed || !full_too && waiting.in_progress >= self.shared.limits.requests {
            return None;
        }
        waiting.in_progress += 1;
        waiting.decoding += 1;
        Some(Place { shared: Arc::clone(&self.shared), decoding: true })
    }

    /// Requests in progress and images that wait for the network.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let waiting = self.shared.lock();
        (waiting.in_progress, waiting.images)
    }

    /// Requests that may be in progress.
    pub(crate) fn limit(&self) -> usize {
        self.shared.limits.requests
    }

    /// Whether the thread is there to answer.
    pub(crate) fn is_alive(&self) -> bool {
        !self.worker.is_finished()
    }
}

impl Drop for Queue {
    /// Ends the thread after the batch it is at. Nobody waits for that: the server is over when its queue is.
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.closed = true;
        waiting.jobs.clear();
        drop(waiting);
        self.shared.changed.notify_all();
    }
}

impl Place {
    /// Puts prepared images `[N, C, H, W]` in line for `loaded`; the receiver gets their scores.
    pub(crate) fn submit(
        &mut self,
        loaded: Arc<Loaded>,
        images: Vec<u8>,
        share: Option<Share>,
    ) -> oneshot::Receiver<Result<Vec<Scores>, Fault>> {
        let (answer, scores) = oneshot::channel();
        let job = Job { loaded, images, _share: share, answer };
        let mut waiting = self.shared.lock();
        waiting.images += job.len();
        waiting.jobs.push_back(job);
        if std::mem::take(&mut self.decoding) {
            waiting.decoding -= 1;
        }
        drop(waiting);
        self.shared.changed.notify_one();
        scores
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.in_progress -= 1;
        if self.decoding {
            waiting.decoding -= 1;
        }
        drop(waiting);
        self.shared.changed.notify_one();
    }
}

fn work(shared: &Shared) {
    while let Some(jobs) = next_batch(shared) {
        run(jobs, &shared.metrics);
    }
}

/// Waits for a request, then for those on their way, no longer than the limit.
fn next_batch(shared: &Shared) -> Option<Vec<Job>> {
    let BatchLimits { images: most, wait, .. } = shared.limits;
    let mut waiting = shared.lock();
    while waiting.jobs.is_empty() {
        if waiting.closed {
            return None;
        }
        waiting = shared.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
    }
    let deadline = Instant::now() + wait;
    // With nobody on the way there is nothing to wait for: a lone client is answered at once.
    while waiting.images < most && waiting.decoding > 0 && !waiting.closed {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        waiting = shared.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    // Requests of one model, the first one always, others as far as they fit.
    let mut jobs: Vec<Job> = Vec::new();
    let mut images = 0;
    while let Some(job) = waiting.jobs.front() {
        let fits =
            images + job.len() <= most && jobs.iter().all(|first| Arc::ptr_eq(&first.loaded, &job.loaded));
        if !(jobs.is_empty() || fits) {
            break;
        }
        images += job.len();
        jobs.extend(waiting.jobs.pop_front());
    }
    waiting.images -= images;
    Some(jobs)
}

/// Runs the network over the images of all jobs at once, and answers each.
fn run(mut jobs: Vec<Job>, metrics: &Metrics) {
    // Whoever hung up needs no answer.
    jobs.retain(|job| !job.answer.is_closed());
    let Some(first) = jobs.first() else { return };
    let loaded = Arc::clone(&first.loaded);
    let images: Vec<u8> = jobs.iter().flat_map(|job| job.images.iter().copied()).collect();
    let started = Instant::now();
    let scores = catch_unwind(AssertUnwindSafe(|| loaded.classifier.scores(&images)));
    let count: usize = jobs.iter().map(Job::len).sum();
    metrics.batch(count, started.elapsed());
    match scores {
        Ok(Ok(scores)) => {
            let mut scores = scores.into_iter();
            for job in jobs {
                let own = scores.by_ref().take(job.len()).collect();
                // A client that has hung up meanwhile.
                drop(job.answer.send(Ok(own)));
            }
        }
        Ok(Err(error)) => {
            tracing::error!("{error}");
            for job in jobs {
                drop(job.answer.send(Err(Fault::Classify(error.clone()))));
            }
        }
        Err(_) => {
            tracing::error!("the network panicked on a batch of {count} images");
            for job in jobs {
                drop(job.answer.send(Err(Fault::Panicked)));
            }
        }
    }
}
