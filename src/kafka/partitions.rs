//! Partitions on both sides of the border: what a consumer holds, and librdkafka's lists of them.

use super::client;
use super::code;
use crate::broker::{Committed, TopicPartition};
use crate::error::Result;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use std::collections::HashSet;
use std::sync::Arc;

/// One partition that a consumer fetches.
pub(super) struct Held {
    pub(super) name: TopicPartition,
    /// The offset of the next record to come out of `poll`, or a logical one at first.
    pub(super) position: i64,
    pub(super) paused: bool,
    /// The last that came of it was its end, not a record.
    pub(super) at_end: bool,
}

/// The partitions of a consumer, found by librdkafka's handles without comparing names for every record.
#[derive(Default)]
pub(super) struct Partitions {
    held: Vec<Held>,
    /// Handle and partition → index in `held`. Handles live as long as partitions of the topic are assigned, so
    /// this is emptied whenever the assignment changes.
    handles: Vec<(*mut sys::rd_kafka_topic_t, i32, usize)>,
    /// One copy of every topic's name, for all that ever come.
    topics: HashSet<Arc<str>>,
}

impl Partitions {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut()
    }

    pub(super) fn get(&self, index: usize) -> &Held {
        &self.held[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Held {
        &mut self.held[index]
    }

    /// Holds one more, or the same one from another position.
    pub(super) fn add(&mut self, name: &TopicPartition, position: i64) {
        self.handles.clear();
        match self.held.iter_mut().find(|held| held.name == *name) {
            Some(held) => (held.position, held.at_end) = (position, false),
            None => self.held.push(Held { name: name.clone(), position, paused: false, at_end: false }),
        }
    }

    pub(super) fn remove(&mut self, names: &[TopicPartition]) {
        self.handles.clear();
        self.held.retain(|held| !names.contains(&held.name));
    }

    /// The partition of a message.
    ///
    /// # Safety
    /// `topic` must be alive.
    pub(super) unsafe fn index(&mut self, topic: *mut sys::rd_kafka_topic_t, partition: i32) -> Option<usize> {
        if let Some(&(.., index)) = self.handles.iter().find(|&&(t, p, _)| t == topic && p == partition) {
            return Some(index);
        }
        // SAFETY: the topic is alive.
        let name = unsafe { client::text(sys::rd_kafka_topic_name(topic)) };
        let index = self.held.iter().position(|h| h.name.partition == partition && *h.name.topic == *name)?;
        self.handles.push((topic, partition, index));
        Some(index)
    }

    /// The held partition of this name.
    pub(super) fn name(&self, topic: &str, partition: i32) -> Option<TopicPartition> {
        self.held.iter().map(|h| &h.name).find(|n| n.partition == partition && *n.topic == *topic).cloned()
    }

    /// Everything of this partition up to `offset` has come.
    pub(super) fn reached_end(&mut self, name: &TopicPartition, offset: i64) {
        if let Some(held) = self.held.iter_mut().find(|held| held.name == *name) {
            (held.position, held.at_end) = (held.position.max(offset), true);
        }
    }

    /// Names that share their topics' strings.
    pub(super) fn names(&mut self, list: Vec<(String, i32)>) -> Vec<TopicPartition> {
        let intern = |(topic, partition): (String, i32)| {
            let topic = self.topics.get(&*topic).cloned().unwrap_or_else(|| {
                let topic: Arc<str> = topic.into();
                self.topics.insert(topic.clone());
                topic
            });
            TopicPartition { topic, partition }
        };
        list.into_iter().map(intern).collect()
    }
}

/// A list of partitions with offsets, as librdkafka wants it.
pub(super) struct List(TopicPartitionList);

impl List {
    pub(super) fn new<'a>(partitions: impl Iterator<Item = (&'a TopicPartition, i64)>) -> Self {
        let mut list = TopicPartitionList::new();
        let offsets: Vec<i64> = partitions
            .map(|(name, offset)| {
                list.add_partition(&name.topic, name.partition);
                offset
            })
            .collect();
        let mut list = Self(list);
        for (elem, offset) in list.elems_mut().iter_mut().zip(offsets) {
            elem.offset = offset;
        }
        list
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.ptr()
    }

    fn elems(&self) -> &[sys::rd_kafka_topic_partition_t] {
        // SAFETY: the list is alive and has `cnt` elements; librdkafka writes to it only during calls, when no slice is
        // borrowed.
        unsafe {
            let list = &*self.0.ptr();
            if list.cnt == 0 { &[] } else { std::slice::from_raw_parts(list.elems, list.cnt as usize) }
        }
    }

    fn elems_mut(&mut self) -> &mut [sys::rd_kafka_topic_partition_t] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe {
            let list = &*self.0.ptr();
            if list.cnt == 0 { &mut [] } else { std::slice::from_raw_parts_mut(list.elems, list.cnt as usize) }
        }
    }

    /// Adds the metadata to commit, in the list's order.
    pub(super) fn set_metadata<'a>(&mut self, metadata: impl Iterator<Item = &'a str>) {
        for (elem, metadata) in self.elems_mut().iter_mut().zip(metadata) {
            if metadata.is_empty() {
                continue;
            }
            // SAFETY: librdkafka frees the metadata with the list, by `free`; both have `len` bytes.
            unsafe {
                let copy = libc::malloc(metadata.len());
                if !copy.is_null() {
                    std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                    (elem.metadata, elem.metadata_size) = (copy, metadata.len());
                }
            }
        }
    }

    /// The first partition's error, if an answer has one.
    pub(super) fn check(&self, doing: &str) -> Result {
        for elem in self.elems() {
            let code = RDKafkaErrorCode::from(elem.err);
            if code != RDKafkaErrorCode::NoError {
                // SAFETY: a list's names are strings.
                let topic = unsafe { client::text(elem.topic) };
                return Err(code::error(code, doing).topic(topic).partition(elem.partition));
            }
        }
        Ok(())
    }

    fn find(&self, name: &TopicPartition) -> Option<&sys::rd_kafka_topic_partition_t> {
        // SAFETY: a list's names are strings.
        let same = |topic: *const _| unsafe { std::ffi::CStr::from_ptr(topic) }.to_bytes() == name.topic.as_bytes();
        self.elems().iter().find(|elem| elem.partition == name.partition && same(elem.topic))
    }

    /// The offsets of an answer, in the order asked for.
    pub(super) fn offsets(&self, partitions: &[TopicPartition]) -> Vec<i64> {
        partitions.iter().map(|name| self.find(name).map_or(-1, |elem| elem.offset)).collect()
    }

    /// The committed offsets of an answer, in the order asked for.
    pub(super) fn committed(&self, partitions: &[TopicPartition]) -> Vec<Option<Committed>> {
        let committed = |name| {
            let elem = self.find(name).filter(|elem| elem.offset >= 0)?;
            // SAFETY: metadata has that many bytes. It may be anyone's, so it need not be text.
            let metadata = unsafe { client::bytes(elem.metadata, elem.metadata_size) }.unwrap_or_default();
            Some(Committed { offset: elem.offset, metadata: String::from_utf8_lossy(metadata).into_owned() })
        };
        partitions.iter().map(committed).collect()
    }
}
