//! The link extractor on a real Kafka: each text's links are there once, though instances are killed while the service is asked.

use super::on_kafka::{Kafka, Message, unique, until};
use super::services::Service;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn each_text_has_its_links_once_when_instances_are_killed_while_the_service_is_asked() {
    const TEXTS: usize = 150;
    let Some(kafka) = Kafka::given() else { return };
    let (id, folder) = (unique("links"), tempfile::tempdir().expect("a folder"));
    let topic = |name: &str| format!("{id}-{name}");
    let mut services: Vec<Service> =
        (0..2).map(|n| Service::start(&kafka, "link_extractor", &id, &folder.path().join(n.to_string()))).collect();
    let mut paths = Vec::new();
    for n in 0..TEXTS {
        if n == TEXTS / 3 || n == 2 * TEXTS / 3 {
            let victim = &mut services[n * 3 / TEXTS - 1];
            victim.kill();
            victim.start_again();
            // What is no text is set aside, also while calls are under way.
            kafka.send(&topic("texts"), [Message::new(&n.to_string(), [0xff, 0xfe], n as i64)]);
        }
        let posted = services[n % 2].until("POST", "/texts", &json!(format!("https://example.org/{n}")), 202);
        paths.push(posted["links"].as_str().expect("a path").to_owned());
    }
    for (n, path) in paths.iter().enumerate() {
        let found = until(&format!("the links of text {n}"), || {
            let (code, found) = services[n % 2].ask("GET", &format!("{path}?wait=5s"), &Value::Null).ok()?;
            assert_ne!(code, 404, "{path} is gone: {found}");
            (code == 200).then_some(found)
        });
        assert_eq!(found["links"][0]["url"], format!("https://example.org/{n}"), "{found}");
    }
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    kafka.read(&topic("links")).iter().for_each(|found| *count.entry(found.key().to_owned()).or_default() += 1);
    assert_eq!(count.len(), TEXTS);
    assert!(count.values().all(|count| *count == 1), "{count:?}");
    assert_eq!(kafka.read(&topic("dead-letters")).len(), 2);
}
