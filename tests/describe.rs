//! `Topology::describe` against texts that Kafka Streams 4.3.0 printed (`goldens/describe.txt`): each text is read back into
//! a graph, and the graph's description must be that text again, sub-topologies' numbers included.
//!
//! A text does not tell in which order the nodes were added, which decides the numbers of sub-topologies. Generated names
//! do: they end in a number from one counter, and Kafka Streams adds a node as soon as its parents are there, smallest
//! number first. Nodes with a user's name take the place of their nearest parent; their order as parents is taken over.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use watersmeet::operators::share;
use watersmeet::state::{Changelog, Engine, StoreSpec};
use watersmeet::topology::{Node, NodeId, NodeKind, Recipe, SinkTopic, TopicName, Topology};

const GOLDENS: &str = include_str!("goldens/describe.txt");

#[test]
fn descriptions_equal_javas() {
    let goldens = goldens(GOLDENS);
    assert!(goldens.len() >= 40, "only {} texts were found", goldens.len());
    let mut different = Vec::new();
    for (name, text) in goldens {
        let described = graph(&read(text)).describe();
        if described != text {
            different.push(format!("# {name}\n{}", first_difference(text, &described)));
        }
    }
    assert!(different.is_empty(), "{} texts differ:\n{}", different.len(), different.join("\n"));
}

/// The file's cases: `# name`, then the text up to the empty line before the next name.
fn goldens(file: &str) -> Vec<(&str, &str)> {
    let cases = file.strip_suffix('\n').unwrap_or(file).split("\n# ").map(|case| case.trim_start_matches("# "));
    cases.filter_map(|case| case.split_once('\n')).filter(|(_, text)| text.starts_with("Topologies:")).collect()
}

fn first_difference(want: &str, got: &str) -> String {
    let both = want.lines().zip(got.lines()).enumerate().find(|(_, (want, got))| want != got);
    both.map_or("one is longer".into(), |(n, (want, got))| format!("line {}\n  want {want}\n  got  {got}", n + 1))
}

/// A node as the text shows it.
#[derive(Debug)]
struct Shown<'a> {
    kind: &'a str,
    name: &'a str,
    /// Topics or stores, sorted: their order in the text is what is being tested.
    what: BTreeSet<&'a str>,
    parents: Vec<&'a str>,
}

fn read(text: &str) -> Vec<Shown<'_>> {
    let mut shown: Vec<Shown> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(parents) = line.strip_prefix("<-- ") {
            let node = shown.last_mut().expect("a node stands above its parents");
            node.parents = parents.split(", ").filter(|p| *p != "none").collect();
            if node.parents.iter().all(|name| number(name).is_some()) {
                node.parents.sort_by_key(|name| number(name));
            }
        } else if let Some((kind @ ("Source" | "Processor" | "Sink"), rest)) = line.split_once(": ") {
            let (name, what) = rest.split_once(" (").expect("a bracket follows the name");
            let what = what.trim_end_matches(')').split_once(": ").expect("topics or stores").1;
            let what = what.trim_matches(['[', ']']).split(", ").filter(|w| !w.is_empty()).collect();
            shown.push(Shown { kind, name, what, parents: Vec::new() });
        }
    }
    shown
}

/// The number at the end of a generated name: ten digits, and one more where it is a branch.
fn number(name: &str) -> Option<usize> {
    let digits = name.rsplit('-').next().filter(|digits| (10..=11).contains(&digits.len()));
    digits.and_then(|digits| digits.parse().ok()).map(|n: usize| if name.contains("-BRANCH-0") { n / 10 } else { n })
}

/// The nodes in the order in which they were added.
fn added<'a, 'b>(shown: &'b [Shown<'a>]) -> Vec<&'b Shown<'a>> {
    let by_name: BTreeMap<&str, usize> = shown.iter().enumerate().map(|(n, s)| (s.name, n)).collect();
    let writers = |topics: &BTreeSet<&'a str>| -> Vec<usize> {
        let writes = |s: &Shown| s.kind == "Sink" && !s.what.is_disjoint(topics);
        (0..shown.len()).filter(|n| writes(&shown[*n])).collect()
    };
    // A source of an internal topic comes after the sinks that write it, unless its number says otherwise.
    let before = |s: &Shown<'a>| -> Vec<usize> {
        let mut before: Vec<usize> = s.parents.iter().map(|p| by_name[p]).collect();
        if s.kind == "Source" && number(s.name).is_none() {
            before.extend(writers(&s.what));
        }
        before
    };
    let mut place: Vec<Option<usize>> = vec![None; shown.len()];
    let mut waiting: BTreeSet<usize> = (0..shown.len()).collect();
    let (mut ready, mut order) = (BinaryHeap::new(), Vec::new());
    while order.len() < shown.len() {
        let free: Vec<usize> =
            waiting.iter().copied().filter(|n| before(&shown[*n]).iter().all(|b| place[*b].is_some())).collect();
        for n in free {
            waiting.remove(&n);
            let nearest = before(&shown[n]).iter().filter_map(|b| place[*b]).max().unwrap_or(0);
            ready.push(Reverse((number(shown[n].name).unwrap_or(nearest), n)));
        }
        let Reverse((at, n)) = ready.pop().expect("no cycles");
        place[n] = Some(at);
        order.push(&shown[n]);
    }
    order
}

fn graph(shown: &[Shown]) -> Topology {
    let order = added(shown);
    let ids: BTreeMap<&str, NodeId> = order.iter().enumerate().map(|(n, s)| (s.name, NodeId(n))).collect();
    let recipe = || Recipe { make: Arc::new(|_, _| panic!("not run")), share: share::<(), ()> };
    let topics = |s: &Shown| s.what.iter().map(|t| TopicName::User(t.to_string())).collect::<Vec<_>>();
    let mut topology = Topology::default();
    for s in order {
        let kind = match s.kind {
            "Source" => NodeKind::Source {
                topics: topics(s),
                pattern: None,
                bootstrap: false,
                reset: None,
                make: Arc::new(|_, _| panic!("not run")),
            },
            "Sink" => NodeKind::Sink { topic: SinkTopic::Fixed(topics(s).remove(0)), recipe: recipe() },
            _ => NodeKind::Processor(recipe()),
        };
        let stores: Vec<String> =
            if s.kind == "Processor" { s.what.iter().map(|s| s.to_string()).collect() } else { Vec::new() };
        for name in &stores {
            let spec = StoreSpec::table(name.clone(), Engine::Memory, Changelog::None);
            topology.stores.insert(name.clone(), spec);
        }
        let parents = s.parents.iter().map(|p| ids[p]).collect();
        topology.nodes.push(Node { name: s.name.into(), kind, parents, stores });
    }
    topology
}
