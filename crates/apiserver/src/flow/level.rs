//! A priority level: its seats, and the queues of those that wait for one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::TooMany;

/// Most seats one request takes, as upstream.
const SEATS_PER_REQUEST_MAX: usize = 10;
/// What a request is taken to need until it has ended, in seat-microseconds.
const ESTIMATE_MICROS: u64 = 3_000;

/// What a PriorityLevelConfiguration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub uid: Arc<str>,
    pub exempt: bool,
    pub shares: usize,
    pub lendable_percent: usize,
    /// Percent of its own seats it may borrow; none stands for any number.
    pub borrowing_limit_percent: Option<usize>,
    /// How many queues; none refuses what finds no seat.
    pub queues: usize,
    pub hand_size: usize,
    pub queue_length_limit: usize,
}

/// A level, with what runs and waits in it.
pub struct Level {
    /// Read without the lock: those that are exempt pay for nothing else.
    exempt: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    /// Seats of its own.
    nominal: usize,
    /// Own seats in use by requests of this level.
    used: usize,
    /// Own seats in use by requests of other levels.
    lent: usize,
    /// Seats of other levels in use by requests of this one.
    borrowed: usize,
    lenders: Vec<Weak<Level>>,
    queues: Vec<Queue>,
    waiting: usize,
}

#[derive(Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    /// What its requests have had, in seat-microseconds; queues with less go first.
    served: u64,
    running: usize,
}

struct Waiter {
    seats: usize,
    turn: oneshot::Sender<Vec<(Arc<Level>, usize)>>,
}

/// Seats, given back when this is dropped.
pub struct Ticket {
    level: Arc<Level>,
    /// Whose seats, and how many.
    seats: Vec<(Arc<Level>, usize)>,
    queue: Option<usize>,
    started: Instant,
}

impl Level {
    /// A level without seats.
    pub fn new(settings: Settings) -> Self {
        let level = Self {
            exempt: AtomicBool::new(false),
            state: Mutex::default(),
        };
        level.configure(settings);
        level
    }

    /// Takes other settings; those that wait go on waiting.
    pub fn configure(&self, settings: Settings) {
        self.exempt.store(settings.exempt, Ordering::Relaxed);
        let mut state = self.state.lock();
        // A queue that is no more is emptied first: its waiters are not moved.
        if settings.queues > state.queues.len() {
            state.queues.resize_with(settings.queues, Queue::default);
        }
        state.settings = settings;
    }

    /// Takes another number of seats.
    pub fn resize(&self, seats: usize, lenders: &[Arc<Level>]) {
        let mut state = self.state.lock();
        state.nominal = seats;
        state.lenders = lenders
            .iter()
            .filter(|lender| !std::ptr::eq(lender.as_ref(), self))
            .map(Arc::downgrade)
            .collect();
    }

    /// Whether requests need no seats.
    pub fn is_exempt(&self) -> bool {
        self.exempt.load(Ordering::Relaxed)
    }

    /// The uid of its configuration.
    pub fn uid(&self) -> Arc<str> {
        self.state.lock().settings.uid.clone()
    }

    /// Its part of the whole.
    pub fn shares(&self) -> usize {
        let state = self.state.lock();
        if state.settings.exempt {
            0
        } else {
            state.settings.shares
        }
    }

    #[cfg(test)]
    pub fn nominal(&self) -> usize {
        self.state.lock().nominal
    }

    /// Waits for seats. Which flow a request is of matters only where it has to wait.
    pub async fn enter(
        self: Arc<Self>,
        flow: impl FnOnce() -> String,
        seats: usize,
        patience: Duration,
    ) -> Result<Ticket, TooMany> {
        let (receiver, queue) = {
            let mut state = self.state.lock();
            let seats = seats.min(SEATS_PER_REQUEST_MAX).min(state.nominal.max(1));
            if state.waiting == 0
                && let Some(taken) = self.take(&mut state, seats)
            {
                return Ok(Ticket {
                    level: self.clone(),
                    seats: taken,
                    queue: None,
                    started: Instant::now(),
                });
            }
            let queue = state.choose(&flow()).ok_or(TooMany)?;
            let (sender, receiver) = oneshot::channel();
            state.join(queue, seats, sender);
            (receiver, queue)
        };
        let waiting = Waiting {
            level: self,
            queue,
            receiver,
        };
        waiting.turn(patience).await
    }

