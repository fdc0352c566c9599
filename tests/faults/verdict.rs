//! Counts what went wrong during a fault.

use std::{collections::BTreeSet, fmt, io::Write, time::Duration};

use crate::reader::Reader;

/// What went wrong for one reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Missing events that no `reset` reports.
    pub lost: u64,
    /// Missing events that a `reset` reports.
    pub told: u64,
    /// Repeated events.
    pub doubled: u64,
    /// Repeated events after a `reset`, which announces them.
    pub again: u64,
    /// Events that came after a later one.
    pub disordered: u64,
    pub resets: u64,
    pub gaps: u64,
}

impl Faults {
    fn with(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            lost: of(self.lost, other.lost),
            told: of(self.told, other.told),
            doubled: of(self.doubled, other.doubled),
            again: of(self.again, other.again),
            disordered: of(self.disordered, other.disordered),
            resets: of(self.resets, other.resets),
            gaps: of(self.gaps, other.gaps),
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        *self = self.with(more, |a, b| a + b);
    }

    /// The difference to `before`. A missing event that has come since is no longer lost.
    pub(crate) fn since(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }
}

/// Follows the event numbers of one reader, which should be 1, 2, 3 …
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    highest: u64,
    missing: BTreeSet<u64>,
    /// Whether no new event has come since the last `reset`.
    is_reset: bool,
    faults: Faults,
}

impl Ledger {
    pub(crate) fn event(&mut self, n: u64) {
        let skipped = self.highest + 1..n;
        if n <= self.highest && self.missing.remove(&n) {
            self.faults.disordered += 1;
        } else if n <= self.highest && self.is_reset {
            self.faults.again += 1;
        } else if n <= self.highest {
            self.faults.doubled += 1;
        } else {
            if std::mem::take(&mut self.is_reset) {
                self.faults.told += skipped.end - skipped.start;
            } else {
                self.missing.extend(skipped);
            }
            self.highest = n;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.faults.resets += 1;
        self.is_reset = true;
    }

    pub(crate) fn gap(&mut self) {
        self.faults.gaps += 1;
    }

    /// The highest number so far.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The faults so far. Events that have not come yet do not count.
    pub(crate) fn faults(&self) -> Faults {
        Faults { lost: self.missing.len() as u64, ..self.faults }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub fault: String,
    pub replicas: usize,
    /// The number of the last event.
    pub events: u64,
    /// The faults of each reader, with a description of the reader.
    pub readers: Vec<(String, Faults)>,
    /// The longest time between two events for any reader, including the fault.
    pub silence: Duration,
}

/// The header of the table whose rows are [`Verdict`]s.
pub(crate) const HEAD: &str = "\
| fault | replicas | readers | events each | lost | doubled | disordered | resets | longest silence |
|---|---|---|---|---|---|---|---|---|";

impl Verdict {
    pub(crate) fn of(fault: &str, replicas: usize, readers: &[Reader], events: u64) -> Self {
        let judged = readers.iter().map(|reader| {
            let seen = reader.seen();
            let about = format!("{:?} {} sockets {}", reader.kind, reader.channel, seen.connected.len());
            (about, seen.ledger.faults())
        });
        let silence = readers.iter().map(|reader| reader.seen().silence).max().unwrap_or_default();
        Self { fault: fault.to_owned(), replicas, events, readers: judged.collect(), silence }
    }

    fn sum(&self, of: impl Fn(&Faults) -> u64) -> u64 {
        self.readers.iter().map(|(_, faults)| of(faults)).sum()
    }

    /// Prints the row to the real standard output, which the test harness does not capture.
    pub(crate) fn print(&self) {
        let _ = writeln!(std::io::stderr(), "{self}");
    }

    /// Asserts that every reader got everything once and in order, without a reset or a gap.
    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let odd: Vec<_> = self.readers.iter().filter(|(_, faults)| *faults != Faults::default()).collect();
        assert!(odd.is_empty(), "{}: {odd:#?}", self.fault);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, replicas, events, readers, silence } = self;
        let [lost, doubled, disordered, resets] =
            [self.sum(|f| f.lost), self.sum(|f| f.doubled), self.sum(|f| f.disordered), self.sum(|f| f.resets)];
        write!(
            f,
            "| {fault} | {replicas} | {} | {events} | {lost} | {doubled} | {disordered} | {resets} | {:.1} s |",
            readers.len(),
            silence.as_secs_f64()
        )
    }
}

/// Without this test, the suite might never fail.
#[cfg(test)]
mod tests {
    use super::*;

    /// In `numbers`, `0` stands for a reset.
    fn faults(numbers: &[u64]) -> Faults {
        let mut ledger = Ledger::default();
        for &n in numbers {
            match n {
                0 => ledger.reset(),
                n => ledger.event(n),
            }
        }
        ledger.faults()
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let none = Faults::default();
        assert_eq!(faults(&[1, 2, 3]), none);
        assert_eq!(faults(&[1, 4]), Faults { lost: 2, ..none });
        assert_eq!(faults(&[2]), Faults { lost: 1, ..none });
        assert_eq!(faults(&[1, 2, 2, 3]), Faults { doubled: 1, ..none });
        assert_eq!(faults(&[1, 3, 2]), Faults { disordered: 1, ..none });
        assert_eq!(faults(&[1, 3, 2, 2]), Faults { disordered: 1, doubled: 1, ..none });
        assert_eq!(faults(&[1, 2, 0, 6, 7]), Faults { told: 3, resets: 1, ..none });
        assert_eq!(faults(&[1, 2, 0, 1, 2, 6, 7]), Faults { told: 3, again: 2, resets: 1, ..none });
        assert_eq!(faults(&[1, 2, 0, 3, 6]), Faults { lost: 2, resets: 1, ..none });
    }
}
