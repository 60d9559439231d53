use super::*;
use crate::http::fixture;

const ALL: [State; 7] = [
    State::Created,
    State::Rebalancing,
    State::Running,
    State::PendingShutdown,
    State::NotRunning,
    State::PendingError,
    State::Error,
];

#[test]
fn every_state_as_the_table_says() {
    let table =
        [(true, false), (true, false), (true, true), (false, false), (false, false), (false, false), (false, false)];
    for (state, expected) in ALL.into_iter().zip(table) {
        let mut status = fixture::running();
        status.state = state;
        assert_eq!((live(&status).ok, ready(&status).ok), expected, "{state:?}");
        assert!(live(&status).why.contains(&state_name(state)), "{state:?}: {}", live(&status).why);
    }
}

#[test]
fn started_is_latched() {
    let mut status = fixture::restoring();
    assert!(!started(&status).ok);
    assert!(started(&status).why.starts_with("REBALANCING: waiting for"), "{}", started(&status).why);
    status.has_been_running = true;
    for state in ALL {
        status.state = state;
        assert!(started(&status).ok, "{state:?}");
    }
}

#[test]
fn a_dead_thread_is_named_with_its_error() {
    let mut status = fixture::running();
    status.threads[1].state = ThreadState::Dead;
    status.threads[1].error = Some("user code panicked in task 0_3".into());
    let verdict = live(&status);
    assert_eq!(
        (verdict.ok, verdict.why.as_str()),
        (false, "shop-5b1e-StreamThread-2 is dead: user code panicked in task 0_3")
    );
}

#[test]
fn a_thread_that_does_not_turn_is_stalled() {
    let mut status = fixture::running();
    status.threads[0].last_turn_ms = status.now_ms - status.stall_limit_ms;
    assert!(live(&status).ok, "the limit itself is not too long");
    status.threads[0].last_turn_ms -= 1;
    let verdict = live(&status);
    assert_eq!((verdict.ok, verdict.why.as_str()), (false, "shop-5b1e-StreamThread-1 has not turned for 30001 ms"));
}

#[test]
fn a_thread_that_turns_without_progress_is_stalled() {
    let mut status = fixture::running();
    status.threads[1].last_progress_ms = status.now_ms - status.stall_limit_ms - 1;
    let verdict = live(&status);
    assert!(!verdict.ok && verdict.why.contains("StreamThread-2 has lag and made no progress"), "{}", verdict.why);
}

#[test]
fn every_problem_is_told() {
    let mut status = fixture::running();
    status.state = State::PendingError;
    status.reason = "a thread ended".into();
    status.threads[0].state = ThreadState::Dead;
    status.threads[1].last_turn_ms = 0;
    let why = live(&status).why;
    for part in ["PENDING_ERROR: a thread ended", "StreamThread-1 is dead", "StreamThread-2 has not turned"] {
        assert!(why.contains(part), "{part} in {why}");
    }
}

#[test]
fn live_and_its_reasons_agree_with_the_status() {
    let mut status = fixture::running();
    for state in ALL {
        for dead in [false, true] {
            for late in [false, true] {
                status.state = state;
                status.threads[0].state = if dead { ThreadState::Dead } else { ThreadState::Running };
                status.threads[1].last_turn_ms = if late { 0 } else { status.now_ms };
                assert_eq!(problems(&status).is_empty(), status.is_live(), "{state:?}, dead {dead}, late {late}");
            }
        }
    }
}

#[test]
fn not_ready_tells_what_is_restored() {
    let verdict = ready(&fixture::restoring());
    assert!(!verdict.ok);
    assert!(
        verdict.why.ends_with("; task 0_0 has restored 400 of 1000 records of products, 12 s left"),
        "{}",
        verdict.why
    );
}

#[test]
fn broker_trouble_is_told_though_the_client_is_live() {
    let mut status = fixture::running();
    status.broker_trouble = Some(Trouble { since_ms: 95_000, what: "all brokers are down".into() });
    let verdict = live(&status);
    assert!(verdict.ok);
    let expected = "broker trouble since 1970-01-01T00:01:35.000Z: all brokers are down";
    assert!(verdict.why.contains(expected), "{}", verdict.why);
}

#[test]
fn health_has_what_a_dashboard_needs() {
    let body: serde_json::Value = serde_json::from_str(&health(&fixture::running())).unwrap();
    assert_eq!(body["status"], "UP");
    assert_eq!(body["state"], "RUNNING");
    assert_eq!(body["since"], "1970-01-01T00:01:30.000Z");
    assert_eq!(body["lag"], 28);
    assert_eq!((&body["totals"]["dropped"], &body["totals"]["dead_lettered"]), (&3.into(), &2.into()));
    assert_eq!(body["threads"][1]["tasks"][0]["id"], "0_2");
    assert_eq!(body["threads"][1]["tasks"][0]["partitions"][1]["lag"], 7);
    let body: serde_json::Value = serde_json::from_str(&health(&fixture::restoring())).unwrap();
    assert_eq!(body["threads"][0]["tasks"][0]["restore"][0]["restored"], 400);
    let mut status = fixture::running();
    status.threads[0].state = ThreadState::Dead;
    let body: serde_json::Value = serde_json::from_str(&health(&status)).unwrap();
    assert_eq!((&body["status"], &body["reason"]), (&"DOWN".into(), &"shop-5b1e-StreamThread-1 is dead".into()));
}

#[test]
fn times_are_written_in_utc() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(utc(ms), text);
    }
}
