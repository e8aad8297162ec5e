//! Seeded randomness of a process.
//!
//! Kademlia draws random ids, and hash maps are iterated in an order that depends on the system's
//! randomness. Both ask `getrandom`, through the standard library and through the crates of that
//! name. Here the program defines this symbol itself, so the C library's is not used.
//!
//! **Invariants.** The same seed and the same calls give the same bytes. Only one thread draws.

use std::{
    error::Error,
    ffi::{c_uint, c_void},
    fmt::{self, Display, Formatter},
    hash::RandomState,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

/// State of SplitMix64.
static STATE: AtomicU64 = AtomicU64::new(0);

/// The randomness of this process is not that of this package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSeeded {
    /// Hash maps of this thread have drawn their seeds before, or the standard library does not
    /// take the symbol.
    HashMaps,
    /// The crate `getrandom` does not take the symbol.
    Crate,
}

impl Display for NotSeeded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HashMaps => "the seeds of hash maps were not drawn from the seed of the run",
            Self::Crate => "the crate getrandom does not draw from the seed of the run",
        })
    }
}

impl Error for NotSeeded {}

/// Seeds the randomness of this process. Call it first: hash maps take their seeds when the first
/// one is made.
///
/// # Errors
/// [`NotSeeded`] if the standard library or the crate `getrandom` draws from elsewhere.
pub fn seed(seed: u64) -> Result<(), NotSeeded> {
    STATE.store(seed, Ordering::Relaxed);
    let draws = |draw: &dyn Fn()| {
        let before = STATE.load(Ordering::Relaxed);
        draw();
        STATE.load(Ordering::Relaxed) != before
    };
    let draw = || {
        let _ = RandomState::new();
    };
    if !draws(&draw) {
        return Err(NotSeeded::HashMaps);
    }
    let draw = || {
        let _ = getrandom::u64();
    };
    if !draws(&draw) {
        return Err(NotSeeded::Crate);
    }
    Ok(())
}

/// The next number of the process.
fn next() -> u64 {
    split_mix(STATE.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64.
fn split_mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Fills `buffer` from the seeded generator; takes the place of the C library's function.
///
/// # Safety
/// `buffer` has to be valid for writes of `length` bytes, as for the C library's function.
#[expect(unsafe_code, reason = "the symbol that the standard library and the crates ask")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // The crates probe with a dangling pointer and no length.
    if length > 0 {
        // SAFETY: the caller guarantees that `length` bytes may be written at `buffer`.
        let bytes = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
        }
    }
    length.cast_signed()
}

/// A seeded generator of numbers, for decisions of a simulation. It is independent of the
/// randomness of the process.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it has no end, so it gives no options")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        split_mix(self.0)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// A number from 0 up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A generator that is independent of what this one gives later.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }
}
