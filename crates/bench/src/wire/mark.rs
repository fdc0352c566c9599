//! The mark in each event: the number of the event in its channel, and when the event was due.
//!
//! A mark is a JSON string of fixed width, made of characters that no envelope escapes. Whatever a system wraps around
//! an event, the mark is found and read in a few nanoseconds: `~n00000012t0000001700000000`.

use memchr::memmem;

/// Length of a mark in bytes.
pub const LENGTH: usize = 27;

const BEGIN: &[u8; 2] = b"~n";
/// Times are written modulo this number of nanoseconds, which is 115 days.
const TIME_MODULUS: u64 = 10_000_000_000_000_000;
/// Numbers are written modulo this.
const MOST: u64 = 100_000_000;

/// The content of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the event in its channel, from 0.
    pub number: u64,
    /// When the event was due, in nanoseconds of the monotonic clock.
    pub time: u64,
}

impl Mark {
    /// Writes the mark over the first [`LENGTH`] bytes of `out`.
    pub fn write(self, out: &mut [u8]) {
        out[..2].copy_from_slice(BEGIN);
        digits(self.number % MOST, &mut out[2..10]);
        out[10] = b't';
        digits(self.time % TIME_MODULUS, &mut out[11..LENGTH]);
    }

    /// The mark at the beginning of `bytes`.
    #[inline]
    pub fn at(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..LENGTH)?;
        if bytes[..2] != *BEGIN || bytes[10] != b't' {
            return None;
        }
        let (high, low) = (eight(&bytes[11..19])?, eight(&bytes[19..LENGTH])?);
        Some(Self { number: eight(&bytes[2..10])?, time: high * MOST + low })
    }

    /// Nanoseconds from the time of the mark to `now`; 0 if that time is ahead.
    #[inline]
    pub fn age(self, now: u64) -> u64 {
        let age = (now % TIME_MODULUS + TIME_MODULUS - self.time) % TIME_MODULUS;
        if age > TIME_MODULUS / 2 { 0 } else { age }
    }
}

/// Finds marks. Tries the place of the last mark first, because frames are much alike.
#[derive(Debug, Default)]
pub struct Finder {
    hint: usize,
}

impl Finder {
    /// The first mark of a payload.
    #[inline]
    pub fn first(&mut self, payload: &[u8]) -> Option<Mark> {
        if let Some(mark) = payload.get(self.hint..).and_then(Mark::at) {
            return Some(mark);
        }
        let (at, mark) = search(payload, 0)?;
        self.hint = at;
        Some(mark)
    }
}

/// All marks in `bytes`, in order.
pub fn all(bytes: &[u8]) -> impl Iterator<Item = Mark> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let (at, mark) = search(bytes, from)?;
        from = at + LENGTH;
        Some(mark)
    })
}

/// How many bytes at the end may be the beginning of a cut mark.
pub fn cut(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(LENGTH - 1)..];
    memchr::memrchr(BEGIN[0], tail).map_or(0, |at| tail.len() - at)
}

fn search(bytes: &[u8], mut from: usize) -> Option<(usize, Mark)> {
    loop {
        let at = from + memmem::find(bytes.get(from..)?, BEGIN)?;
        if let Some(mark) = Mark::at(&bytes[at..]) {
            return Some((at, mark));
        }
        from = at + BEGIN.len();
    }
}

fn digits(mut value: u64, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Parses eight digits at once: pairs, then groups of four, then all.
#[inline]
fn eight(bytes: &[u8]) -> Option<u64> {
    let raw = u64::from_le_bytes(bytes.try_into().ok()?);
    if raw & 0xf0f0_f0f0_f0f0_f0f0 != 0x3030_3030_3030_3030 {
        return None;
    }
    let ones = raw & 0x0f0f_0f0f_0f0f_0f0f;
    let twos = (ones.wrapping_mul(10)).wrapping_add(ones >> 8);
    let high = (twos & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let low = ((twos >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    Some(high.wrapping_add(low) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mark: Mark) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        mark.write(&mut out);
        out
    }

    #[test]
    fn a_written_mark_is_read() {
        for (number, time) in [(0, 0), (7, 1), (12_345_678, 1_234_567_890_123_456), (99_999_999, TIME_MODULUS - 1)] {
            assert_eq!(Mark::at(&written(Mark { number, time })), Some(Mark { number, time }));
        }
    }

    #[test]
    fn a_mark_is_found_at_any_place() {
        let mark = Mark { number: 3, time: 99 };
        let mut finder = Finder::default();
        for before in ["", "{\"type\":\"a\",\"mark\":\"", "42[\"event\",\"{\\\"n\\\":~n~", ""] {
            let payload = [before.as_bytes(), &written(mark), b"\"}"].concat();
            assert_eq!(finder.first(&payload), Some(mark), "{before}");
        }
        assert_eq!(finder.first(b"{\"type\":\"ping\"}"), None);
    }

    #[test]
    fn marks_of_a_stream_are_found_however_it_is_cut() {
        let stream: Vec<u8> = (0..3)
            .flat_map(|number| [b"MSG a 1\r\n".as_slice(), &written(Mark { number, time: 1 })].concat())
            .collect();
        for at in 0..stream.len() {
            let (one, two) = stream.split_at(at);
            let mut numbers: Vec<u64> = all(one).map(|mark| mark.number).collect();
            let carried = &one[one.len() - cut(one)..];
            let carried = if Mark::at(carried).is_some() { b"" } else { carried };
            numbers.extend(all(&[carried, two].concat()).map(|mark| mark.number));
            assert_eq!(numbers, [0, 1, 2], "{at}");
        }
    }

    #[test]
    fn an_age_survives_the_clocks_modulus() {
        let mark = Mark { number: 0, time: TIME_MODULUS - 5 };
        assert_eq!(mark.age(3 * TIME_MODULUS + 7), 12);
        assert_eq!(Mark { number: 0, time: 10 }.age(9), 0);
    }
}
