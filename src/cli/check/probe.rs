//! What `check --probe` looks at beyond the configuration itself.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use rustix::fs::{Access, statvfs};

use super::super::access::with_advice;
use super::super::errand::daemon_runs;
use super::super::view::View;
use super::Finding;
use super::remedy::{doubt, remedy};
use crate::config::{Settings, SinkSettings};
use crate::inbox::sqlite::Reader;
use crate::model::SinkName;
use crate::{inbox, ingest, sink};

/// A broker that does not answer within this is as good as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Below this a disk counts as nearly full, in bytes.
const LITTLE_SPACE: u64 = 1 << 30;

pub(super) fn probe(settings: &Settings, view: &View) -> anyhow::Result<Vec<Finding>> {
    let mut findings = inbox_findings(&settings.inbox);
    findings.extend(name_findings(settings));
    findings.extend(altered_finding(&settings.inbox));
    let lock = settings.inbox.path.with_extension("lock");
    let has_daemon = lock.exists() && daemon_runs(&settings.inbox.path);
    let admin = settings.admin.as_ref().map(|admin| ("admin.listen", admin.listen));
    for (key, address) in [("server.listen", settings.ingest.listen)].into_iter().chain(admin) {
        findings.push(listener(key, address, has_daemon));
    }
    if let Some(files) = &settings.ingest.tls {
        findings.push(certificate(files, Timestamp::now(), view));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        for (index, sink) in settings.sinks.iter().enumerate() {
            findings.push(probe_sink(index, sink).await);
        }
    });
    Ok(findings)
}

fn inbox_findings(config: &inbox::Config) -> Vec<Finding> {
    let path = &config.path;
    let hint = "the daemon's user must own the directory of inbox.url; the file itself is made by `serve`";
    let nearest = nearest_directory(path);
    let is_there = path.try_exists().unwrap_or(true);
    let result = if is_there {
        let read = Reader::open(config).and_then(|reader| reader.head()).map_err(anyhow::Error::from);
        let read = read.and_then(|head| {
            let writable = rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
            let writable = writable.and_then(|()| rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK));
            writable.map_err(|error| anyhow!(std::io::Error::from(error)).context("it cannot be written"))?;
            Ok(head)
        });
        match read {
            Ok(head) => Ok(format!("{} can be read and written; it holds {head} events", path.display())),
            // Advice, where there is any, comes on a line of its own.
            Err(error) => Err(format!("{}: {:#}", path.display(), with_advice(error, path))),
        }
    } else {
        writable_place(path, nearest)
    };
    let hint = if is_there { "" } else { hint };
    [Some(Finding::probed("inbox.url", result, hint)), space(nearest)].into_iter().flatten().collect()
}

/// Bodies that were found not to be what came in. What cannot be read is told of already.
fn altered_finding(config: &inbox::Config) -> Option<Finding> {
    let altered = Reader::open(config).and_then(|reader| reader.altered_events()).unwrap_or_default();
    (altered > 0).then(|| {
        let message = format!(
            "the stored body of {} is not what came in: its SHA-256 differs, so the file was altered or is damaged",
            if altered == 1 { "one event".to_owned() } else { format!("{altered} events") }
        );
        let hint =
            "`ralio-relay events list` marks them: compare them with a backup, and find out who writes to the inbox";
        Finding::of("fail", "inbox.url", message, hint)
    })
}

/// Sinks of the inbox that the configuration does not have, though something waits for them. What cannot be read is told
/// of already.
fn name_findings(settings: &Settings) -> Vec<Finding> {
    let records = Reader::open(&settings.inbox).and_then(|reader| reader.sinks()).unwrap_or_default();
    let names: Vec<SinkName> = settings.sinks.iter().map(|sink| sink.consumer.name.clone()).collect();
    let found = inbox::unconfigured(&records, &names);
    found
        .iter()
        .map(|found| Finding::of("warning", &format!("sink {}", found.record.name), found.finding(), found.advice()))
        .collect()
}

