//! Jobs: what they say, and what a crash leaves of them.

use jiff::Timestamp;

use super::*;
use crate::inbox::{Job, JobState, JobUpdate, LetterFilter, LetterState, QuarantineFilter, Task};
use crate::model::JobId;

pub(super) fn stored(config: &Config, id: JobId) -> Job {
    Reader::open(config).unwrap().job(id).unwrap().unwrap()
}

/// How a task ended, and what it says.
pub(super) async fn told(inbox: &SqliteInbox, config: &Config, task: Task) -> (JobState, String) {
    let (id, _) = carry_out(inbox, task).await;
    let job = stored(config, id);
    assert!(job.ended_at.is_some());
    (job.state, job.message)
}

#[tokio::test]
async fn jobs_say_what_came_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let done = |message: &str| (JobState::Done, message.to_owned());
    let failed = |message: &str| (JobState::Failed, message.to_owned());
    let tell = |task| told(&inbox, &config, task);
    let (pause, resume) = (|name| Task::Pause { sink: sink(name) }, |name| Task::Resume { sink: sink(name) });
    let nobody = "there is no sink 'bus' in the inbox: no sink has begun yet, start the daemon with one";
    assert_eq!(tell(pause("bus")).await, failed(nobody));
    fill(&inbox, 4).await;
    let bus = register(&inbox, "bus").await;
    register(&inbox, "app").await;
    let unknown = "there is no sink 'bsu' in the inbox: it knows app, bus";
    for task in [pause("bsu"), resume("bsu"), retry("bsu"), Task::Discard { letters: letters_of("bsu") }] {
        assert_eq!(tell(task).await, failed(unknown));
    }
    assert_eq!(tell(Task::Rename { from: sink("bsu"), to: sink("b"), swap: false }).await, failed(unknown));
    assert_eq!(tell(pause("bus")).await, done("sink 'bus' is paused"));
    assert_eq!(tell(pause("bus")).await, done("sink 'bus' was paused already"));
    assert_eq!(tell(resume("bus")).await, done("sink 'bus' goes on"));
    assert_eq!(tell(resume("bus")).await, done("sink 'bus' was not paused"));
    let rename = |from: &str, to: &str| Task::Rename { from: sink(from), to: sink(to), swap: false };
    let taken = "there is a sink 'app' already: choose another name; with --swap the two exchange their names";
    assert_eq!(tell(rename("bus", "app")).await, failed(taken));
    let renamed = "sink 'app' is 'web' now: change its name in the configuration too";
    assert_eq!(tell(rename("app", "web")).await, done(renamed));
    let (state, message) = tell(rename("web", "www")).await;
    let first = "may still have sink 'web' as 'app': first start the daemon once with name = \"web\" (or have it";
    assert!(state == JobState::Failed && message.contains(first), "{message}");
    let (state, message) = tell(rename("bus", "app")).await;
    assert!(state == JobState::Failed && message.contains("may still mean another sink by 'app'"), "{message}");

    let dead = vec![letter(1, "no"), letter(2, "no"), letter(3, "no")];
    inbox.record(Progress { dead, ..progress(bus.id, 4) }).await.unwrap();
    let these = |ids: &[i64]| LetterFilter { ids: ids.to_vec(), ..LetterFilter::default() };
    let decided = "there is no such dead letter, or somebody has decided about it already";
    assert_eq!(tell(Task::Retry { letters: these(&[77]) }).await, failed(decided));
    let some = "1 dead letter is tried again; 1 other is not there, or somebody has decided about it already";
    assert_eq!(tell(Task::Retry { letters: these(&[1, 1, 77]) }).await, done(some));
    assert_eq!(tell(Task::Discard { letters: these(&[2]) }).await, done("1 dead letter is discarded"));
    assert_eq!(tell(Task::Discard { letters: these(&[2]) }).await, failed(decided));
    Connection::open(&config.path).unwrap().execute("DELETE FROM bodies WHERE seq = 3", []).unwrap();
    let pruned = "0 dead letters are tried again; 1 is not: its body is gone";
    assert_eq!(tell(retry("bus")).await, done(pruned));
    let purge = Task::Purge { requests: QuarantineFilter::default() };
    assert_eq!(tell(purge).await, done("0 quarantined requests are deleted"));
    let prune = |sinks: &[&str]| Task::Prune { before: now(), sinks: sinks.iter().map(|name| sink(name)).collect() };
    let unborn = "no body is dropped: sink 'unborn' has not begun, and may need them all";
    assert_eq!(tell(prune(&["bus", "unborn"])).await, done(unborn));
    let size = payin("e1", "o1", "COMPLETED").len();
    // The first is parked, the third is gone.
    let without = "sink 'web', which is not configured, has come to event 0, and does not get what is dropped after it";
    assert_eq!(tell(prune(&["bus"])).await, done(&format!("2 bodies are dropped, {} bytes; {without}", 2 * size)));
    let none = "no body is dropped: none is old enough and needed no more";
    assert_eq!(tell(prune(&["bus"])).await, done(none));
    let (state, message) = tell(Task::Cancel { job: JobId::new(1) }).await;
    assert!(state == JobState::Failed && message.contains("bug"), "{message}");
    inbox.close().await;
}

