//! Changes as they happen: of this instance's rows from the store, of the others' from their own `/events`.

use crate::model::View;
use crate::topology::ORDERS;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use watersmeet::prelude::*;
use watersmeet::queries::Event;
use watersmeet::serdes::DefaultSerde;
use watersmeet::serdes::formats::json;

/// How many changes may wait for a slow reader before it is told that it missed some.
const WAITING_MAX: usize = 1_000;
/// How often is looked who the other instances are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longer than the pause between two signs of life.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// A change, as it goes to readers.
#[derive(Debug, Clone)]
pub enum Change {
    /// An order is now so; the text is JSON.
    Order(Arc<str>),
    /// Rows may have changed unseen: read them anew.
    Reset,
}

/// Where readers listen.
#[derive(Clone)]
pub struct Hub {
    /// The changes of this instance.
    pub local: broadcast::Sender<Change>,
    /// Those of all.
    pub all: broadcast::Sender<Change>,
}

/// An order as it is told: to readers of changes and to those who ask.
pub fn told(id: &str, view: &Value) -> Value {
    let mut body = json!({ "id": id });
    if let (Some(body), Some(view)) = (body.as_object_mut(), view.as_object()) {
        body.extend(view.clone());
    }
    body
}

impl Hub {
    pub fn new() -> Self {
        Self { local: broadcast::Sender::new(WAITING_MAX), all: broadcast::Sender::new(WAITING_MAX) }
    }

    fn tell(&self, change: &Change) {
        // Where nobody listens there is nobody to be told.
        let _ = self.local.send(change.clone());
        let _ = self.all.send(change.clone());
    }

    /// Follows this instance's store and the other instances, for ever.
    pub async fn run(self, streams: Arc<Streams>) {
        tokio::spawn(self.clone().follow_others(streams.clone()));
        self.follow_store(&streams).await;
    }

    async fn follow_store(&self, streams: &Streams) {
        let changes = streams.store(ORDERS).key_value_with::<String, View>(String::serde(), json());
        let mut changes = match changes.and_then(|orders| orders.watch()) {
            Ok(changes) => changes,
            Err(error) => return eprintln!("no changes can be told: {error}"),
        };
        loop {
            match changes.next().await {
                Ok(Event::Row { key, value: Some(view), .. }) => {
                    let view = serde_json::to_value(&view).unwrap_or_default();
                    self.tell(&Change::Order(told(&key, &view).to_string().into()));
                }
                // An order is never deleted.
                Ok(Event::Row { value: None, .. } | Event::Gone(_)) => {}
                Ok(Event::Here(_) | Event::Missed) => self.tell(&Change::Reset),
                Err(error) => eprintln!("a change cannot be told: {error}"),
            }
        }
    }

    async fn follow_others(self, streams: Arc<Streams>) {
        let followed: Arc<Mutex<HashSet<String>>> = Arc::default();
        loop {
            let asked = streams.clone();
            let instances = tokio::task::spawn_blocking(move || {
                let stores = asked.stores();
                let own = stores.own_server().map(str::to_owned);
                let servers = stores.instances().map(|all| all.iter().filter_map(|i| i.server.clone()).collect());
                let servers: Vec<String> = servers.unwrap_or_default();
                servers.into_iter().filter(|server| Some(server) != own.as_ref()).collect::<Vec<_>>()
            });
            for server in instances.await.unwrap_or_default() {
                let new = followed.lock().unwrap_or_else(PoisonError::into_inner).insert(server.clone());
                if new {
                    let (hub, followed) = (self.clone(), followed.clone());
                    tokio::spawn(async move {
                        // It ends when that instance does; the next look finds it where it is again.
                        let _ended = hub.follow(&server).await;
                        followed.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
                    });
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads another instance's server-sent events. HTTP 1.0 has no chunks: what comes is the lines.
    async fn follow(&self, server: &str) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(server).await?;
        let request = format!("GET /events?local=true HTTP/1.0\r\nhost: {server}\r\naccept: text/event-stream\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut lines = BufReader::new(socket).lines();
        // It answers when it listens to its store for us: what has changed there before, nobody has told here.
        let first = tokio::time::timeout(SILENCE_MAX, lines.next_line()).await??;
        if !first.is_some_and(|line| line.contains(" 200 ")) {
            return Ok(());
        }
        let _ = self.all.send(Change::Reset);
        let mut event = String::new();
        while let Ok(line) = tokio::time::timeout(SILENCE_MAX, lines.next_line()).await {
            let Some(line) = line? else { break };
            if let Some(name) = line.strip_prefix("event:") {
                event = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:") {
                let change = match event.as_str() {
                    "order" => Change::Order(data.trim_start().into()),
                    _ => Change::Reset,
                };
                let _ = self.all.send(change);
            }
        }
        Ok(())
    }
}
