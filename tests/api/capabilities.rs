//! The programs of `examples/dsl`, which assert what they show.

#[path = "../../examples/dsl/capabilities/mod.rs"]
mod programs;

#[test]
fn every_program_shows_what_it_promises() {
    for (name, run) in programs::ALL {
        let lines = run().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!lines.is_empty(), "{name} shows nothing");
    }
}