    /// Takes seats, own ones first, then free ones of others. All of one request are of one level.
    fn take(self: &Arc<Self>, state: &mut State, seats: usize) -> Option<Vec<(Arc<Self>, usize)>> {
        if state.used + state.lent + seats <= state.nominal {
            state.used += seats;
            return Some(vec![(self.clone(), seats)]);
        }
        let limit = state.settings.borrowing_limit_percent;
        let limit = limit.map_or(usize::MAX, |percent| {
            (state.nominal * percent).div_ceil(100)
        });
        if state.borrowed + seats > limit {
            return None;
        }
        // Two levels that look at each other must not wait for each other: what is locked is passed by.
        let lender = state
            .lenders
            .iter()
            .filter_map(Weak::upgrade)
            .find(|lender| {
                lender.state.try_lock().is_some_and(|mut other| {
                    let lends = other.lendable() >= seats;
                    if lends {
                        other.lent += seats;
                    }
                    lends
                })
            })?;
        state.borrowed += seats;
        Some(vec![(lender, seats)])
    }

    /// Lets those in whose turn it is.
    fn serve(self: &Arc<Self>, state: &mut State) {
        while let Some(queue) = state.next_queue() {
            let Some(seats) = state.queues[queue]
                .waiters
                .front()
                .map(|waiter| waiter.seats)
            else {
                return;
            };
            let Some(taken) = self.take(state, seats) else {
                return;
            };
            let Some(waiter) = state.leave(queue) else {
                return;
            };
            state.queues[queue].served += ESTIMATE_MICROS * seats as u64;
            state.queues[queue].running += 1;
            if let Err(unwanted) = waiter.turn.send(taken) {
                // It has given up meanwhile.
                state.queues[queue].running -= 1;
                self.give_back_locked(state, &unwanted);
            }
        }
    }

    fn give_back_locked(self: &Arc<Self>, state: &mut State, seats: &[(Arc<Self>, usize)]) {
        for (owner, count) in seats {
            if Arc::ptr_eq(owner, self) {
                state.used -= count;
            } else {
                state.borrowed -= count;
                // The order of locks is kept by never waiting for a second one.
                if let Some(mut other) = owner.state.try_lock() {
                    other.lent -= count;
                } else {
                    let (owner, count) = (owner.clone(), *count);
                    tokio::spawn(async move { owner.returned(count) });
                }
            }
        }
    }

    /// Lent seats are back.
    fn returned(self: &Arc<Self>, seats: usize) {
        let mut state = self.state.lock();
        state.lent -= seats;
        self.serve(&mut state);
    }

    fn finished(self: &Arc<Self>, ticket: &Ticket) {
        let (mut own, mut borrowed) = (0, 0);
        for (owner, count) in &ticket.seats {
            if Arc::ptr_eq(owner, self) {
                own += count;
            } else {
                borrowed += count;
                owner.returned(*count);
            }
        }
        let mut state = self.state.lock();
        state.used -= own;
        state.borrowed -= borrowed;
        if let Some(queue) = ticket.queue
            && let Some(queue) = state.queues.get_mut(queue)
        {
            let seats = (own + borrowed) as u64;
            let taken = u64::try_from(ticket.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            queue.served = (queue.served + taken.saturating_mul(seats))
                .saturating_sub(ESTIMATE_MICROS * seats);
            queue.running -= 1;
        }
        self.serve(&mut state);
    }
}

impl State {
    /// Own seats that others may have now.
    fn lendable(&self) -> usize {
        // Who has waiters of its own lends nothing.
        if self.waiting > 0 || self.settings.exempt {
            return 0;
        }
        let most = self.nominal * self.settings.lendable_percent.min(100) / 100;
        let free = self.nominal.saturating_sub(self.used + self.lent);
        free.min(most.saturating_sub(self.lent))
    }