/// The place that a job has come to is on disk with what it has done.
#[tokio::test]
async fn a_job_goes_on_after_a_crash_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut inbox = open(&config);
    fill(&inbox, 1300).await;
    let bus = register(&inbox, "bus").await;
    let dead = (1..=1300).map(|at| letter(at, "no")).collect();
    inbox.record(Progress { dead, ..progress(bus.id, 1300) }).await.unwrap();
    let discard = inbox.submit(job(Task::Discard { letters: letters_of("bus") })).await.unwrap();
    let prune = inbox.submit(job(Task::Prune { before: now(), sinks: vec![sink("bus")] })).await.unwrap();
    for id in [discard, prune] {
        for done in [500, 1000, 1300] {
            let advance = inbox.advance(id, &all_configured()).await.unwrap();
            assert_eq!(advance.ended, done == 1300, "{done}");
            // Whatever was in memory is gone.
            inbox.close().await;
            drop(inbox);
            inbox = open(&config);
            let job = stored(&config, id);
            assert_eq!((job.done, job.state.has_ended()), (done, done == 1300));
        }
        assert!(inbox.advance(id, &all_configured()).await.unwrap().ended);
        assert_eq!(stored(&config, id).done, 1300, "nothing is done twice");
    }
    let message = stored(&config, prune).message;
    assert!(message.starts_with("1300 bodies are dropped, "), "{message}");
    inbox.close().await;
}

#[tokio::test]
async fn an_ended_replay_leaves_its_history_and_nothing_parked() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 2).await;
    let bus = register(&inbox, "bus").await;
    inbox.record(Progress { park: vec![parked(1, 1)], ..progress(bus.id, 2) }).await.unwrap();
    let id = inbox.submit(job(replay("bus", 1, 2))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job: id }, "*".to_owned()).await.unwrap().id;
    let park = |at| Progress { park: vec![parked(at, 1)], ..progress(replayed, at) };
    inbox.record(park(1)).await.unwrap();
    let raw = Connection::open(&config.path).unwrap();
    let parked_by = || -> Vec<i64> {
        let mut rows = raw.prepare("SELECT sink_id FROM parked ORDER BY sink_id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(parked_by(), [bus.id.get(), replayed.get()]);
    let end = JobUpdate { state: Some(JobState::Cancelled), ..JobUpdate::default() };
    inbox.update_job(id, end).await.unwrap();
    assert_eq!(parked_by(), [bus.id.get()]);
    // What was in flight when it ended.
    inbox.record(park(2)).await.unwrap();
    assert_eq!(parked_by(), [bus.id.get()]);
    let cursor: i64 =
        raw.query_row("SELECT cursor FROM sinks WHERE job_id = ?1", [id.get()], |row| row.get(0)).unwrap();
    assert_eq!(cursor, 2);
    inbox.close().await;
}

/// A task that only a newer version knows: it waits for that, and holds nobody up.
#[tokio::test]
async fn a_job_that_cannot_be_read_waits() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let pause = inbox.submit(job(Task::Pause { sink: sink("bus") })).await.unwrap();
    Connection::open(&config.path)
        .unwrap()
        .execute(
            "INSERT INTO jobs (task, who, reason, created_at, state) VALUES ('{\"task\":\"fly\"}', '', '', 0, 1)",
            [],
        )
        .unwrap();
    let newer = JobId::new(2);
    assert_eq!(inbox.open_jobs().await.unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [pause]);
    assert!(!inbox.shared.is_new_unreadable(newer), "it has been told of, and is not again");
    assert!(inbox.shared.is_new_unreadable(JobId::new(3)));
    assert!(inbox.advance(newer, &[]).await.is_err());
    let mut listed = Vec::new();
    let visit = &mut |job: Job| {
        listed.push(job.id);
        ControlFlow::Continue(())
    };
    Reader::open(&config).unwrap().each_job(None, visit).unwrap();
    assert_eq!(listed, [pause]);
    assert_eq!(inbox.trouble(), None);
    inbox.close().await;
}

