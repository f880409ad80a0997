//! What is waiting, being read, or not yet written back has bounds.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{MAX_READERS, MAX_WAITING_BYTES};
use super::*;

#[tokio::test]
async fn many_reads_at_once_use_few_connections() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let reads = (0..200).map(|_| {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        inbox.with_reader(move |reader| {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let head = reader.head();
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(head.is_ok())
        })
    });
    let mut read = Box::pin(futures_util::future::join_all(reads));
    assert!(futures_util::poll!(&mut read).is_pending());
    assert_eq!(inbox.may_read.available_permits(), 0, "the others wait");
    assert!(read.await.into_iter().all(|read| read == Ok(true)));
    let most = most.load(Ordering::SeqCst);
    assert!((1..=MAX_READERS).contains(&most), "{most} at once");
    inbox.close().await;
}

#[tokio::test]
async fn appends_that_wait_are_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = open(&config);
    append(&inbox, "one", &payin("a", "o", "COMPLETED")).await;
    let bytes = &inbox.shared.waiting_bytes;
    assert_eq!(bytes.load(Ordering::SeqCst), 0, "none is left behind");
    bytes.store(MAX_WAITING_BYTES, Ordering::SeqCst);
    let refused = inbox.append(new_event("one", &payin("b", "o", "COMPLETED"))).await;
    assert_eq!(refused, Err(Unavailable::Busy));
    assert_eq!(bytes.load(Ordering::SeqCst), MAX_WAITING_BYTES, "what is refused does not wait");
    bytes.store(0, Ordering::SeqCst);
    append(&inbox, "one", &payin("b", "o", "COMPLETED")).await;
    inbox.close().await;
}

/// Four readers, of which one or another always holds a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_are_always_busy_do_not_keep_the_log_from_beginning_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let inbox = Arc::new(open(&config));
    append(&*inbox, "one", &payin("first", "o", "COMPLETED")).await;
    let is_over = Arc::new(AtomicUsize::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..MAX_READERS {
        let (inbox, is_over) = (Arc::clone(&inbox), Arc::clone(&is_over));
        readers.spawn(async move {
            let mut reads = 0;
            while is_over.load(Ordering::SeqCst) == 0 {
                // Until the log has grown meanwhile: with a snapshot of before, it cannot begin anew.
                let (head, mut seen) = (inbox.head(), 0);
                let began = head.borrow().get();
                let is_over = Arc::clone(&is_over);
                let read = inbox.with_reader(move |reader| {
                    reader.in_snapshot(|| {
                        while head.borrow().get() < began + 3 && is_over.load(Ordering::SeqCst) == 0 && seen < 50 {
                            seen += 1;
                            std::thread::park_timeout(Duration::from_millis(2));
                        }
                    })
                });
                read.await.unwrap();
                reads += 1;
            }
            reads
        });
    }
    let padding = "x".repeat(16 << 10);
    for n in 0..1200 {
        append(&*inbox, "one", &payin(&format!("e{n}"), &padding, "COMPLETED")).await;
    }
    let log = std::fs::metadata(config.path.with_extension("db-wal")).unwrap().len();
    is_over.store(1, Ordering::SeqCst);
    let reads = readers.join_all().await;
    assert!(reads.iter().all(|&reads: &i32| reads > 10), "reading goes on: {reads:?}");
    // 20 MiB have been written; at 2 MiB it has to begin anew.
    assert!(log < 8 << 20, "{log} bytes");
    inbox.close().await;
}
