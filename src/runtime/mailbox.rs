//! Bounded queues between loops, with coalesced wake-ups.
//!
//! A loop has one [`Doorbell`] for all of its mailboxes. Senders put in what they have and ring
//! once; the bell wakes the loop only if it was not ringing yet, so a burst costs one wake-up. The
//! loop silences the bell *before* it empties the boxes: what comes in between rings again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::{Registry, Token, Waker};

/// Wakes a loop out of its poll.
#[derive(Debug, Clone)]
pub struct Doorbell {
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    waker: Waker,
    ringing: AtomicBool,
}

impl Doorbell {
    /// A bell for the loop of this registry.
    ///
    /// # Errors
    /// When the system has no more event descriptors.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Waker::new(registry, token)?;
        Ok(Self {
            bell: Arc::new(Bell {
                waker,
                ringing: AtomicBool::new(false),
            }),
        })
    }

    /// Wakes the loop, unless it has been woken and did not look yet.
    pub fn ring(&self) {
        if !self.bell.ringing.swap(true, Ordering::AcqRel)
            && let Err(error) = self.bell.waker.wake()
        {
            log::error!("cannot wake a loop: {error}");
        }
    }

    /// To be called by the loop before it empties its mailboxes.
    pub fn silence(&self) {
        self.bell.ringing.store(false, Ordering::Release);
    }
}

/// The sending side of a mailbox.
#[derive(Debug)]
pub struct Postbox<T> {
    sender: Sender<T>,
    doorbell: Option<Doorbell>,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            doorbell: self.doorbell.clone(),
        }
    }
}

impl<T> Postbox<T> {
    /// Puts a message in without waking anybody; call [`Self::ring`] after the last one.
    ///
    /// # Errors
    /// Gives the message back when the box is full or its loop has ended.
    pub fn put(&self, message: T) -> Result<(), T> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })
    }

    /// Puts in a message that may be lost, only while at least half of the box is free: the rest is
    /// kept for messages that may not.
    ///
    /// # Errors
    /// Gives the message back when the box is half full or its loop has ended.
    pub fn put_if_roomy(&self, message: T) -> Result<(), T> {
        let half = self.sender.capacity().unwrap_or(usize::MAX) / 2;
        if self.sender.len() >= half.max(1) {
            return Err(message);
        }
        self.put(message)
    }

    /// Wakes the loop that empties the box.
    pub fn ring(&self) {
        if let Some(doorbell) = &self.doorbell {
            doorbell.ring();
        }
    }

    /// Puts a message in and wakes the loop.
    ///
    /// # Errors
    /// Gives the message back when the box is full or its loop has ended.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.put(message)?;
        self.ring();
        Ok(())
    }
}

/// The receiving side of a mailbox.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<T>,
}

impl<T> Mailbox<T> {
    /// Takes a message, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Waits for a message; `None` when all postboxes are gone. For threads without a poll loop.
    #[must_use]
    pub fn wait(&self) -> Option<T> {
        self.receiver.recv().ok()
    }

    /// Waits for a message until a moment. `Err(true)`: all postboxes are gone.
    ///
    /// # Errors
    /// `Err(false)` when the moment came first.
    pub fn wait_until(&self, deadline: std::time::Instant) -> Result<T, bool> {
        self.receiver
            .recv_deadline(deadline)
            .map_err(|error| error.is_disconnected())
    }
}

/// A mailbox for `capacity` messages that wakes by `doorbell`, or, without one, whoever waits in
/// [`Mailbox::wait`].
#[must_use]
pub fn mailbox<T>(capacity: usize, doorbell: Option<Doorbell>) -> (Postbox<T>, Mailbox<T>) {
    let (sender, receiver) = bounded(capacity);
    (Postbox { sender, doorbell }, Mailbox { receiver })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    #[test]
    fn a_full_box_gives_the_message_back() {
        let (postbox, mailbox) = mailbox(1, None);
        assert_eq!(postbox.put(1), Ok(()));
        assert_eq!(postbox.put(2), Err(2));
        assert_eq!(mailbox.take(), Some(1));
        assert_eq!(mailbox.take(), None);
    }

    #[test]
    fn messages_that_may_be_lost_leave_room_for_others() {
        let (postbox, _mailbox) = mailbox(4, None);
        assert_eq!(postbox.put_if_roomy(1), Ok(()));
        assert_eq!(postbox.put_if_roomy(2), Ok(()));
        assert_eq!(postbox.put_if_roomy(3), Err(3));
        assert_eq!(postbox.put(4), Ok(()));
    }

    #[test]
    fn the_bell_wakes_the_poll_once_per_silence() {
        let mut poll = Poll::new().unwrap();
        let bell = Doorbell::new(poll.registry(), Token(7)).unwrap();
        let (postbox, mailbox) = mailbox(8, Some(bell.clone()));
        let mut events = Events::with_capacity(8);
        for message in 0..3 {
            postbox.post(message).unwrap();
        }
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(events.iter().count(), 1);
        bell.silence();
        assert_eq!(std::iter::from_fn(|| mailbox.take()).count(), 3);
        postbox.post(3).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(events.iter().count(), 1);
    }
}
