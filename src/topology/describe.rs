//! The topology's description: the text that Java's `Topology#describe` prints, byte for byte, and the same for pictures.

use super::java_order::{TreeSet, compare, hash_order};
use super::split::{SubTopology, sub_topologies};
use super::{Node, NodeId, NodeKind, SinkTopic, TopicName, TopicPattern, Topology};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A node with its neighbours, in the order in which they are printed.
struct Linked<'a> {
    id: NodeId,
    node: &'a Node,
    parents: Vec<&'a str>,
    children: Vec<&'a str>,
}

impl Topology {
    /// The text of Java's `Topology#describe`: sub-topologies with their nodes, edges, topics and stores. Internal topics
    /// are without the application's id.
    pub fn describe(&self) -> String {
        let mut text = String::from("Topologies:\n ");
        for (sub, nodes) in self.linked() {
            let global = if sub.global { " for global store (will not generate tasks)" } else { "" };
            text += &format!("  Sub-topology: {}{global}\n", sub.id);
            for linked in &nodes {
                text += &line(linked);
            }
            if !sub.global {
                text.push('\n');
            }
        }
        text
    }

    /// The topology as a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for (sub, nodes) in self.linked() {
            text += &format!("  subgraph s{0} [Sub-topology {0}]\n", sub.id);
            text += &nodes.iter().map(|n| format!("    n{}[\"{}\"]\n", n.id.0, n.node.name)).collect::<String>();
            text += "  end\n";
        }
        for (from, to) in self.edges() {
            text += &format!("  {} --> {}\n", mermaid_id(&from), mermaid_id(&to));
        }
        text
    }

    /// The topology as a Graphviz digraph.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph topology {\n  node [shape=box, fontname=\"sans-serif\"];\n");
        for (sub, nodes) in self.linked() {
            text += &format!("  subgraph cluster_{0} {{\n    label=\"Sub-topology {0}\";\n", sub.id);
            text += &nodes.iter().map(|n| format!("    \"{}\";\n", n.node.name)).collect::<String>();
            text += "  }\n";
        }
        for (from, to) in self.edges() {
            for end in [&from, &to] {
                match end {
                    End::Topic(topic) => text += &format!("  \"topic {topic}\" [label=\"{topic}\", shape=cds];\n"),
                    End::Store(store) => text += &format!("  \"store {store}\" [label=\"{store}\", shape=cylinder];\n"),
                    End::Node(..) => {}
                }
            }
            text += &format!("  {} -> {};\n", dot_id(&from), dot_id(&to));
        }
        text + "}\n"
    }

    /// The topology as JSON: `{"sub_topologies":[{"id","nodes":[{"name","kind","topics","stores","successors",
    /// "predecessors"}]}]}`. Nodes come in the order in which they were declared: what fills a store before what reads it.
    pub fn json(&self) -> String {
        let node = |n: &Linked| {
            json!({
                "name": n.node.name,
                "kind": kind(n.node),
                "topics": topics(n.node),
                "stores": n.node.stores,
                "successors": n.children,
                "predecessors": n.parents,
            })
        };
        let sub = |(sub, mut nodes): (SubTopology, Vec<Linked>)| {
            nodes.sort_by_key(|n| n.id);
            json!({ "id": sub.id, "nodes": nodes.iter().map(node).collect::<Vec<Value>>() })
        };
        json!({ "sub_topologies": self.linked().into_iter().map(sub).collect::<Vec<Value>>() }).to_string()
    }

    /// The sub-topologies with their nodes linked and ordered as `InternalTopologyBuilder.TopologyDescription` does it.
    fn linked(&self) -> Vec<(SubTopology, Vec<Linked<'_>>)> {
        // A graph that cannot be split was refused when it was built; there is nothing to describe then.
        let subs = sub_topologies(self).unwrap_or_default();
        subs.into_iter()
            .map(|sub| {
                let nodes = self.link(&sub);
                (sub, nodes)
            })
            .collect()
    }

    /// Java links a sub-topology's nodes one after another in hash order. A node's neighbours are sorted by how much lies
    /// below them, as far as it is known at that moment, then by name; what is learnt later does not move them.
    fn link(&self, sub: &SubTopology) -> Vec<Linked<'_>> {
        let name = |n: usize| self.nodes[n].name.as_str();
        let by_name: BTreeMap<&str, usize> = sub.nodes.iter().map(|n| (name(n.0), n.0)).collect();
        let mut size: BTreeMap<usize, i64> = sub.nodes.iter().map(|n| (n.0, 1)).collect();
        let mut above: BTreeMap<usize, TreeSet> = BTreeMap::new();
        let mut below: BTreeMap<usize, TreeSet> = BTreeMap::new();
        for node in hash_order(sub.nodes.iter().map(|n| name(n.0))) {
            let node = by_name[node];
            for parent in &self.nodes[node].parents {
                let order = |a: usize, b: usize| size[&b].cmp(&size[&a]).then_with(|| compare(name(a), name(b)));
                above.entry(node).or_default().insert(parent.0, order);
                below.entry(parent.0).or_default().insert(node, order);
                let by = size[&node];
                grow(&mut size, &above, parent.0, by);
            }
        }
        let mut order: Vec<usize> = sub.nodes.iter().map(|n| n.0).collect();
        order.sort_by(|a, b| size[b].cmp(&size[a]).then_with(|| compare(name(*a), name(*b))));
        let names =
            |set: Option<&TreeSet>| set.map_or(Vec::new(), |set| set.elements().into_iter().map(name).collect());
        let linked = |n: usize| Linked {
            id: NodeId(n),
            node: &self.nodes[n],
            parents: names(above.get(&n)),
            children: names(below.get(&n)),
        };
        order.into_iter().map(linked).collect()
    }

    /// Every edge of the picture: topics to sources, nodes to nodes, sinks to topics, nodes with their stores.
    fn edges(&self) -> Vec<(End<'_>, End<'_>)> {
        let mut edges = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let end = || End::Node(n, &node.name);
            if let NodeKind::Source { .. } = node.kind {
                edges.extend(topics(node).into_iter().map(|topic| (End::Topic(topic), end())));
            }
            for parent in &node.parents {
                edges.push((End::Node(parent.0, &self.nodes[parent.0].name), end()));
            }
            for store in &node.stores {
                edges.push((end(), End::Store(store)));
            }
            if let NodeKind::Sink { topic: SinkTopic::Fixed(topic), .. } = &node.kind {
                edges.push((end(), End::Topic(topic.plain())));
            }
        }
        edges
    }
}

