//! placeholder
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn demo(_: &Options) -> watersmeet::error::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
