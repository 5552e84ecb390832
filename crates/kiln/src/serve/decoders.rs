//! Which picture is decoded next: few at a time, the cheapest first, within a budget of bytes.
//!
//! Whatever is asked, a small picture waits for those that have begun and for no other: large ones leave a slot
//! to the small, wait behind them, and are refused when they have waited too long.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::problem::Problem;

/// What costs more is large: it never takes the last slot, and gives way when too many requests wait.
const LARGE: u64 = 8 << 20;

/// What differs little is served in the order of its coming.
fn rank(bytes: u64) -> u64 {
    bytes.div_ceil(LARGE / 2).max(1)
}

/// Slots for decoding.
#[derive(Debug)]
pub(crate) struct Decoders {
    state: Mutex<State>,
    /// Pictures that are decoded at the same time.
    slots: usize,
    /// Bytes that they may take together.
    budget: u64,
    /// How long a picture waits for its turn.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Slots in use, those of large pictures, and the bytes of all.
    busy: usize,
    large: usize,
    bytes: u64,
    /// By [`rank`], then in the order of their coming.
    waiting: BTreeMap<(u64, u64), (u64, oneshot::Sender<Slot>)>,
    count: u64,
}

/// Leave to decode a picture, until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    decoders: Arc<Decoders>,
    bytes: u64,
}

impl Slot {
    /// What it was given for.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.decoders.lock();
        state.busy -= 1;
        state.large -= usize::from(self.bytes > LARGE);
        state.bytes -= self.bytes;
        drop(state);
        self.decoders.hand_out();
    }
}

/// A picture in the line; leaves it when the request is given up.
struct Waiting<'a> {
    decoders: &'a Decoders,
    key: (u64, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.decoders.lock().waiting.remove(&self.key);
    }
}

impl Decoders {
    /// A slot for each core and one that is left to the small, and `budget` bytes for all.
    pub(crate) fn new(cores: usize, budget: u64, patience: Duration) -> Self {
        Self { state: Mutex::default(), slots: cores + 1, budget, patience }
    }

    /// The most that one picture may cost.
    pub(crate) fn most(&self) -> u64 {
        // What is left serves the small beside it.
        self.budget - LARGE
    }

