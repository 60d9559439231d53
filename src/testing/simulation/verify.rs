//! What must hold at the end of a run.

use super::Compare;
use super::world::World;
use crate::broker::{Batch, RawRecord, TopicPartition};
use crate::config::Config;
use crate::state::restore::{Restore, RestorePartition};
use crate::state::{Engine, MemoryBudget, StoreId, StoreSpec, TaskState};
use crate::testing::log::StoredRecord;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What a record says.
type Row = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Compares the records of a topic with those that it should have.
pub(super) fn output(topic: &str, how: Compare, is: &[StoredRecord], should: &[StoredRecord]) -> Result<(), String> {
    match how {
        Compare::Exact => {
            let (is, should) = (by_key(is), by_key(should));
            let keys = is.keys().chain(should.keys());
            let wrong = keys.into_iter().find(|key| is.get(*key) != should.get(*key));
            wrong.map_or(Ok(()), |key| {
                Err(format!(
                    "{topic}: the key {} has other records than without faults\n  is:        {}\n  should be: {}",
                    text(key.as_deref()),
                    list(is.get(key)),
                    list(should.get(key))
                ))
            })
        }
        Compare::Latest => {
            let (is, should) = (by_key(is), by_key(should));
            let last =
                |of: &BTreeMap<_, Vec<Option<Vec<u8>>>>, key| of.get(key).and_then(|values| values.last().cloned());
            let wrong = is.keys().chain(should.keys()).find(|key| last(&is, key) != last(&should, key));
            wrong.map_or(Ok(()), |key| {
                Err(format!(
                    "{topic}: the key {} has another last value than without faults\n  is:        {}\n  should be: {}",
                    text(key.as_deref()),
                    list(is.get(key)),
                    list(should.get(key))
                ))
            })
        }
        Compare::Multiset | Compare::Contains => {
            let (is, should) = (counted(is), counted(should));
            let count = |of: &BTreeMap<Row, usize>, row| of.get(row).copied().unwrap_or(0);
            let wrong = is.keys().chain(should.keys()).find(|row| match how {
                Compare::Contains => count(&is, row) < count(&should, row),
                _ => count(&is, row) != count(&should, row),
            });
            wrong.map_or(Ok(()), |row| {
                let (key, value) = (text(row.0.as_deref()), text(row.1.as_deref()));
                let (is, should) = (count(&is, row), count(&should, row));
                Err(format!("{topic}: {key} = {value} is there {is} times, and {should} times without faults"))
            })
        }
    }
}

fn by_key(records: &[StoredRecord]) -> BTreeMap<Option<Vec<u8>>, Vec<Option<Vec<u8>>>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        by_key.entry(record.key.clone()).or_default().push(record.value.clone());
    }
    by_key
}

fn counted(records: &[StoredRecord]) -> BTreeMap<Row, usize> {
    let mut counted = BTreeMap::new();
    for record in records {
        *counted.entry((record.key.clone(), record.value.clone())).or_default() += 1;
    }
    counted
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".into(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

fn list(values: Option<&Vec<Option<Vec<u8>>>>) -> String {
    let values = values.map_or(&[][..], Vec::as_slice);
    values.iter().map(|value| text(value.as_deref())).collect::<Vec<_>>().join(", ")
}

/// Each store has what its changelog says, no row more and none less.
pub(super) fn stores(world: &Rc<World>) -> Result<(), String> {
    for instance in &world.instances {
        let instance = &mut *instance.borrow_mut();
        let Some(running) = &mut instance.running else { continue };
        let specs = running.app.plan.topology.stores.clone();
        for thread in &mut running.threads {
            for (store, id, changelog, state) in thread.logged_stores() {
                let should = restored(world, &specs[store], changelog)?;
                let is = rows(state, id)?;
                if is != should {
                    return Err(format!(
                        "{}: the store {store} is not what its changelog {changelog} says\n  is:        {}\n  should be: {}",
                        instance.name,
                        table(&is),
                        table(&should)
                    ));
                }
            }
        }
    }
    Ok(())
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn table(rows: &Rows) -> String {
    let row = |(key, row): &(Vec<u8>, Vec<u8>)| format!("{} = {}", text(Some(key)), text(Some(row)));
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}

fn rows(state: &TaskState, store: StoreId) -> Result<Rows, String> {
    let mut rows = Rows::new();
    let visit = &mut |key: &[u8], row: &[u8]| {
        rows.push((key.to_vec(), row.to_vec()));
        true
    };
    state.range(store, None, None, visit).map_err(|e| e.to_string())?;
    Ok(rows)
}

/// The rows of a store that is made anew from its changelog.
fn restored(world: &World, spec: &StoreSpec, changelog: &TopicPartition) -> Result<Rows, String> {
    let specs = [StoreSpec { engine: Engine::Memory, ..spec.clone() }];
    let budget = Arc::new(MemoryBudget::new(&Config::new("")));
    let mut state = TaskState::open(None, &specs, budget).map_err(|e| e.to_string())?;
    let plan = RestorePartition { store: StoreId(0), partition: changelog.clone(), start: 0, end: i64::MAX };
    let mut restore = Restore::new(vec![plan], &specs, 0);
    let records = world.broker.committed_records(&changelog.topic);
    for record in records.iter().filter(|record| record.partition == changelog.partition) {
        let mut batch = Batch::default();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        batch.push(0, record.offset, record.timestamp_ms, key, value, record.headers.clone());
        let raw = RawRecord { bytes: Rc::new(batch.bytes), meta: batch.records.remove(0) };
        restore.apply(&mut state, changelog, &raw).map_err(|e| e.to_string())?;
    }
    rows(&state, StoreId(0))
}
