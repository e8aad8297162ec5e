//! Makes a failing run smaller.
//!
//! A run is described by options of the command, so a smaller one is a list of options that can be
//! replayed. Each try is a process of its own, because only the first run of a process is
//! determined by its seed.

use std::collections::BTreeSet;

/// The options of a run that a smaller one changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Servers, boards, writers of a board, readers, minutes.
    pub numbers: [u64; 5],
    /// Numbers of the faults that are left out.
    pub skipped: BTreeSet<usize>,
}

/// Options of [`Size::numbers`], with the least value of each.
const NUMBERS: [(&str, u64); 5] =
    [("--servers", 4), ("--boards", 1), ("--writers", 1), ("--readers", 1), ("--minutes", 15)];

impl Size {
    /// As options of the command.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        for ((option, _), number) in NUMBERS.iter().zip(self.numbers) {
            options.extend([(*option).to_owned(), number.to_string()]);
        }
        if !self.skipped.is_empty() {
            let skipped: Vec<String> = self.skipped.iter().map(ToString::to_string).collect();
            options.extend(["--skip".to_owned(), skipped.join(",")]);
        }
        options
    }

    /// The next smaller ones, those that save most first.
    fn smaller(&self, faults: usize) -> Vec<Self> {
        let mut smaller = Vec::new();
        for at in [4, 0, 1, 2, 3] {
            let (least, now) = (NUMBERS[at].1, self.numbers[at]);
            for next in [now / 2, now * 3 / 4, now.saturating_sub(1)] {
                let mut size = self.clone();
                size.numbers[at] = next.max(least);
                if size.numbers[at] < now && !smaller.contains(&size) {
                    smaller.push(size);
                }
            }
        }
        for fault in (0..faults).filter(|fault| !self.skipped.contains(fault)) {
            let mut size = self.clone();
            size.skipped.insert(fault);
            smaller.push(size);
        }
        smaller
    }

    /// The smallest of which `fails` is true that is found in this number of tries.
    pub fn shrink(
        self,
        faults: usize,
        mut tries: u32,
        mut fails: impl FnMut(&Self) -> bool,
    ) -> Self {
        let mut best = self;
        let mut tried = Vec::new();
        'smaller: loop {
            for size in best.smaller(faults) {
                if tries == 0 {
                    return best;
                }
                if tried.contains(&size) {
                    continue;
                }
                tries -= 1;
                if fails(&size) {
                    best = size;
                    continue 'smaller;
                }
                tried.push(size);
            }
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let size = Size { numbers: [30, 4, 3, 4, 240], skipped: BTreeSet::new() };
        let shrunk = size.shrink(3, 1_000, |size| {
            size.numbers[0] >= 7 && size.numbers[4] >= 60 && !size.skipped.contains(&1)
        });
        assert_eq!(shrunk.numbers, [7, 1, 1, 1, 60]);
        assert_eq!(shrunk.skipped, BTreeSet::from([0, 2]));
    }
}
