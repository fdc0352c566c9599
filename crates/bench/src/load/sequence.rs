/// The numbers that one socket has seen of its channel.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// The number that comes next; `None` before the first event.
    next: Option<u64>,
    /// Ranges that were passed over, and may still come late.
    missing: Vec<(u64, u64)>,
}

/// What an event's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first that the socket sees.
    First,
    /// The one that was due.
    InOrder,
    /// So many were passed over.
    Gap(u64),
    /// One that had been passed over: not lost, but out of order.
    Late,
    /// One that had been there.
    Double,
}

impl Sequence {
    /// Takes in the next event.
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

    /// The number that comes next; `None` before the first event.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// How many of the events before `end` have not come yet, those apart that were passed over.
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
    fn what_begins_anywhere_and_goes_on_is_in_order() {
        assert_eq!(verdicts(&[7, 8, 9]), [Verdict::First, Verdict::InOrder, Verdict::InOrder]);
    }

    #[test]
    fn loss_is_found_and_counted() {
        assert_eq!(verdicts(&[1, 5, 6]), [Verdict::First, Verdict::Gap(3), Verdict::InOrder]);
    }

    #[test]
    fn a_double_is_found() {
        assert_eq!(verdicts(&[1, 2, 2, 1])[2..], [Verdict::Double, Verdict::Double]);
    }

    #[test]
    fn what_comes_late_is_out_of_order_once_and_then_a_double() {
        let seen = verdicts(&[1, 4, 2, 3, 3]);
        assert_eq!(seen[1..], [Verdict::Gap(2), Verdict::Late, Verdict::Late, Verdict::Double]);
    }

    #[test]
    fn an_end_that_never_came_is_behind() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.behind(9), 0);
        sequence.take(4);
        assert_eq!(sequence.behind(9), 4);
    }
}
