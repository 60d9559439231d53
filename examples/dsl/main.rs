//! What the DSL can do, one small program each. They run in the test driver, so no Kafka is needed:
//! `./dev example dsl` runs all of them, `./dev example dsl windows joins` those named.

mod capabilities;

use watersmeet::error::Result;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, run) in capabilities::ALL {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            println!("-- {name}");
            for line in run()? {
                println!("{line}");
            }
        }
    }
    Ok(())
}
