//! `map_async`: values that others have to be asked for.

use super::KStream;
use super::graph::{GraphNode, Role};
use super::writer::Writer;
use crate::operators::map_async::{AsyncOptions, Attempts, Call, CallError, Caller, MapAsync, MapAsyncPort};
use crate::operators::{Build, Port};
use crate::record::Data;
use crate::topology::NodeId;
use std::cell::RefCell;
use std::future::Future;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

impl<K: Data, V: Data> KStream<K, V> {
    /// Makes a new value of each record by asking somebody else, such as an HTTP service or a database, for many records at a
    /// time; the key stays.
    ///
    /// Calls run on a tokio runtime of the client's, so a stream thread never waits for one. A task takes further records
    /// while calls are under way, up to the limits of the [`AsyncOptions`]; when it has no more room its partitions are paused.
    /// A call that fails is repeated; what fails in the end meets the processing policy (`errors.processing`): the
    /// client ends, or the record is skipped, or goes to the dead-letter topic.
    ///
    /// The offset that is committed is that of the first record whose result has not gone on yet. So after a crash calls are
    /// made again; a service that must not do anything twice can tell by [`Call::id`]. Results keep their record's timestamp,
    /// headers and origin, and under exactly once each of them counts once.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::TopologyTestDriver;
    ///
    /// async fn length(page: &str) -> std::io::Result<usize> {
    ///     // … a request …
    ///     Ok(page.len())
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// let options = AsyncOptions::new(16).timeout(std::time::Duration::from_secs(2));
    /// builder
    ///     .stream("pages", Consumed::<String, String>::default())
    ///     .map_async(options, |call| async move {
    ///         if call.value.is_empty() {
    ///             return Err(CallError::permanent("a page without a name"));
    ///         }
    ///         Ok(length(&call.value).await? as i64)
    ///     })
    ///     .to("lengths", Produced::default());
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("pages", Produced::<String, String>::default()).pipe("a", "index")?;
    /// let lengths = driver.create_output_topic("lengths", Consumed::<String, i64>::default());
    /// assert_eq!(lengths.read_to_vec()?, [("a".into(), 5)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn map_async<W, F, Fut>(&self, options: AsyncOptions, call: F) -> KStream<K, W>
    where
        K: Hash + Send,
        V: Send,
        W: Data + Send,
        F: Fn(Call<K, V>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<W, CallError>> + Send + 'static,
    {
        let name = self.graph.name_or(options.name.as_deref(), "KSTREAM-MAPASYNC");
        let caller: Caller<K, V, W> = Arc::new(move |asked| Box::pin(call(asked)));
        let attempts = Arc::new(Attempts::new(&options));
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, W>| {
                let map = MapAsync::new(build, &options, attempts.clone(), caller.clone(), out);
                let map = Rc::new(RefCell::new(map));
                build.hooks.add_work(map.clone(), options.patience);
                Box::new(MapAsyncPort(map)) as Port<K, V>
            });
            writer.holds(node);
            node
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node =
            self.graph.add(GraphNode { name, parents, role: Role::ValueChanging, write, ..GraphNode::default() });
        let mut stream = KStream::new(self.graph.clone(), node, self.sources.clone(), (self.key.clone(), None));
        stream.repartition_required = self.repartition_required;
        stream
    }
}