/// The nearest directory on the way to a file that is there already.
fn nearest_directory(path: &Path) -> &Path {
    let on_the_way = path.ancestors().skip(1).map(|dir| if dir == Path::new("") { Path::new(".") } else { dir });
    on_the_way.into_iter().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// There is no inbox yet: `serve` makes the file and the directories on the way to it, so the nearest one that is
/// there already has to let it.
fn writable_place(path: &Path, nearest: &Path) -> Result<String, String> {
    if !nearest.is_dir() {
        return Err(format!("{} is not a directory", nearest.display()));
    }
    match rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(format!("{} is not there yet, and can be made", path.display())),
        Err(error) => Err(format!("{} cannot be made: {} is not writable: {error}", path.display(), nearest.display())),
    }
}

/// Says so when there is little space left where the inbox grows.
fn space(directory: &Path) -> Option<Finding> {
    let space = statvfs(directory).ok().filter(|space| space.f_blocks > 0)?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let hint = "make room, move inbox.url to a larger disk, or set inbox.retention.bodies; once the disk is full every \
                delivery is answered 503, and Ralio sends it again";
    (free < LITTLE_SPACE).then(|| {
        let message = format!("only {} MiB are free on the disk of {}", free >> 20, directory.display());
        Finding::of("warning", "inbox.url", message, hint)
    })
}

/// Whether the daemon could listen there, or does.
fn listener(key: &str, address: SocketAddr, has_daemon: bool) -> Finding {
    let free = || Ok(format!("{address} is free"));
    let (result, hint) = match TcpListener::bind(address) {
        Ok(_) => (free(), String::new()),
        Err(error) if error.kind() == ErrorKind::AddrInUse && has_daemon => {
            (Ok(format!("{address} is in use: a daemon runs with this inbox")), String::new())
        }
        Err(error) => (Err(format!("cannot listen on {address}: {error}")), listener_remedy(address, &error)),
    };
    Finding::probed(key, result, &hint)
}

/// What to do where nothing can listen on an address.
pub(in crate::cli) fn listener_remedy(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another process listens there: `ss -ltnp 'sport = :{}'` names it. End it, or choose another port",
            address.port()
        ),
        ErrorKind::PermissionDenied => "a port below 1024 needs a right of its own (CAP_NET_BIND_SERVICE; \
             deploy/systemd/ralio-relay.service says how): give it, or choose a higher port"
            .to_owned(),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address (see `ip address`): 0.0.0.0 means all that it has".to_owned()
        }
        _ => "choose another address".to_owned(),
    }
}

fn certificate(files: &ingest::Tls, now: Timestamp, view: &View) -> Finding {
    let key = "server.tls";
    let described = ingest::load_tls(files).and_then(|_| ingest::describe(&files.cert));
    let about = match described {
        Ok(about) => about,
        Err(error) => {
            let hint = "give the daemon the chain and the key that belong together: server.tls.cert and server.tls.key";
            return Finding::of("fail", key, format!("{:#}", anyhow::Error::new(error)), hint);
        }
    };
    let (cert, names) = (files.cert.display(), about.names.join(", "));
    if about.not_after <= now {
        let hint = "renew it: the daemon takes the new files without a restart";
        return Finding::of("fail", key, format!("{cert} expired at {}", view.seconds(about.not_after)), hint);
    }
    if now < about.not_before {
        let hint = "is this machine's clock right? Otherwise wait, or get another certificate";
        let from = view.seconds(about.not_before);
        return Finding::of("fail", key, format!("{cert} is not yet valid: it is from {from} on"), hint);
    }
    let message = format!("{cert} is valid until {}, for {names}", view.seconds(about.not_after));
    if about.is_self_signed {
        let hint = "for a first try only: Ralio does not trust it. Get one that the public trusts";
        return Finding::of("warning", key, format!("{message}; it is self-signed"), hint);
    }
    if about.names.is_empty() {
        let hint = "get one whose subject alternative names hold the host that is registered in Ralio's portal";
        return Finding::of("warning", key, format!("{cert} is for no name at all"), hint);
    }
    Finding::of("ok", key, message, "")
}