/// `updateSize`: a node and all its linked ancestors, once per path.
fn grow(size: &mut BTreeMap<usize, i64>, above: &BTreeMap<usize, TreeSet>, node: usize, by: i64) {
    *size.entry(node).or_default() += by;
    for parent in above.get(&node).map(TreeSet::elements).unwrap_or_default() {
        grow(size, above, parent, by);
    }
}

fn kind(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::Source { .. } => "source",
        NodeKind::Processor(_) => "processor",
        NodeKind::Sink { .. } => "sink",
    }
}

fn topics(node: &Node) -> Vec<&str> {
    match &node.kind {
        NodeKind::Source { topics, pattern, .. } => {
            topics.iter().map(TopicName::plain).chain(pattern.as_ref().map(TopicPattern::as_str)).collect()
        }
        NodeKind::Sink { topic, .. } => topic.fixed().iter().map(|topic| topic.plain()).collect(),
        NodeKind::Processor(_) => Vec::new(),
    }
}

fn line(linked: &Linked) -> String {
    let list = |names: &[&str]| if names.is_empty() { "none".into() } else { names.join(", ") };
    let (name, topics) = (&linked.node.name, topics(linked.node));
    let (children, parents) = (list(&linked.children), list(&linked.parents));
    match &linked.node.kind {
        NodeKind::Source { .. } => {
            let topics = match linked.node.source_pattern() {
                Some(pattern) => pattern.as_str().to_string(),
                None => format!("[{}]", hash_order(topics).join(", ")),
            };
            format!("    Source: {name} (topics: {topics})\n      --> {children}\n")
        }
        NodeKind::Processor(_) => {
            let stores = hash_order(linked.node.stores.iter().map(String::as_str)).join(", ");
            format!("    Processor: {name} (stores: [{stores}])\n      --> {children}\n      <-- {parents}\n")
        }
        NodeKind::Sink { topic, .. } => {
            let topic = match topic {
                SinkTopic::Fixed(topic) => format!("topic: {}", topic.plain()),
                SinkTopic::PerRecord(extractor) => format!("extractor class: {extractor}"),
            };
            format!("    Sink: {name} ({topic})\n      <-- {parents}\n")
        }
    }
}

