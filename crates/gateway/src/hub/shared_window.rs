//! What of a channel was compressed right before an entry: the window that all its readers share.
//!
//! A channel's messages that were compressed, in one encoding, are the links of its chain. A link is compressed against the
//! texts of the links right before it, or by itself for whoever has not had them. Its text stands in the receiver's window
//! either way, so that who began with any link soon takes what is compressed against the chain. A reader needs no window
//! here for that, but only the [`WindowPosition`] of links that it had last.

use std::{
    collections::VecDeque,
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::EncodingSlot;

/// Bytes of the links before it against which a link is compressed. Measured on events of the dialects' catalogs, 184 to 278
/// bytes in the mean, with ids, times and words changed at random: of their bytes 0.67 to 0.78 remain without a window (6.7 us
/// each), 0.30 to 0.38 with 2 KiB (7.0 us), 0.27 to 0.33 with 4 KiB (8.1 us), 0.25 to 0.31 with 8 KiB (10.4 us). A reader that
/// comes late takes as many bytes by themselves first.
pub(crate) const WINDOW: usize = 4 << 10;

/// Texts are kept for links that were made up to so many bytes ago: a reader that takes one by itself may come to it
/// before those that take it against the chain.
const KEPT: usize = 2 * WINDOW;

static NEXT_CHAIN: AtomicU64 = AtomicU64::new(1);

/// The chains of one channel, or of one stretch of its log, one for each encoding in which somebody takes it compressed.
#[derive(Debug, Default)]
pub struct SharedWindows(Mutex<Vec<SharedWindow>>);

/// The place of a compressed message in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    chain: NonZeroU64,
    number: u32,
    /// The first link of which something stands in the window; the link itself where nothing does.
    from: u32,
}

/// The links of one chain that a socket has had one after the other, with no other compressed message between or behind them.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowPosition(Option<SegmentRange>);

#[derive(Clone, Copy, Debug)]
struct SegmentRange {
    chain: NonZeroU64,
    first: u32,
    last: u32,
}

/// The end of one chain.
#[derive(Debug)]
pub(super) struct SharedWindow {
    encoding: EncodingSlot,
    id: NonZeroU64,
    /// The number of the next link.
    next: u32,
    /// Where in the channel the last link's entry stands.
    place: i64,
    /// What the last links say, or end with.
    texts: VecDeque<Bytes>,
    /// Bytes of them.
    bytes: usize,
}

impl SharedWindows {
    /// The chain in one encoding. Whoever holds it decides what its next link is.
    pub(super) fn of(&self, encoding: EncodingSlot) -> MappedMutexGuard<'_, SharedWindow> {
        MutexGuard::map(self.0.lock(), |chains| {
            let index = chains.iter().position(|chain| chain.encoding == encoding).unwrap_or_else(|| {
                chains.push(SharedWindow::new(encoding));
                chains.len() - 1
            });
            &mut chains[index]
        })
    }

    /// Forgets every text: what follows begins other chains.
    pub(crate) fn clear(&self) {
        *self.0.lock() = Vec::new();
    }
}

impl SharedWindow {
    fn new(encoding: EncodingSlot) -> Self {
        // The counter does not come round to zero, nor to what a socket remembers.
        let id = NonZeroU64::MIN.saturating_add(NEXT_CHAIN.fetch_add(1, Ordering::Relaxed));
        Self { encoding, id, next: 0, place: i64::MIN, texts: VecDeque::new(), bytes: 0 }
    }

    /// The link that an entry would be; `None` where a later one has become one already: who reads on expects no earlier one.
    pub(super) fn link(&mut self, place: i64) -> Option<Segment> {
        if place <= self.place {
            return None;
        }
        if self.next == u32::MAX {
            *self = Self::new(self.encoding);
        }
        let (mut from, mut bytes) = (self.next, 0);
        for text in self.texts.iter().rev() {
            if bytes >= WINDOW {
                break;
            }
            from -= 1;
            bytes += text.len();
        }
        Some(Segment { chain: self.id, number: self.next, from })
    }

    /// Makes what [`SharedWindow::link`] has just answered the last link.
    pub(super) fn push(&mut self, place: i64, text: &Bytes) {
        // Of something large a copy of its end: the rest is not to stay in memory.
        let tail = text.len().checked_sub(WINDOW).filter(|before| *before > 0);
        let text = tail.map_or_else(|| text.clone(), |before| Bytes::copy_from_slice(&text[before..]));
        (self.place, self.next) = (place, self.next + 1);
        self.bytes += text.len();
        self.texts.push_back(text);
        while let Some(oldest) = self.texts.front()
            && self.bytes - oldest.len() >= KEPT
        {
            self.bytes -= oldest.len();
            self.texts.pop_front();
        }
    }

    /// What stands in the window before a link: the same whenever it is asked for. `None`: it was given up.
    pub(super) fn window(&self, link: Segment) -> Option<Vec<u8>> {
        let oldest = self.next - self.texts.len() as u32;
        if link.chain != self.id || link.from < oldest {
            return None;
        }
        let texts = self.texts.range((link.from - oldest) as usize..(link.number - oldest) as usize);
        let mut excess = texts.clone().map(Bytes::len).sum::<usize>().saturating_sub(WINDOW);
        let mut window = Vec::with_capacity(WINDOW);
        for text in texts {
            let left_out = excess.min(text.len());
            window.extend_from_slice(&text[left_out..]);
            excess -= left_out;
        }
        Some(window)
    }
}

