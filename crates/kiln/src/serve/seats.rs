//! The places of connections, and who gives his up when there are none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::metrics::Metrics;

/// Places for connections. One for which the server has waited long enough can be taken by a newcomer: a
/// client that says nothing, or sends or reads slowly, keeps nobody out.
#[derive(Debug)]
pub(crate) struct Seats {
    places: Arc<Semaphore>,
    /// From when on a connection that the server waits for may be closed.
    patience: Duration,
    waiting: Mutex<Waiting>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Connections that the server waits for, in the order in which it began to.
    since: BTreeMap<u64, (Instant, Arc<Notify>)>,
    count: u64,
}

/// A connection's place until dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    /// Its entry in `Waiting` while it has one.
    key: Mutex<Option<u64>>,
    close: Arc<Notify>,
    _place: OwnedSemaphorePermit,
}

impl Seats {
    pub(crate) fn new(count: usize, patience: Duration, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), patience, waiting: Mutex::default(), metrics }
    }

    /// A free place.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        Some(self.seat(Arc::clone(&self.places).try_acquire_owned().ok()?))
    }

    /// The place of the connection that has been waited for longest, if that was long enough.
    pub(crate) async fn take_over(self: &Arc<Self>) -> Option<Seat> {
        {
            let mut waiting = self.lock();
            let (&key, (since, _)) = waiting.since.first_key_value()?;
            if since.elapsed() < self.patience {
                return None;
            }
            let (_, close) = waiting.since.remove(&key)?;
            close.notify_one();
        }
        Some(self.seat(Arc::clone(&self.places).acquire_owned().await.ok()?))
    }

    fn seat(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Seat {
        self.metrics.connection(1);
        let close = Arc::new(Notify::new());
        let seat = Seat { seats: Arc::clone(self), key: Mutex::default(), close, _place: place };
        seat.wait();
        seat
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// From now on the server waits for the client.
    pub(crate) fn wait(&self) {
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.seats.lock();
        if let Some(old) = key.take() {
            waiting.since.remove(&old);
        }
        waiting.count += 1;
        let new = waiting.count;
        waiting.since.insert(new, (Instant::now(), Arc::clone(&self.close)));
        *key = Some(new);
    }

    /// From now on the client waits for the server, who will not close the connection.
    pub(crate) fn work(&self) {
        if let Some(old) = self.key.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.seats.lock().since.remove(&old);
        }
    }

    /// Returns when somebody takes the place over.
    pub(crate) async fn taken(&self) {
        self.close.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.work();
        self.seats.metrics.connection(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(patience: Duration) -> Arc<Seats> {
        Arc::new(Seats::new(2, patience, Arc::new(Metrics::new())))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_newcomer_takes_the_place_that_was_waited_for_longest() {
        run(async {
            let seats = seats(Duration::ZERO);
            let (first, second) = (seats.take().unwrap(), seats.take().unwrap());
            assert!(seats.take().is_none());
            // The first says something: the second is the older one now.
            first.wait();
            let newcomer = tokio::spawn(async move { seats.take_over().await.is_some() });
            second.taken().await;
            drop(second);
            assert!(newcomer.await.unwrap());
        });
    }

    #[test]
    fn who_is_served_or_has_just_come_stays() {
        run(async {
            let at_once = seats(Duration::ZERO);
            let held = (at_once.take().unwrap(), at_once.take().unwrap());
            held.0.work();
            held.1.work();
            assert!(at_once.take_over().await.is_none());
            let later = seats(Duration::from_hours(1));
            let _held = (later.take().unwrap(), later.take().unwrap());
            assert!(later.take_over().await.is_none());
        });
    }
}