/// An end of an edge in the picture.
enum End<'a> {
    Node(usize, &'a str),
    Topic(&'a str),
    Store(&'a str),
}

fn mermaid_id(end: &End) -> String {
    let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    match end {
        End::Node(n, _) => format!("n{n}"),
        End::Topic(topic) => format!("t_{}([\"{topic}\"])", plain(topic)),
        End::Store(store) => format!("s_{}[(\"{store}\")]", plain(store)),
    }
}

fn dot_id(end: &End) -> String {
    match end {
        End::Node(_, name) => format!("\"{name}\""),
        End::Topic(topic) => format!("\"topic {topic}\""),
        End::Store(store) => format!("\"store {store}\""),
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;
    use serde_json::{Value, json};

    /// Printed by Kafka Streams 4.3.0 for the same topology.
    const STREAM_TABLE_JOIN: &str = "Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000003 (topics: [clicks])
      --> KSTREAM-JOIN-0000000004
    Processor: KSTREAM-JOIN-0000000004 (stores: [users-STATE-STORE-0000000000])
      --> KSTREAM-SINK-0000000005
      <-- KSTREAM-SOURCE-0000000003
    Source: KSTREAM-SOURCE-0000000001 (topics: [users])
      --> KTABLE-SOURCE-0000000002
    Sink: KSTREAM-SINK-0000000005 (topic: out)
      <-- KSTREAM-JOIN-0000000004
    Processor: KTABLE-SOURCE-0000000002 (stores: [users-STATE-STORE-0000000000])
      --> none
      <-- KSTREAM-SOURCE-0000000001

";

    fn join() -> Topology {
        let builder = StreamsBuilder::new();
        let users = builder.table("users", Consumed::<String, String>::default(), Materialized::default());
        let clicks = builder.stream("clicks", Consumed::<String, String>::default());
        clicks.join(&users, |click, user| click + &user).to("out", Produced::default());
        builder.build().expect("a topology")
    }

    #[test]
    fn the_text_is_javas() {
        assert_eq!(join().describe(), STREAM_TABLE_JOIN);
    }

    /// The page on HTTP draws from it.
    #[test]
    fn json_has_the_agreed_shape_in_declared_order() {
        let json: Value = serde_json::from_str(&join().json()).expect("JSON");
        let nodes = json["sub_topologies"][0]["nodes"].as_array().expect("nodes");
        let names: Vec<_> = nodes.iter().filter_map(|n| n["name"].as_str()).collect();
        let expected = [
            "KSTREAM-SOURCE-0000000001",
            "KTABLE-SOURCE-0000000002",
            "KSTREAM-SOURCE-0000000003",
            "KSTREAM-JOIN-0000000004",
            "KSTREAM-SINK-0000000005",
        ];
        assert_eq!(names, expected);
        let join = &nodes[3];
        assert_eq!((&join["kind"], &join["topics"]), (&json!("processor"), &json!([])));
        assert_eq!(join["stores"], json!(["users-STATE-STORE-0000000000"]));
        assert_eq!(join["successors"], json!(["KSTREAM-SINK-0000000005"]));
        assert_eq!(join["predecessors"], json!(["KSTREAM-SOURCE-0000000003"]));
        assert_eq!((&nodes[0]["kind"], &nodes[0]["topics"]), (&json!("source"), &json!(["users"])));
        assert_eq!((&nodes[4]["kind"], &nodes[4]["topics"]), (&json!("sink"), &json!(["out"])));
    }

    #[test]
    fn pictures_have_every_node_topic_and_store() {
        let topology = join();
        for picture in [topology.mermaid(), topology.dot(), topology.json()] {
            for name in ["clicks", "users", "out", "KSTREAM-JOIN-0000000004", "users-STATE-STORE-0000000000"] {
                assert!(picture.contains(name), "{name} is missing in {picture}");
            }
        }
    }
}
