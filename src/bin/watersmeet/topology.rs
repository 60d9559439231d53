//! `watersmeet topology`.

use crate::{FileOptions, join};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use watersmeet::config::Optimization;
use watersmeet::error::Result;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    file: FileOptions,
    /// How to print it; text is equal to what Java's Topology#describe prints.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Dot,
    Json,
}

pub(crate) fn topology(options: &Options) -> Result<ExitCode> {
    let settings = options.file.settings()?;
    let topology = join::topology(&settings.join()?, Optimization::default())?;
    let text = match options.format {
        Format::Text => topology.describe(),
        Format::Mermaid => topology.mermaid(),
        Format::Dot => topology.dot(),
        Format::Json => topology.json(),
    };
    out!("{}", text.trim_end_matches('\n'));
    Ok(ExitCode::SUCCESS)
}
