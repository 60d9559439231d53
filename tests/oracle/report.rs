//! What is told of a run: the first difference of each case, a table by family, the count.

use super::compare::{ASPECTS, compare};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// Outcomes so far.
pub struct Report {
    /// The aspects in which a case has to agree; all where empty.
    need: Vec<String>,
    /// How many differences are shown.
    show: usize,
    /// Cases that are known to fail.
    known: BTreeSet<String>,
    /// By family and aspect: how many agree, of how many.
    table: BTreeMap<String, BTreeMap<&'static str, (usize, usize)>>,
    /// By family: how many cases passed, of how many.
    families: BTreeMap<String, (usize, usize)>,
    shown: usize,
    failed: Vec<String>,
    passed: Vec<String>,
}

/// The cases that are known to fail, from the file of that name beside them.
pub fn known(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("known-failing.txt")).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// `hand/join_…` and `generated/fk/…`: the folder, and for hand-written cases the first word.
fn family(name: &str) -> String {
    let (folder, file) = name.rsplit_once('/').unwrap_or((".", name));
    if folder.starts_with("generated") {
        return folder.into();
    }
    format!("{folder}/{}", file.split('_').next().unwrap_or(file))
}

impl Report {
    pub fn new(need: Vec<String>, show: usize, known: BTreeSet<String>) -> Self {
        let (table, families) = (BTreeMap::new(), BTreeMap::new());
        Self { need, show, known, table, families, shown: 0, failed: Vec::new(), passed: Vec::new() }
    }

    pub fn add(&mut self, name: &str, expected: &Value, actual: &Value) {
        let outcomes = compare(expected, actual);
        let row = self.table.entry(family(name)).or_default();
        let mut first = None;
        for aspect in ASPECTS {
            let Some(outcome) = outcomes.get(aspect) else { continue };
            let count = row.entry(aspect).or_default();
            count.0 += usize::from(outcome.is_ok());
            count.1 += 1;
            let needed = self.need.is_empty() || self.need.iter().any(|need| need == aspect);
            if let (Err(difference), true, None) = (outcome, needed, &first) {
                first = Some(format!("{aspect}: {difference}"));
            }
        }
        let family = self.families.entry(family(name)).or_default();
        family.0 += usize::from(first.is_none());
        family.1 += 1;
        match first {
            None => self.passed.push(name.into()),
            Some(difference) => {
                if self.shown < self.show && !self.known.contains(name) {
                    self.shown += 1;
                    println!("{name}\n    {difference}");
                }
                self.failed.push(name.into());
            }
        }
    }

    /// The table and, last, the line that a test program ends with.
    pub fn print(&self) -> ExitCode {
        println!();
        for (family, (passed, all)) in &self.families {
            let row = &self.table[family];
            let rest = ASPECTS.iter().filter_map(|aspect| row.get(aspect).map(|(n, of)| (aspect, n, of)));
            let rest = rest.filter(|(_, n, of)| n < of);
            let rest: Vec<String> = rest.map(|(aspect, n, of)| format!("{aspect} {n}/{of}")).collect();
            println!("{family:24} {passed:4}/{all:<4} {}", rest.join("  "));
        }
        let fixed: Vec<&String> = self.passed.iter().filter(|name| self.known.contains(*name)).collect();
        if !fixed.is_empty() {
            println!("\nno longer failing, to be taken out of known-failing.txt: {}", fixed.len());
            fixed.iter().for_each(|name| println!("{name}"));
        }
        let (known, new): (Vec<&String>, Vec<&String>) =
            self.failed.iter().partition(|name| self.known.contains(*name));
        let verdict = if new.is_empty() { "ok" } else { "FAILED" };
        for name in &new {
            println!("test {name} ... FAILED");
        }
        println!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out",
            self.passed.len(),
            new.len(),
            known.len()
        );
        if new.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
