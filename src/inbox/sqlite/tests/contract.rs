//! The contract of every inbox, for this one.

use super::*;

async fn run(test: impl AsyncFnOnce(&dyn Inbox)) {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(&config(dir.path()));
    test(&inbox).await;
    inbox.close().await;
}

crate::inbox::contract::suite!(run);