#[tokio::test]
async fn jobs_and_dead_letters_are_listed_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    fill(&inbox, 1100).await;
    let bus = register(&inbox, "bus").await;
    let dead = (1..=1100).map(|at| letter(at, if at == 7 { "strange" } else { "no" })).collect();
    inbox.record(Progress { dead, ..progress(bus.id, 1100) }).await.unwrap();
    let replay = inbox.submit(job(replay("bus", 1, 9))).await.unwrap();
    let replayed = inbox.consumer(Registration::Replay { job: replay }, "*".to_owned()).await.unwrap();
    let dead = vec![letter(3, "again"), letter(2, "again")];
    inbox.record(Progress { dead, ..progress(replayed.id, 3) }).await.unwrap();
    let these = LetterFilter { ids: vec![2, 5], ..LetterFilter::default() };
    carry_out(&inbox, Task::Discard { letters: these.clone() }).await;
    let reader = Reader::open(&config).unwrap();
    let letters_below = |filter: &LetterFilter, below| {
        let mut ids = Vec::new();
        let visit = &mut |letter: crate::inbox::DeadLetterRecord| {
            ids.push(letter.id);
            ControlFlow::Continue(())
        };
        reader.each_dead_letter(filter, &[LetterState::Open], below, visit).unwrap();
        ids
    };
    let letters = |filter: &LetterFilter| letters_below(filter, None);
    let all = letters(&LetterFilter::default());
    assert_eq!((all.len(), all[0], *all.last().unwrap()), (1098, 1100, 1));
    assert!(all.is_sorted_by(|one, next| one > next) && !all.contains(&5));
    let some = letters_below(&LetterFilter::default(), Some(600));
    assert_eq!((some.len(), some[0], *some.last().unwrap()), (597, 599, 1));
    assert_eq!(letters(&LetterFilter { reason: Some("strange".to_owned()), ..LetterFilter::default() }), [7]);
    assert_eq!(letters(&LetterFilter { key: Some("o9".to_owned()), ..letters_of("bus") }), [9]);
    assert_eq!(letters(&LetterFilter { types: vec!["kyc.*".to_owned()], ..LetterFilter::default() }), [0; 0]);
    assert_eq!(letters(&LetterFilter { until: Some(Timestamp::UNIX_EPOCH), ..LetterFilter::default() }), [0; 0]);
    assert_eq!(letters(&these), [0; 0]);
    let many = (4..=1100).map(|at| letter(at, "again")).collect();
    inbox.record(Progress { dead: many, ..progress(replayed.id, 3) }).await.unwrap();
    let given_up = reader.given_up_by(replay).unwrap();
    assert_eq!(given_up.len(), 1000, "no more than can be shown");
    let given_up: Vec<_> = given_up[..2].iter().map(|one| (one.seq.get(), one.replay, one.sink.as_str())).collect();
    assert_eq!(given_up, [(2, Some(replay), "bus"), (3, Some(replay), "bus")]);
    assert_eq!(reader.dead_letter(5).unwrap().unwrap().event_id.as_str(), "e5", "decided about, and still to be seen");
    let mut jobs = Vec::new();
    reader
        .each_job(None, &mut |job| {
            jobs.push(job.id.get());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(jobs, [2, 1]);
    inbox.close().await;
}

/// What is asked for often, or of large tables, never walks over them.
#[tokio::test]
async fn large_tables_are_never_walked_over() {
    use super::super::job::{JOB, PRUNABLE};
    use super::super::letters::{Of, page_sql};
    use super::super::parked;
    use super::super::reader::{ATTEMPTS, ROUTE};
    use crate::inbox::ParkedFilter;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    open(&config).close().await;
    let raw = Connection::open(&config.path).unwrap();
    let ids = LetterFilter { ids: vec![1], ..LetterFilter::default() };
    let by_sink = "SELECT count(*) FROM dead_letters WHERE sink_id = 1 AND discarded_at IS NULL";
    let statements = [
        (ATTEMPTS.to_owned(), "SEARCH a USING PRIMARY KEY (sink_id=? AND seq=?)"),
        (ROUTE.to_owned(), "SEARCH route_revisions USING PRIMARY KEY (sink_id=? AND from_seq<?)"),
        (
            page_sql(&LetterFilter::default(), Of::Everyone(LetterState::Open), 500).0,
            "SEARCH d USING INDEX dead_letters_open (id>? AND id<?)",
        ),
        (page_sql(&ids, Of::Consumer(1), 500).0, "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)"),
        (
            page_sql(&LetterFilter::default(), Of::Consumer(1), 500).0,
            "SEARCH d USING INDEX dead_letters_open_by_sink (sink_id=? AND rowid>? AND rowid<?)",
        ),
        (
            parked::page_sql(&ParkedFilter::default(), 500).0,
            "SEARCH p USING PRIMARY KEY (sink_id=? AND seq>? AND seq<?)",
        ),
        (PRUNABLE.to_owned(), "SEARCH b USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (format!("{JOB} WHERE state <= 2 ORDER BY id"), "SCAN jobs USING INDEX jobs_open"),
        (by_sink.to_owned(), "SEARCH dead_letters USING INDEX dead_letters_open_by_sink (sink_id=?)"),
    ];
    for (sql, wanted) in statements {
        let mut plan = raw.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let none = vec![rusqlite::types::Null; plan.parameter_count()];
        let steps = plan.query_map(rusqlite::params_from_iter(none), |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert!(steps.iter().any(|step| step == wanted), "{sql}\n{steps:#?}");
        // Consumers are few, and so is what a statement is given as JSON.
        let fine = ["SCAN s", "SCAN c VIRTUAL", "SCAN json_each", wanted];
        let walks = |step: &&String| step.starts_with("SCAN") && !fine.iter().any(|fine| step.starts_with(fine));
        assert_eq!(steps.iter().find(walks), None, "{sql}\n{steps:#?}");
    }
}
