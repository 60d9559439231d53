//! A buffer of changes, ordered by time: what `suppress` holds back. In memory; its changelog brings it back.
//!
//! Source: Kafka Streams' `InMemoryTimeOrderedKeyValueChangeBuffer`.

use super::buffer_value::{BufferOrigin, BufferValue, Bytes};
use crate::record::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Changes by key, the oldest first. Of each key only the last change is kept, in the place of the first.
#[derive(Debug, Default)]
pub(crate) struct ChangeBuffer {
    times: HashMap<Bytes, Timestamp>,
    values: BTreeMap<(Timestamp, Bytes), Rc<BufferValue>>,
    bytes: u64,
    dirty: DirtyKeys,
}

/// Keys whose change, or whose end, is not logged yet. They come out in the order of Kafka Streams' hash set, so that
/// changelogs are the same record by record.
#[derive(Debug, Default)]
struct DirtyKeys {
    /// Each with how many were there before it.
    keys: HashMap<Bytes, usize>,
    /// The most that have been there at once: Java's hash set never gets smaller.
    most: usize,
}

impl DirtyKeys {
    fn insert(&mut self, key: Bytes) {
        let before = self.keys.len();
        self.keys.entry(key).or_insert(before);
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.most = self.most.max(self.keys.len());
        // Java's hash set doubles its buckets as soon as three in four are taken.
        let buckets = (self.most.saturating_mul(4).div_ceil(3)).next_power_of_two().max(16);
        let mut keys: Vec<_> = self.keys.drain().collect();
        keys.sort_unstable_by_key(|(key, before)| (java_hash(key) as usize & (buckets - 1), *before));
        keys.into_iter().map(|(key, _)| key).collect()
    }
}

/// `Arrays.hashCode`, spread as Java's `HashMap` does.
fn java_hash(key: &[u8]) -> u32 {
    let hash = key.iter().fold(1_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(*byte as i8 as u32));
    hash ^ (hash >> 16)
}

impl ChangeBuffer {
    /// Holds a change back. Its place is `time_ms`, where the key has none yet.
    pub(crate) fn put(
        &mut self,
        time_ms: Timestamp,
        key: &[u8],
        origin: BufferOrigin,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) {
        let prior = self.prior(key).unwrap_or_else(|| old.clone());
        let key = self.insert(time_ms, key, BufferValue::new(origin, prior, old, new));
        self.dirty.insert(key);
    }

    /// Holds back what the changelog says.
    pub(crate) fn restore(&mut self, time_ms: Timestamp, key: &[u8], value: BufferValue) {
        self.insert(time_ms, key, value);
    }

    fn insert(&mut self, time_ms: Timestamp, key: &[u8], value: BufferValue) -> Bytes {
        let known = self.times.get_key_value(key).map(|(key, time_ms)| (key.clone(), *time_ms));
        let (key, time_ms) = known.unwrap_or_else(|| {
            let key = Bytes::from(key);
            self.times.insert(key.clone(), time_ms);
            (key, time_ms)
        });
        self.bytes += counted_bytes(&key, &value);
        if let Some(before) = self.values.insert((time_ms, key.clone()), Rc::new(value)) {
            self.bytes -= counted_bytes(&key, &before);
        }
        key
    }

    /// What everybody below saw last of a key that is held back; `None`: the key is not.
    pub(crate) fn prior(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let (key, time_ms) = self.times.get_key_value(key)?;
        self.values.get(&(*time_ms, key.clone())).map(|value| value.prior.clone())
    }

    /// How many keys are held back.
    pub(crate) fn len(&self) -> u64 {
        self.times.len() as u64
    }

    /// Their bytes, as Kafka Streams counts them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The time of the oldest change.
    pub(crate) fn first_ms(&self) -> Option<Timestamp> {
        self.values.first_key_value().map(|((time_ms, _), _)| *time_ms)
    }

    /// The oldest change.
    pub(crate) fn first(&self) -> Option<(Bytes, Rc<BufferValue>)> {
        self.values.first_key_value().map(|((_, key), value)| (key.clone(), value.clone()))
    }

    /// Lets go of the oldest change.
    pub(crate) fn remove_first(&mut self) {
        let Some(((_, key), value)) = self.values.pop_first() else { return };
        self.times.remove(&key);
        self.bytes -= counted_bytes(&key, &value);
        self.dirty.insert(key);
    }

