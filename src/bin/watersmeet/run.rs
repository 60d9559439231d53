//! `watersmeet run`.

use crate::{FileOptions, join};
use std::process::ExitCode;
use watersmeet::error::Result;
use watersmeet::prelude::*;
use watersmeet::streams::Ended;

pub(crate) fn run(options: &FileOptions) -> Result<ExitCode> {
    let settings = options.settings()?;
    let config = settings.config()?;
    let topology = join::topology(&settings.join()?, config.optimization)?;
    let streams = Streams::start(topology, config)?;
    if let Some(listen) = settings.http_listen() {
        let address = streams.serve_http(listen)?;
        tracing::info!("health, metrics and the page: http://{address}/");
    }
    let ended = streams.run_until_signal()?;
    match &ended {
        Ended::Drained => tracing::info!("everything is committed and closed"),
        Ended::DeadlineMissed => {
            eprintln!(
                "watersmeet: not everything could be committed in time; those records are processed again at the next start"
            );
        }
        Ended::Failed(reason) | Ended::DoesNotFit(reason) | Ended::ApplicationEnded(reason) => {
            eprintln!("watersmeet: {reason}")
        }
    }
    Ok(ExitCode::from(ended.exit_code() as u8))
}
