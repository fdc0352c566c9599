/// The event numbers that one socket has received of its channel.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// The next number; `None` before the first event.
    next: Option<u64>,
    /// Ranges that were skipped, and may still arrive late.
    missing: Vec<(u64, u64)>,
}

/// What the number of an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first event of the socket.
    First,
    /// The expected event.
    InOrder,
    /// This many events were skipped.
    Gap(u64),
    /// An event that had been skipped: out of order, but not lost.
    Late,
    /// An event that had already arrived.
    Double,
}

impl Sequence {
    /// Takes the next event.
    #[inline]
    pub fn take(&mut self, number: u64) -> Verdict {
        let Some(next) = self.next else {
            self.next = Some(number + 1);
            return Verdict::First;
        };
        if number == next {
            self.next = Some(number + 1);
            return Verdict::InOrder;
        }
        if number > next {
            self.missing.push((next, number));
            self.next = Some(number + 1);
            return Verdict::Gap(number - next);
        }
        self.take_earlier(number)
    }

    fn take_earlier(&mut self, number: u64) -> Verdict {
        let Some(place) = self.missing.iter().position(|(from, to)| (*from..*to).contains(&number)) else {
            return Verdict::Double;
        };
        let (from, to) = self.missing.swap_remove(place);
        self.missing.extend([(from, number), (number + 1, to)].into_iter().filter(|(from, to)| from < to));
        Verdict::Late
    }

    /// The next number; `None` before the first event.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// How many of the events before `end` have not arrived yet, without those that were skipped.
    pub fn behind(&self, end: u64) -> u64 {
        self.next.map_or(0, |next| end.saturating_sub(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(numbers: &[u64]) -> Vec<Verdict> {
        let mut sequence = Sequence::default();
        numbers.iter().map(|number| sequence.take(*number)).collect()
    }

    #[test]
    fn consecutive_numbers_from_any_start_are_in_order() {
        assert_eq!(verdicts(&[7, 8, 9]), [Verdict::First, Verdict::InOrder, Verdict::InOrder]);
    }

    #[test]
    fn loss_is_found_and_counted() {
        assert_eq!(verdicts(&[1, 5, 6]), [Verdict::First, Verdict::Gap(3), Verdict::InOrder]);
    }

    #[test]
    fn a_duplicate_is_found() {
        assert_eq!(verdicts(&[1, 2, 2, 1])[2..], [Verdict::Double, Verdict::Double]);
    }

    #[test]
    fn a_late_event_is_out_of_order_once_and_then_a_duplicate() {
        let seen = verdicts(&[1, 4, 2, 3, 3]);
        assert_eq!(seen[1..], [Verdict::Gap(2), Verdict::Late, Verdict::Late, Verdict::Double]);
    }

    #[test]
    fn missing_events_at_the_end_count_as_behind() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.behind(9), 0);
        sequence.take(4);
        assert_eq!(sequence.behind(9), 4);
    }
}
