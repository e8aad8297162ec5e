//! What happened, as lines of text and as a hash of all of it.

use std::{
    fmt::{Arguments, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use smart_record_sim_clock as clock;

/// The trace of a run. Clones are the same trace.
///
/// Everything enters the hash: what nodes report and each message, with its size and the times at
/// which it was sent and arrives. Messages are left out of the text.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    hash: Sha256,
    text: Option<String>,
    line: String,
}

impl Trace {
    /// A trace that keeps its text.
    #[must_use]
    pub fn with_text() -> Self {
        let inner = Inner { text: Some(String::new()), ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, with the time.
    pub fn line(&self, what: Arguments<'_>) {
        let mut inner = self.lock();
        let mut line = std::mem::take(&mut inner.line);
        line.clear();
        // Writing to a string does not fail.
        let _ = writeln!(line, "{:.3} {what}", clock::elapsed().as_secs_f64());
        inner.hash.update(&line);
        if let Some(text) = &mut inner.text {
            text.push_str(&line);
        }
        inner.line = line;
    }

    /// Adds numbers to the hash alone.
    pub(crate) fn numbers(&self, numbers: &[u64]) {
        let mut inner = self.lock();
        for number in numbers {
            inner.hash.update(number.to_le_bytes());
        }
    }

    /// The hash of all until now, in hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let digest = self.lock().hash.clone().finalize();
        digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The text, if it is kept.
    #[must_use]
    pub fn text(&self) -> String {
        self.lock().text.clone().unwrap_or_default()
    }
}
