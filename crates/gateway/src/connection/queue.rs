//! A queue that costs one pointer while it is empty.

use std::collections::VecDeque;

/// A first-in, first-out queue. It allocates nothing while it is empty.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a socket has several, and most of the time they are empty")]
pub(super) struct Queue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Queue<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |items| items.len())
    }

    pub(super) fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(super) fn push_front(&mut self, item: T) {
        self.0.get_or_insert_default().push_front(item);
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let items = self.0.as_mut()?;
        let item = items.pop_front();
        if items.is_empty() {
            self.0 = None;
        }
        item
    }
}

impl<T> Extend<T> for Queue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push_back(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_an_empty_queue_is_one_pointer() {
        let mut queue = Queue::default();
        queue.extend([2, 3]);
        queue.push_front(1);
        *queue.front_mut().unwrap() *= 10;
        assert!(!queue.is_empty() && queue.len() == 3);
        assert_eq!([queue.pop_front(), queue.pop_front(), queue.pop_front()], [Some(10), Some(2), Some(3)]);
        assert!(queue.is_empty() && queue.pop_front().is_none() && queue.front_mut().is_none());
        assert_eq!(size_of::<Queue<u32>>(), size_of::<usize>());
    }
}
