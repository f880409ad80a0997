//! A replay that a command carries out itself, because no daemon runs; and who comes by meanwhile.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::process::Process;
use crate::harness::{Ack, Builder, eventually, signed};
use crate::operate::{typed_without_daemon, with_old_events};
use crate::operate_replay::{replay, replayed, replays, with_events};

/// Well below the sink's timeout of 10 s, which is what it would take otherwise.
const PATIENCE: Duration = Duration::from_secs(7);

/// A replay at ten events a second, typed while no daemon runs, once a few events are through.
async fn begun(app: &FakeHttp, settings: &Builder) -> Process {
    let before = app.requests().len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(replay(&["--rate", "10", "--yes", "--config"])).arg(settings.config_file());
    let process = Process::spawn(command.current_dir(settings.directory()));
    app.requests_reach(before + 3).await;
    process
}

#[tokio::test]
async fn a_daemon_that_starts_gets_the_inbox_and_goes_on_with_the_replay() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 35).await.shutdown().await;
    let mut command = begun(&app, &settings).await;
    let relay = settings.start().await;
    let running = replays(relay.settings()).await.remove(0);
    assert_eq!((&running["state"], &running["total"]), (&json!("running"), &json!(70)), "it is ready before its end");
    assert!(command.ended().is_none(), "the command follows");
    assert_eq!(relay.post(&signed::payin_completed("meanwhile")).await, Ack::FRESH);

    assert_eq!(command.end().await.code(), Some(0));
    let said = eventually("what came of it", async || command.stdout.all().last().cloned().ok_or("nothing yet")).await;
    assert!(said.contains("70 delivered"), "{said}");
    let (ids, numbers) = replayed(&app);
    let each: BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), each.len(), numbers.len()), (70, 70, 1), "an orderly handover: each once");
    relay.settled().await;
    relay.shutdown().await;
}

#[tokio::test]
async fn what_others_ask_for_is_done_beside_a_replay() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 35).await.shutdown().await;
    let mut command = begun(&app, &settings).await;
    typed_without_daemon(&settings, &["sinks", "pause", "app"]).await.success();
    let renamed = typed_without_daemon(&settings, &["sinks", "rename", "app", "web"]).await.code(1);
    assert!(renamed.stderr.contains("has not ended"), "{renamed:?}");
    assert!(command.ended().is_none());
    typed_without_daemon(&settings, &["sinks", "resume", "app"]).await.success();
    app.requests_reach(app.requests().len() + 3).await;
    let id = replays(&settings).await[0]["id"].to_string();
    let cancel = ["replay", "cancel", &id, "--reason", "the wrong sink"];
    typed_without_daemon(&settings, &cancel).await.success();
    assert_eq!(command.end().await.code(), Some(1));
    let said = eventually("what came of it", async || command.stderr.all().last().cloned().ok_or("nothing yet")).await;
    assert!(said.contains("was cancelled by") && said.contains("(the wrong sink)"), "{said}");
    assert_eq!(replays(&settings).await[0]["state"], "cancelled");
}

#[tokio::test]
async fn a_replay_of_a_paused_sink_waits_also_after_a_restart() {
    let app = FakeHttp::answering([200]).await;
    let relay = with_events(&app, 2).await;
    relay.cli(&["sinks", "pause", "app"]).await.success();
    let begun = relay.cli(&replay(&["--yes", "--detach"])).await.success();
    assert!(begun.stderr.contains("`ralio-relay sinks resume app` lets them go on"), "{begun:?}");
    let relay = relay.restart().await;
    relay.post(&signed::payin_completed("afterwards")).await;
    eventually("a replay that has begun", async || {
        let replay = replays(relay.settings()).await.remove(0);
        if replay["state"] == "running" { Ok(()) } else { Err(replay) }
    })
    .await;
    assert_eq!(replayed(&app).0.len(), 0);
    relay.cli(&["sinks", "resume", "app"]).await.success();
    let id = replays(relay.settings()).await[0]["id"].to_string();
    relay.cli(&["replay", "resume", &id]).await;
    relay.settled().await;
    assert_eq!(replayed(&app).0.len(), 4);
    relay.shutdown().await;
}

/// The plan says that bodies are gone, and that is no failure then.
#[tokio::test]
async fn a_replay_passes_over_what_retention_has_dropped() {
    let settings = with_old_events("[inbox.retention]\nbodies = \"1d\"").await;
    typed_without_daemon(&settings, &["prune"]).await.success();
    let args = ["replay", "--sink", "out", "--reason", "a test", "--yes"];
    let done = typed_without_daemon(&settings, &args).await.success();
    assert!(done.stdout.contains("2: their bodies are gone") && done.stdout.contains(": 1 delivered"), "{done:?}");
    let listed = replays(&settings).await.remove(0);
    assert_eq!((&listed["done"], &listed["failed"], &listed["total"]), (&json!(1), &json!(0), &json!(1)));
}

/// A delivery that hangs holds up neither the daemon that wants the inbox nor the person who has pressed Ctrl-C.
#[tokio::test]
async fn a_delivery_that_hangs_keeps_nobody_waiting() {
    let app = FakeHttp::answering([200]).await;
    let settings = with_events(&app, 1).await.shutdown().await;
    for wants_the_inbox in [true, false] {
        app.answer([Answer::Hang]);
        let before = app.requests().len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
        command.args(replay(&["--yes", "--config"])).arg(settings.config_file());
        let mut command = Process::spawn(command.current_dir(settings.directory()));
        app.requests_reach(before + 1).await;
        let since = Instant::now();
        if wants_the_inbox {
            let relay = settings.clone().start().await;
            assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
            app.answer([200]);
            assert_eq!(command.end().await.code(), Some(0));
            relay.shutdown().await;
        } else {
            command.signal("INT");
            assert_eq!(command.end().await.code(), Some(1));
            assert!(since.elapsed() < PATIENCE, "{:?}", since.elapsed());
        }
    }
}