    /// The keys to log since the last call, each with its place and change; none where it was let go of.
    pub(crate) fn take_dirty(&mut self) -> impl Iterator<Item = (Bytes, Option<(Timestamp, Rc<BufferValue>)>)> {
        let Self { times, values, dirty, .. } = self;
        dirty.take().into_iter().map(|key| {
            let held = times.get(&key).and_then(|time_ms| {
                let place = (*time_ms, key.clone());
                values.get(&place).map(|value| (*time_ms, value.clone()))
            });
            (key, held)
        })
    }

    /// All that is held back, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, &Bytes, &BufferValue)> {
        self.values.iter().map(|((time_ms, key), value)| (*time_ms, key, &**value))
    }
}

fn counted_bytes(key: &[u8], value: &BufferValue) -> u64 {
    8 + key.len() as u64 + value.counted_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::TopicPartition;
    use crate::record::Headers;

    fn put(buffer: &mut ChangeBuffer, time_ms: i64, key: &str, old: Option<&str>, new: &str) {
        let partition = Rc::new(TopicPartition::new("in", 0));
        let headers = Headers::default();
        let origin = BufferOrigin { timestamp_ms: time_ms, partition, offset: 0, headers, source: None };
        let part = |text: &str| Bytes::from(text.as_bytes());
        buffer.put(time_ms, key.as_bytes(), origin, old.map(part), Some(part(new)));
    }

    #[test]
    fn keys_to_log_come_in_the_order_of_javas_hash_set() {
        assert_eq!(java_hash(b"abc"), 126_145 ^ 1);
        let mut dirty = DirtyKeys::default();
        let keys: Vec<Bytes> = (0..13_u8).rev().map(|n| Bytes::from(&[n][..])).collect();
        let order = |keys: &[Bytes]| keys.iter().map(|key| key[0]).collect::<Vec<_>>();
        // [n] has the hash 31 + n: of 16 buckets the last is that of 0, the first that of 1.
        keys[1..].iter().for_each(|key| dirty.insert(key.clone()));
        assert_eq!(order(&dirty.take()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]);
        // With 13 keys there are 32 buckets, and stay.
        keys.iter().for_each(|key| dirty.insert(key.clone()));
        assert_eq!(order(&dirty.take()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0]);
        [1, 17, 33].iter().for_each(|n| dirty.insert(Bytes::from(&[*n][..])));
        assert_eq!(order(&dirty.take()), [1, 33, 17]);
    }

    #[test]
    fn a_key_keeps_its_first_place_and_what_was_before_it() {
        let mut buffer = ChangeBuffer::default();
        put(&mut buffer, 5, "a", Some("p"), "1");
        put(&mut buffer, 7, "b", None, "2");
        put(&mut buffer, 9, "a", Some("1"), "3");
        assert_eq!((buffer.len(), buffer.first_ms()), (2, Some(5)));
        let (key, value) = buffer.first().expect("two are held");
        assert_eq!(
            (&*key, value.prior.as_deref(), value.new.as_deref()),
            (&b"a"[..], Some(&b"p"[..]), Some(&b"3"[..]))
        );
        assert_eq!((buffer.prior(b"b"), buffer.prior(b"c")), (Some(None), None));
    }

    #[test]
    fn what_comes_and_goes_is_counted_and_logged() {
        let mut buffer = ChangeBuffer::default();
        put(&mut buffer, 5, "a", None, "1");
        let one = buffer.bytes();
        put(&mut buffer, 5, "b", None, "2");
        assert_eq!(buffer.bytes(), 2 * one);
        assert_eq!(buffer.take_dirty().filter(|(_, held)| held.is_some()).count(), 2);
        buffer.remove_first();
        assert_eq!((buffer.bytes(), buffer.first_ms()), (one, Some(5)));
        let dirty: Vec<_> = buffer.take_dirty().map(|(key, held)| (key, held.is_some())).collect();
        assert_eq!(dirty, [(Bytes::from(&b"a"[..]), false)]);
        buffer.remove_first();
        assert_eq!((buffer.bytes(), buffer.len(), buffer.first_ms()), (0, 0, None));
    }
}
