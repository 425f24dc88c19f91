//! Who waits for which message: by the number of the operation, told by the name of the server that delivered it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Messages that are under way.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>>);

impl Awaited {
    /// Begins to wait for the message of operation `number`.
    pub(super) fn begin(&self, number: u64) -> oneshot::Receiver<String> {
        let (arrived, arrival) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, arrived);
        arrival
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&self, number: u64) {
        self.take(number);
    }

    /// `server` has delivered it.
    pub(super) fn arrived(&self, number: u64, server: String) {
        if let Some(waiting) = self.take(number) {
            // The sender has given up meanwhile: then it is too late.
            let _ = waiting.send(server);
        }
    }

    fn take(&self, number: u64) -> Option<oneshot::Sender<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }
}
