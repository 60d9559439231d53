//! `watersmeet check`: everything that can be known before starting.

use crate::{FileOptions, join};
use std::process::ExitCode;
use watersmeet::broker::Broker;
use watersmeet::config::{Config, JoinSettings, Optimization};
use watersmeet::error::Result;
use watersmeet::kafka::KafkaBroker;

pub(crate) fn check(options: &FileOptions) -> Result<ExitCode> {
    let settings = options.settings()?;
    let (config, join) = (settings.config()?, settings.join()?);
    join::topology(&join, config.optimization)?;
    out!("configuration: ok");
    let mut problems = Vec::new();
    match topics(&config, &join) {
        Ok(found) => problems.extend(found),
        Err(error) => problems.push(error.to_string()),
    }
    out!("\npermissions that the application needs:");
    for acl in acls(&config, &join) {
        out!("  {acl}");
    }
    if problems.is_empty() {
        out!("\nready to run");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!();
    for problem in &problems {
        eprintln!("problem: {problem}");
    }
    Ok(ExitCode::from(3))
}

/// Looks at the topics; returns what is wrong with them.
fn topics(config: &Config, join: &JoinSettings) -> Result<Vec<String>> {
    let mut admin = KafkaBroker::connect(config, None)?.admin()?;
    let mut names = vec![join.table_topic.clone(), join.stream_topic.clone(), join.output_topic.clone()];
    names.extend(config.errors.dead_letter_topic.clone());
    let found = admin.topics(&names)?;
    out!("broker: reachable at {}", config.bootstrap_servers);
    let mut problems = Vec::new();
    for (name, info) in names.iter().zip(&found) {
        match info {
            Some(info) => out!("topic {name}: {} partitions", info.partitions),
            None => problems.push(format!("topic {name} does not exist. Next: create it, or correct its name")),
        }
    }
    if let (Some(table), Some(stream)) = (&found[0], &found[1])
        && table.partitions != stream.partitions
    {
        problems.push(format!(
            "topic {} has {} partitions and topic {} has {}: records of one key do not meet. Next: give both the same number",
            join.table_topic, table.partitions, join.stream_topic, stream.partitions
        ));
    }
    if let Some(changelog) = changelog(config, join) {
        match (&admin.topics(std::slice::from_ref(&changelog))?[0], &found[0]) {
            (None, _) => out!("topic {changelog}: is not there yet; it is created at the first start"),
            (Some(log), Some(table)) if log.partitions != table.partitions => problems.push(format!(
                "changelog {changelog} has {} partitions, expected {}. Next: stop all instances and delete it",
                log.partitions, table.partitions
            )),
            (Some(log), _) => out!("topic {changelog}: {} partitions", log.partitions),
        }
    }
    Ok(problems)
}

/// The table's changelog; `None` where its source topic serves as one.
fn changelog(config: &Config, join: &JoinSettings) -> Option<String> {
    let Optimization { reuse_ktable_source_topics, .. } = config.optimization;
    (!reuse_ktable_source_topics).then(|| format!("{}-{}-changelog", config.application_id, join.table_store))
}

fn acls(config: &Config, join: &JoinSettings) -> Vec<String> {
    let mut acls = vec![
        format!("Read, Describe on topic {}", join.table_topic),
        format!("Read, Describe on topic {}", join.stream_topic),
        format!("Write, Describe on topic {}", join.output_topic),
    ];
    acls.extend(config.errors.dead_letter_topic.iter().map(|topic| format!("Write, Describe on topic {topic}")));
    acls.extend(changelog(config, join).map(|topic| format!("Read, Write, Describe, Create on topic {topic}")));
    acls.push(format!("Read, Describe on group {}", config.application_id));
    acls.push("IdempotentWrite on the cluster (brokers before 3.0)".into());
    acls
}