impl WindowPosition {
    /// Whether the receiver's window ends with exactly what stands before the link.
    pub(super) fn leads_to(self, link: Segment) -> bool {
        let is_next =
            |had: SegmentRange| had.chain == link.chain && had.last + 1 == link.number && had.first <= link.from;
        link.from < link.number && self.0.is_some_and(is_next)
    }

    /// A compressed message was taken; `None`: it is no link.
    pub(super) fn took(&mut self, link: Option<Segment>) {
        self.0 = link.map(|link| match self.0 {
            Some(had) if had.chain == link.chain && had.last + 1 == link.number => {
                SegmentRange { last: link.number, ..had }
            }
            _ => SegmentRange { chain: link.chain, first: link.number, last: link.number },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: EncodingSlot = EncodingSlot::new(0);

    fn push(chains: &SharedWindows, place: i64, text: &str) -> Segment {
        let mut chain = chains.of(SLOT);
        let link = chain.link(place).unwrap();
        chain.push(place, &Bytes::from(text.to_owned()));
        link
    }

    #[test]
    fn a_window_is_what_was_said_last_and_stays_the_same() {
        let chains = SharedWindows::default();
        let links: Vec<Segment> =
            ["one", "two", "three"].iter().zip(0..).map(|(text, n)| push(&chains, n, text)).collect();
        for (link, window) in links.into_iter().zip(["", "one", "onetwo"]) {
            assert_eq!(chains.of(SLOT).window(link).unwrap(), window.as_bytes());
        }
        assert_eq!(chains.of(EncodingSlot::new(1)).link(0).unwrap().number, 0, "each encoding has its own");
    }

    #[test]
    fn a_window_and_what_is_kept_are_bounded() {
        let chains = SharedWindows::default();
        push(&chains, 0, &"x".repeat(10 * WINDOW));
        let text = "y".repeat(100);
        let links: Vec<Segment> = (1..500).map(|place| push(&chains, place, &text)).collect();
        let chain = chains.of(SLOT);
        let second = chain.window(links[0]);
        assert_eq!(second, None, "long ago");
        assert_eq!(chain.window(links[498]).unwrap(), "y".repeat(WINDOW).as_bytes());
        assert_eq!(links[498].number - links[498].from, WINDOW.div_ceil(100) as u32);
        assert!(chain.bytes < KEPT + 100 && chain.bytes == chain.texts.iter().map(Bytes::len).sum::<usize>());
        assert_eq!(links[0].from, 0);
    }

    #[test]
    fn of_a_large_text_only_its_end_is_kept() {
        let chains = SharedWindows::default();
        push(&chains, 0, &format!("{}end", "x".repeat(10 * WINDOW)));
        let link = push(&chains, 1, "next");
        let chain = chains.of(SLOT);
        assert_eq!((chain.bytes, link.from), (WINDOW + 4, 0));
        assert!(chain.window(link).unwrap().ends_with(b"xend"));
    }

    #[test]
    fn a_run_leads_to_a_link_whose_whole_window_it_has_had() {
        let chains = SharedWindows::default();
        let text = "z".repeat(WINDOW / 4);
        let links: Vec<Segment> = (0..20).map(|place| push(&chains, place, &text)).collect();
        let mut run = WindowPosition::default();
        assert!(!run.leads_to(links[0]), "there is nothing before it");
        for link in &links[7..12] {
            assert_eq!(run.leads_to(*link), link.number >= 11, "{link:?}");
            run.took(Some(*link));
        }
        assert!(run.leads_to(links[12]) && !run.leads_to(links[13]) && !run.leads_to(links[11]));
        let mut other = run;
        other.took(None);
        assert!(!other.leads_to(links[12]), "something else was between");
        run.took(Some(links[13]));
        assert!(!run.leads_to(links[14]), "one was left out");
    }

    #[test]
    fn no_link_is_put_before_another_and_a_chain_that_was_forgotten_is_not_continued() {
        let chains = SharedWindows::default();
        let before = push(&chains, 5, "five");
        assert_eq!(chains.of(SLOT).link(5), None);
        assert_eq!(chains.of(SLOT).link(4), None);
        chains.clear();
        let after = push(&chains, 4, "four");
        assert!(after.number == 0 && after.chain != before.chain);
        assert_eq!(chains.of(SLOT).window(before), None);
    }

    #[test]
    fn numbers_that_are_used_up_begin_another_chain() {
        let chains = SharedWindows::default();
        let first = push(&chains, 0, "first");
        chains.of(SLOT).next = u32::MAX;
        let next = push(&chains, 1, "next");
        assert!(next.number == 0 && next.from == 0 && next.chain != first.chain);
    }

    #[test]
    fn a_socket_s_run_is_small() {
        assert_eq!(size_of::<WindowPosition>(), 16);
    }
}