    /// The queue a new request of a flow joins: the shortest of those the flow has been dealt.
    fn choose(&self, flow: &str) -> Option<usize> {
        let count = self.settings.queues.min(self.queues.len());
        if count == 0 {
            return None;
        }
        let hand = deal(flow, count, self.settings.hand_size);
        let length = |queue: &usize| {
            let queue = &self.queues[*queue];
            (queue.waiters.len(), queue.running)
        };
        let queue = hand.into_iter().min_by_key(length)?;
        (self.queues[queue].waiters.len() < self.settings.queue_length_limit).then_some(queue)
    }

    fn join(
        &mut self,
        queue: usize,
        seats: usize,
        turn: oneshot::Sender<Vec<(Arc<Level>, usize)>>,
    ) {
        let least = self
            .queues
            .iter()
            .filter(|queue| !queue.waiters.is_empty())
            .map(|queue| queue.served)
            .min();
        let queue = &mut self.queues[queue];
        // A queue that has been idle does not save up turns.
        if queue.waiters.is_empty() && queue.running == 0 {
            queue.served = queue.served.max(least.unwrap_or(0));
        }
        queue.waiters.push_back(Waiter { seats, turn });
        self.waiting += 1;
    }

    fn leave(&mut self, queue: usize) -> Option<Waiter> {
        let waiter = self.queues[queue].waiters.pop_front()?;
        self.waiting -= 1;
        Some(waiter)
    }

