//! Damage to valid bytes.

use arbitrary::Arbitrary;

/// One change to some bytes. Positions wrap around.
#[derive(Arbitrary, Clone, Debug)]
pub enum Damage {
    /// Flips bits.
    Flip(u16, u8),
    /// Cuts off the end.
    Truncate(u16),
    /// Inserts a byte.
    Insert(u16, u8),
    /// Copies a range to another position.
    Splice { from: u16, len: u8, to: u16 },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let place = |at: u16| usize::from(at).checked_rem(len).unwrap_or(0);
        match *self {
            _ if len == 0 => {}
            Self::Flip(at, bits) => bytes[place(at)] ^= bits,
            Self::Truncate(at) => bytes.truncate(place(at)),
            Self::Insert(at, byte) => bytes.insert(place(at), byte),
            Self::Splice { from, len, to } => {
                let piece: Vec<u8> =
                    bytes.iter().skip(place(from)).take(len.into()).copied().collect();
                bytes.splice(place(to)..place(to), piece);
            }
        }
    }

    /// Applies all changes in order.
    pub fn all(damage: &[Self], mut bytes: Vec<u8>) -> Vec<u8> {
        damage.iter().for_each(|damage| damage.apply(&mut bytes));
        bytes
    }
}