    /// Waits for a slot for a picture that costs so many bytes.
    ///
    /// # Errors
    /// A picture that costs more than [`Self::most`], or whose turn does not come.
    pub(crate) async fn slot(self: &Arc<Self>, bytes: u64) -> Result<Slot, Problem> {
        if bytes > self.most() {
            return Err(Problem::too_large(format!(
                "the image would take {} MiB to decode and fit; expected at most {} MiB (the flag --image-memory)",
                bytes >> 20,
                self.most() >> 20
            )));
        }
        let (sender, receiver) = oneshot::channel();
        let key = {
            let mut state = self.lock();
            state.count += 1;
            let key = (rank(bytes), state.count);
            state.waiting.insert(key, (bytes, sender));
            key
        };
        let _waiting = Waiting { decoders: self, key };
        self.hand_out();
        match timeout(self.patience, receiver).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(Problem::busy("too many images are being decoded; try again")),
        }
    }

    /// Refuses the most expensive of the large pictures that wait; says whether there was one.
    pub(crate) fn give_way(&self) -> bool {
        let mut state = self.lock();
        let last = state.waiting.last_entry().filter(|last| last.get().0 > LARGE);
        last.map(OccupiedEntry::remove).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts are complete whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(self: &Arc<Self>) {
        while let Some((sender, slot)) = self.next() {
            // Whoever has gone gives it back, here and without the lock.
            drop(sender.send(slot));
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Slot>, Slot)> {
        let mut state = self.lock();
        let (_, &(bytes, _)) = state.waiting.first_key_value()?;
        let large = bytes > LARGE;
        let fits = state.busy < self.slots
            && state.bytes + bytes <= self.budget
            && !(large && state.large + 1 >= self.slots);
        // Those behind cost about as much or more.
        if !fits {
            return None;
        }
        let (_, (_, sender)) = state.waiting.pop_first()?;
        state.busy += 1;
        state.large += usize::from(large);
        state.bytes += bytes;
        drop(state);
        Some((sender, Slot { decoders: Arc::clone(self), bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    const SMALL: u64 = 1 << 20;
    const LONG: Duration = Duration::from_mins(2);
    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn large_pictures_leave_a_slot_and_wait_behind_the_small() {
        run(async {
            let decoders = Arc::new(Decoders::new(1, 96 << 20, LONG));
            let first = decoders.slot(30 << 20).await.unwrap();
            let own = Arc::clone(&decoders);
            let second = tokio::spawn(async move { own.slot(25 << 20).await });
            tokio::task::yield_now().await;
            // There is a slot and there are bytes, but not for another large one.
            let small = decoders.slot(SMALL).await.unwrap();
            assert!(!second.is_finished());
            let own = Arc::clone(&decoders);
            let third = tokio::spawn(async move { own.slot(SMALL).await.map(|slot| slot.bytes()) });
            tokio::task::yield_now().await;
            drop(first);
            assert_eq!(third.await.unwrap().unwrap(), SMALL);
            drop(small);
            assert_eq!(second.await.unwrap().unwrap().bytes(), 25 << 20);
        });
    }

    #[test]
    fn who_asks_for_a_little_less_does_not_come_first() {
        run(async {
            let decoders = Arc::new(Decoders::new(1, 96 << 20, LONG));
            let held = [decoders.slot(SMALL).await.unwrap(), decoders.slot(SMALL).await.unwrap()];
            let order = Arc::new(Mutex::new(Vec::new()));
            let asked = [3 * SMALL, SMALL, 30 * SMALL, 2 * SMALL].map(|bytes| {
                let (own, order) = (Arc::clone(&decoders), Arc::clone(&order));
                tokio::spawn(async move {
                    let slot = own.slot(bytes).await.unwrap();
                    order.lock().unwrap().push(slot.bytes() / SMALL);
                })
            });
            tokio::task::yield_now().await;
            drop(held);
            for task in asked {
                task.await.unwrap();
            }
            assert_eq!(*order.lock().unwrap(), [3, 1, 2, 30]);
        });
    }

    #[test]
    fn the_bytes_of_all_are_bounded() {
        run(async {
            let decoders = Arc::new(Decoders::new(64, 64 << 20, SHORT));
            let mut held = Vec::new();
            while let Ok(slot) = decoders.slot(14 << 20).await {
                held.push(slot);
            }
            assert_eq!(held.len(), 4);
            let problem = format!("{:?}", decoders.slot(57 << 20).await.unwrap_err());
            assert!(problem.contains("at most 56 MiB"), "{problem}");
        });
    }

    #[test]
    fn who_gives_way_or_is_given_up_leaves_the_line() {
        run(async {
            let decoders = Arc::new(Decoders::new(1, 96 << 20, LONG));
            let held = decoders.slot(32 << 20).await.unwrap();
            assert!(!decoders.give_way(), "nobody waits");
            let waiting = |bytes: u64| {
                let own = Arc::clone(&decoders);
                tokio::spawn(async move { own.slot(bytes).await })
            };
            let (given_up, larger) = (waiting(32 << 20), waiting(33 << 20));
            tokio::task::yield_now().await;
            assert!(decoders.give_way());
            assert!(larger.await.unwrap().is_err());
            given_up.abort();
            assert!(given_up.await.is_err());
            drop(held);
            let state = decoders.lock();
            assert_eq!((state.busy, state.large, state.bytes, state.waiting.len()), (0, 0, 0, 0));
        });
    }

    #[test]
    fn who_has_waited_too_long_is_refused() {
        run(async {
            let decoders = Arc::new(Decoders::new(1, 96 << 20, SHORT));
            let _held = decoders.slot(32 << 20).await.unwrap();
            assert!(decoders.slot(32 << 20).await.is_err());
            assert_eq!(decoders.lock().waiting.len(), 0);
        });
    }
}
