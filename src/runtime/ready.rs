//! The inputs that have a record to process, by the timestamp of the record at their head.
//!
//! Which of several equal timestamps goes first is decided by the shape of the heap. Kafka Streams uses a
//! `java.util.PriorityQueue` (`PartitionGroup`), and results depend on it where records are produced in one go, as those of
//! two repartition topics are: so the shape is the same here.

use crate::record::Timestamp;

/// A binary heap with Java's moves. An input is in it at most once.
#[derive(Debug, Default)]
pub(crate) struct Ready(Vec<(Timestamp, usize)>);

impl Ready {
    /// Adds an input whose head has this timestamp.
    pub(crate) fn offer(&mut self, head_ms: Timestamp, input: usize) {
        let heap = &mut self.0;
        heap.push((head_ms, input));
        let mut child = heap.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if heap[child].0 >= heap[parent].0 {
                break;
            }
            heap.swap(child, parent);
            child = parent;
        }
    }

    /// Takes an input with the smallest timestamp.
    pub(crate) fn take(&mut self) -> Option<usize> {
        let heap = &mut self.0;
        if heap.is_empty() {
            return None;
        }
        let (_, first) = heap.swap_remove(0);
        let mut parent = 0;
        loop {
            let (left, right) = (2 * parent + 1, 2 * parent + 2);
            let Some(left_ms) = heap.get(left).map(|entry| entry.0) else { break };
            let child = if heap.get(right).is_some_and(|entry| entry.0 < left_ms) { right } else { left };
            if heap[parent].0 <= heap[child].0 {
                break;
            }
            heap.swap(parent, child);
            parent = child;
        }
        Some(first)
    }

    /// Takes an input with the smallest timestamp among those that `may` go.
    pub(crate) fn take_of(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut kept = Vec::new();
        let mut found = None;
        while found.is_none()
            && let Some(entry) = self.0.first().copied()
        {
            self.take();
            match may(entry.1) {
                true => found = Some(entry.1),
                false => kept.push(entry),
            }
        }
        kept.into_iter().for_each(|(head_ms, input)| self.offer(head_ms, input));
        found
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(heads: &[Timestamp]) -> Ready {
        let mut ready = Ready::default();
        heads.iter().enumerate().for_each(|(input, head_ms)| ready.offer(*head_ms, input));
        ready
    }

    #[test]
    fn the_smallest_goes_first_and_ties_go_as_in_javas_heap() {
        let mut all = ready(&[5, 1, 3]);
        assert_eq!(std::iter::from_fn(|| all.take()).collect::<Vec<_>>(), [1, 2, 0]);
        // Four equal ones: the last entry takes the root's place each time.
        let mut equal = ready(&[7, 7, 7, 7]);
        assert_eq!(std::iter::from_fn(|| equal.take()).collect::<Vec<_>>(), [0, 3, 2, 1]);
    }

    #[test]
    fn two_inputs_with_equal_timestamps_take_turns() {
        let mut ready = ready(&[7, 7]);
        let turns: Vec<_> = (0..4)
            .filter_map(|_| {
                let input = ready.take()?;
                ready.offer(7, input);
                Some(input)
            })
            .collect();
        assert_eq!(turns, [0, 1, 0, 1]);
    }

    #[test]
    fn those_that_may_not_go_stay() {
        let mut all = ready(&[1, 2, 3]);
        assert_eq!(all.take_of(|input| input == 2), Some(2));
        assert_eq!(all.take_of(|input| input > 2), None);
        assert_eq!((all.len(), all.take(), all.take(), all.take()), (2, Some(0), Some(1), None));
    }
}