    /// The queue whose turn it is: that which has had least.
    fn next_queue(&self) -> Option<usize> {
        self.queues
            .iter()
            .enumerate()
            .filter(|(_, queue)| !queue.waiters.is_empty())
            .min_by_key(|(_, queue)| queue.served)
            .map(|(index, _)| index)
    }
}

/// Which queues a flow is dealt: always the same ones, different from most other flows'.
fn deal(flow: &str, queues: usize, hand_size: usize) -> Vec<usize> {
    let digest = Sha256::digest(flow.as_bytes());
    let mut value = digest
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mut deck: Vec<usize> = (0..queues).collect();
    let mut hand = Vec::new();
    for _ in 0..hand_size.min(queues) {
        let cards = deck.len() as u64;
        let card = (value % cards) as usize;
        value /= cards;
        hand.push(deck.swap_remove(card));
    }
    hand
}

/// A request in a queue.
struct Waiting {
    level: Arc<Level>,
    queue: usize,
    receiver: oneshot::Receiver<Vec<(Arc<Level>, usize)>>,
}

impl Waiting {
    async fn turn(mut self, patience: Duration) -> Result<Ticket, TooMany> {
        let outcome = tokio::time::timeout(patience, &mut self.receiver).await;
        match outcome {
            Ok(Ok(seats)) => Ok(Ticket {
                level: self.level.clone(),
                seats,
                queue: Some(self.queue),
                started: Instant::now(),
            }),
            _ => Err(TooMany),
        }
    }
}

impl Drop for Waiting {
    /// Who gives up leaves the queue; a turn that has come just then is passed on.
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(seats) = self.receiver.try_recv() {
            let ticket = Ticket {
                level: self.level.clone(),
                seats,
                queue: Some(self.queue),
                started: Instant::now(),
            };
            drop(ticket);
            return;
        }
        let mut state = self.level.state.lock();
        let Some(queue) = state.queues.get_mut(self.queue) else {
            return;
        };
        let before = queue.waiters.len();
        queue.waiters.retain(|waiter| !waiter.turn.is_closed());
        let left = before - queue.waiters.len();
        state.waiting -= left;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.level.clone().finished(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(seats: usize, queues: usize, limit: usize) -> Arc<Level> {
        let level = Arc::new(Level::new(Settings {
            shares: 1,
            queues,
            hand_size: 2.min(queues),
            queue_length_limit: limit,
            ..Settings::default()
        }));
        level.resize(seats, &[]);
        level
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn seats_are_limited_and_come_back() {
        let level = level(2, 0, 0);
        let enter = || level.clone().enter(|| "f".to_owned(), 1, LONG);
        let (one, two) = (enter().await, enter().await);
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(enter().await.err(), Some(TooMany));
        drop(one);
        assert!(enter().await.is_ok());
    }

    #[tokio::test]
    async fn a_queue_has_an_end_and_patience_too() {
        let level = level(1, 1, 1);
        let running = level
            .clone()
            .enter(|| "f".to_owned(), 1, LONG)
            .await
            .expect("free");
        let first = tokio::spawn(level.clone().enter(|| "f".to_owned(), 1, LONG));
        tokio::task::yield_now().await;
        assert!(
            level
                .clone()
                .enter(|| "f".to_owned(), 1, LONG)
                .await
                .is_err(),
            "the queue is full"
        );
        drop(running);
        let second = first.await.expect("no panic").expect("its turn");
        let third = level
            .clone()
            .enter(|| "f".to_owned(), 1, Duration::from_millis(5))
            .await;
        assert!(third.is_err(), "patience ends");
        assert_eq!(level.state.lock().waiting, 0);
        drop(second);
        assert!(
            level
                .clone()
                .enter(|| "f".to_owned(), 1, LONG)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_flood_of_one_flow_leaves_others_their_turns() {
        let level = level(1, 64, 1_000);
        let running = level
            .clone()
            .enter(|| "flood".to_owned(), 1, LONG)
            .await
            .expect("free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        let mut start = |flow: &'static str| {
            let (level, order) = (level.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let ticket = level
                    .enter(|| flow.to_owned(), 1, LONG)
                    .await
                    .expect("its turn");
                order.lock().push(flow);
                drop(ticket);
            }));
        };
        for _ in 0..500 {
            start("flood");
        }
        tokio::task::yield_now().await;
        start("quiet");
        tokio::task::yield_now().await;
        drop(running);
        for task in tasks {
            task.await.expect("no panic");
        }
        let place = order.lock().iter().position(|flow| *flow == "quiet");
        assert!(
            place.expect("served") < 10,
            "served as number {place:?} of 501"
        );
    }

    #[tokio::test]
    async fn free_seats_are_lent_and_never_lost() {
        let (rich, poor) = (level(4, 1, 10), level(1, 1, 10));
        rich.configure(Settings {
            lendable_percent: 50,
            queues: 1,
            hand_size: 1,
            queue_length_limit: 10,
            ..Settings::default()
        });
        let all = [rich.clone(), poor.clone()];
        rich.resize(4, &all);
        poor.resize(1, &all);
        let enter = |level: &Arc<Level>| {
            level
                .clone()
                .enter(|| "f".to_owned(), 1, Duration::from_millis(1))
        };
        let mut tickets = Vec::new();
        for _ in 0..3 {
            tickets.push(enter(&poor).await.expect("own or lent"));
        }
        assert!(
            enter(&poor).await.is_err(),
            "half of the seats are not lent"
        );
        tickets.push(enter(&rich).await.expect("kept"));
        tickets.push(enter(&rich).await.expect("kept"));
        assert!(enter(&rich).await.is_err());
        drop(tickets);
        for level in &all {
            let state = level.state.lock();
            assert_eq!(
                (state.used, state.lent, state.borrowed, state.waiting),
                (0, 0, 0, 0)
            );
        }
    }

    #[test]
    fn flows_are_dealt_different_hands() {
        assert_eq!(deal("a", 64, 6), deal("a", 64, 6));
        assert_ne!(deal("a", 64, 6), deal("b", 64, 6));
        let mut hand = deal("c", 8, 8);
        hand.sort_unstable();
        assert_eq!(hand, (0..8).collect::<Vec<_>>());
    }
}
