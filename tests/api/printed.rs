//! `print`.

use std::io::{Error, Write};
use std::sync::{Arc, Mutex};
use watersmeet::dsl::Printed;
use watersmeet::prelude::*;
use watersmeet::testing::TopologyTestDriver;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.lock().expect("no panic while it is locked").write(bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn lines(print: impl FnOnce(&KStream<String, i64>, Paper)) -> String {
    let paper = Paper::default();
    let builder = StreamsBuilder::new();
    print(&builder.stream("in", Consumed::default()), paper.clone());
    let driver = TopologyTestDriver::new(builder.build().expect("builds"), Config::new("test")).expect("starts");
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    input.pipe("a", 1).expect("is processed");
    input.pipe("b", 2).expect("is processed");
    String::from_utf8(paper.0.lock().expect("no panic while it is locked").clone()).expect("text")
}

#[test]
fn records_become_lines_with_the_name_of_what_made_them() {
    let text = lines(|stream, paper| stream.filter(|_, n| *n > 1).print(Printed::to_writer(paper)));
    assert_eq!(text, "[KSTREAM-FILTER-0000000001]: b, 2\n");
}

#[test]
fn label_and_text_can_be_given() {
    let text = lines(|stream, paper| {
        stream.print(Printed::to_writer(paper).label("orders").format(|key, n| format!("{n} of {key}")));
    });
    assert_eq!(text, "[orders]: 1 of a\n[orders]: 2 of b\n");
}

#[test]
fn a_file_is_made_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("printed");
    std::fs::write(&path, "old").expect("written");
    lines(|stream, _| stream.print(Printed::to_file(&path).expect("a file")));
    assert_eq!(
        std::fs::read_to_string(&path).expect("text"),
        "[KSTREAM-SOURCE-0000000000]: a, 1\n[KSTREAM-SOURCE-0000000000]: b, 2\n"
    );
}