async fn probe_sink(index: usize, settings: &SinkSettings) -> Finding {
    let what = format!("sink {}", settings.consumer.name);
    let attempt = async {
        let sink = sink::build(&settings.sink, settings.format).await.map_err(|error| error.to_string())?;
        let result = sink.probe().await;
        sink.close().await;
        result
    };
    let result = match tokio::time::timeout(PROBE_TIMEOUT, attempt).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    };
    match result {
        Ok(None) => Finding::of("ok", &what, reached(&settings.sink), ""),
        Ok(Some(remark)) => {
            let message = format!("can be reached, but answers a HEAD with {remark}");
            Finding::of("warning", &what, message, doubt(index, &remark))
        }
        Err(message) => {
            let hint = remedy(&settings.sink, index, &message);
            Finding::of("fail", &what, message, hint)
        }
    }
}

/// Nothing is published, so nothing is known of what comes after an exchange that others bind their queues to.
fn reached(sink: &sink::Config) -> &'static str {
    match sink {
        #[cfg(feature = "amqp")]
        sink::Config::Amqp(amqp) if !amqp.declare || amqp.queue.is_none() => {
            "can be reached; whether a queue is bound to its exchange shows with the first event"
        }
        #[cfg(feature = "amqp")]
        sink::Config::Amqp(_) => "can be reached",
        sink::Config::Http(_) | sink::Config::Exec(_) | sink::Config::File(_) | sink::Config::Stdout => {
            "can be reached"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_can_be_made_where_a_directory_lets_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = |path: &Path| writable_place(path, nearest_directory(path));
        assert!(place(&dir.path().join("a/b/inbox.db")).is_ok());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(place(&dir.path().join("file/inbox.db")).unwrap_err().contains("not a directory"));
        assert!(place(Path::new("inbox.db")).is_ok());
    }

    #[test]
    fn a_port_that_is_taken_is_the_daemons_or_a_strangers() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let other = listener("admin.listen", address, false);
        assert_eq!((other.level, other.key.as_str()), ("fail", "admin.listen"));
        assert!(other.hint.contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{}", other.hint);
        assert_eq!(listener("admin.listen", address, true).level, "ok");
        drop(taken);
        assert_eq!(listener("admin.listen", address, false).level, "ok");
        let foreign = listener("server.listen", "192.0.2.1:8443".parse().unwrap(), false);
        assert!(foreign.level == "fail" && foreign.hint.contains("0.0.0.0"), "{}", foreign.hint);
    }

    #[test]
    fn a_certificate_is_for_a_time_and_for_names() {
        let dir = tempfile::tempdir().unwrap();
        let files = ingest::Tls { cert: dir.path().join("tls.crt"), key: dir.path().join("tls.key") };
        let mut params = rcgen::CertificateParams::new(["relay.example.com".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2027, 1, 1));
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let at = |now: &str| certificate(&files, now.parse().unwrap(), &View::plain());
        for (now, level, said) in [
            ("2025-12-31T00:00:00Z", "fail", "not yet valid: it is from 2026-01-01T00:00:00Z on"),
            ("2026-06-01T00:00:00Z", "warning", "until 2027-01-01T00:00:00Z, for relay.example.com; it is self-signed"),
            ("2027-01-01T00:00:00Z", "fail", "expired at 2027-01-01T00:00:00Z"),
        ] {
            let found = at(now);
            assert!(found.level == level && found.message.contains(said), "{now}: {}", found.message);
        }
        std::fs::write(&files.key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let found = at("2026-06-01T00:00:00Z");
        assert!(found.level == "fail" && found.message.contains("does not fit"), "{}", found.message);
    }
}
