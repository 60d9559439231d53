//! A store of a test's tasks, typed.

use super::driver::Inner;
use crate::dsl::Consumed;
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use crate::serdes::{SerdeError, SerdeRef};
use crate::state::timestamped;
use std::cell::RefCell;
use std::rc::Rc;

/// A key-value store of a [`TopologyTestDriver`](super::TopologyTestDriver), over all of its tasks.
///
/// Its errors: there is no store of that name, its rows do not decode by the given serdes, or the driver's thread has ended.
pub struct TestStore<K, V> {
    driver: Rc<RefCell<Inner>>,
    name: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> TestStore<K, V> {
    pub(super) fn new(driver: Rc<RefCell<Inner>>, name: &str, consumed: Consumed<K, V>) -> Self {
        let Consumed { key, value, .. } = consumed;
        Self { driver, name: name.into(), key, value }
    }

    /// The value of `key`; `None` where there is no row.
    ///
    /// # Errors
    /// See [`TestStore`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of `key` and its timestamp; `None` where there is no row.
    ///
    /// # Errors
    /// See [`TestStore`].
    #[doc(alias = "ValueAndTimestamp")]
    pub fn get_with_timestamp(&self, key: &K) -> Result<Option<(V, Timestamp)>> {
        let mut bytes = Vec::new();
        self.key.serialize(key, &mut bytes).map_err(|e| self.failed("key", &e))?;
        let mut driver = self.driver.borrow_mut();
        let thread = driver.thread()?;
        if thread.stores(&self.name).next().is_none() {
            return Err(self.unknown());
        }
        for (state, store) in thread.stores(&self.name) {
            if let Some(row) = state.get(store, &bytes)? {
                return self.decode(&row).map(Some);
            }
        }
        Ok(None)
    }

    /// All rows, partition by partition, in the order of their keys' bytes.
    ///
    /// # Errors
    /// See [`TestStore`].
    #[doc(alias = "all")]
    pub fn rows(&self) -> Result<Vec<(K, V)>> {
        let mut driver = self.driver.borrow_mut();
        let thread = driver.thread()?;
        if thread.stores(&self.name).next().is_none() {
            return Err(self.unknown());
        }
        let mut rows = Vec::new();
        for (state, store) in thread.stores(&self.name) {
            state.range(store, None, None, &mut |key, row| {
                rows.push((key.to_vec(), row.to_vec()));
                true
            })?;
        }
        let decode = |(key, row): (Vec<u8>, Vec<u8>)| {
            let key = self.key.deserialize(Some(&key)).map_err(|e| self.failed("key", &e))?;
            Ok((key, self.decode(&row)?.0))
        };
        rows.into_iter().map(decode).collect()
    }

    fn decode(&self, row: &[u8]) -> Result<(V, Timestamp)> {
        let value = self.value.deserialize(Some(timestamped::value(row))).map_err(|e| self.failed("value", &e))?;
        Ok((value, timestamped::timestamp_ms(row)))
    }

    fn failed(&self, part: &str, error: &SerdeError) -> Error {
        Error::new(Kind::Record, format!("a {part} does not fit its serde: {error}")).store(&self.name)
    }

    fn unknown(&self) -> Error {
        Error::new(Kind::Topology, "no running task has a store of this name")
            .store(&self.name)
            .hint("check the name that the table was materialized under; a table that nobody reads has no store")
    }
}
