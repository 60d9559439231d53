//! What the probes say, and why: pure functions of a status snapshot.

use crate::status::StreamsStatus;
use crate::status::{State, TaskStateName, ThreadState, ThreadStatus, Totals, Trouble};
use serde::Serialize;

/// Yes or no, and why: one line for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) ok: bool,
    pub(super) state: State,
    pub(super) why: String,
}

/// `/livez`: should the process be left alone? No means: restart it.
pub(super) fn live(status: &StreamsStatus) -> Verdict {
    let ok = status.is_live();
    let problems = problems(status);
    let why = if problems.is_empty() { explained(status) } else { problems.join("; ") };
    Verdict { ok, state: status.state, why }
}

/// `/readyz`: does it process everything it should?
pub(super) fn ready(status: &StreamsStatus) -> Verdict {
    let ok = status.is_ready();
    let mut why = explained(status);
    if !ok {
        let restoring = restoring(status);
        why.extend(restoring.iter().flat_map(|r| ["; ", r]));
    }
    Verdict { ok, state: status.state, why }
}

/// `/startupz`: has it been RUNNING once?
pub(super) fn started(status: &StreamsStatus) -> Verdict {
    let ok = status.is_started();
    let why = if ok { "has been RUNNING since it was started".to_owned() } else { ready(status).why };
    Verdict { ok, state: status.state, why }
}

/// Why `/livez` says no: every reason. Empty where it says yes.
fn problems(status: &StreamsStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if !matches!(status.state, State::Created | State::Rebalancing | State::Running) {
        problems.push(explained(status));
    }
    let dead = status.threads.iter().filter(|t| t.state == ThreadState::Dead);
    problems.extend(dead.map(|t| match &t.error {
        Some(error) => format!("{} is dead: {error}", t.name),
        None => format!("{} is dead", t.name),
    }));
    problems.extend(status.stalled());
    problems
}

fn explained(status: &StreamsStatus) -> String {
    let mut text = state_name(status.state);
    if !status.reason.is_empty() {
        text.extend([": ", &status.reason]);
    }
    if let Some(trouble) = &status.broker_trouble {
        text.extend(["; broker trouble since ", &utc(trouble.since_ms), ": ", &trouble.what]);
    }
    text
}

fn restoring(status: &StreamsStatus) -> Vec<String> {
    let tasks = status.threads.iter().flat_map(|t| &t.tasks).filter(|t| t.state == TaskStateName::Restoring);
    tasks
        .flat_map(|task| {
            task.restore.iter().map(|r| {
                let left = r.eta_s.map(|s| format!(", {s:.0} s left")).unwrap_or_default();
                format!("task {} has restored {} of {} records of {}{left}", task.id, r.restored, r.total, r.store)
            })
        })
        .collect()
}

/// What `/health` prints.
#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    state: State,
    since: String,
    reason: String,
    live: bool,
    ready: bool,
    started: bool,
    application_id: &'a str,
    version: &'static str,
    lag: i64,
    totals: Totals,
    broker_trouble: Option<&'a Trouble>,
    stalled: Vec<String>,
    threads: &'a [ThreadStatus],
    state_since_ms: i64,
    now_ms: i64,
    stall_limit_ms: i64,
}

/// The body of `/health`.
pub(super) fn health(status: &StreamsStatus) -> String {
    let live = live(status);
    let partitions = status.threads.iter().flat_map(|t| &t.tasks).flat_map(|t| &t.partitions);
    let health = Health {
        status: if live.ok { "UP" } else { "DOWN" },
        state: status.state,
        since: utc(status.state_since_ms),
        reason: if live.ok { status.reason.clone() } else { live.why },
        live: live.ok,
        ready: status.is_ready(),
        started: status.is_started(),
        application_id: &status.application_id,
        version: env!("CARGO_PKG_VERSION"),
        lag: partitions.filter_map(|p| p.lag).sum(),
        totals: status.totals,
        broker_trouble: status.broker_trouble.as_ref(),
        stalled: status.stalled(),
        threads: &status.threads,
        state_since_ms: status.state_since_ms,
        now_ms: status.now_ms,
        stall_limit_ms: status.stall_limit_ms,
    };
    let mut text = serde_json::to_string_pretty(&health).expect("a status has only string keys");
    text.push('\n');
    text
}

/// The state's name, as JSON has it.
fn state_name(state: State) -> String {
    serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Milliseconds since the epoch as people write it, in UTC.
fn utc(ms: i64) -> String {
    let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // The civil calendar, counted in years that begin in March, so that the leap day comes last.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (s, milli) = (ms_of_day / 1000, ms_of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{milli:03}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests;
