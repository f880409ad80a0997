//! Sockets that a service manager holds: what connects while the daemon is away waits, and is answered.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::harness::process::Process;
use crate::harness::{Ack, Builder, DEADLINE, Delivery, TestRelay, eventually, signed, skip, text};

/// A socket of the service manager's, which is us.
fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// On a connection of its own.
async fn post(client: &reqwest::Client, address: SocketAddr, delivery: &Delivery) -> reqwest::Result<Ack> {
    let url = format!("https://{address}{}", delivery.path);
    let mut request = client.post(url).header("connection", "close").body(delivery.body.clone());
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    Ack::read(delivery, request.send().await?).await
}

#[tokio::test]
async fn what_connects_while_the_daemon_is_away_is_answered_when_it_comes() {
    let (public, address) = socket();
    let settings = TestRelay::with_file_sink("out").passing(public, "public");
    let relay = settings.start().await;
    assert_eq!(relay.url(""), format!("https://{address}"));
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    let client = relay.client().clone();
    let settings = relay.shutdown().await;

    // Bytes are on their way before anybody is there to read them.
    let early = TcpStream::connect(address).unwrap();
    let mut waiting = JoinSet::new();
    for n in 2..=20 {
        let (client, delivery) = (client.clone(), signed::payin_completed(&format!("evt-{n}")));
        waiting.spawn(async move { post(&client, address, &delivery).await });
    }
    eventually("twenty connections in the backlog", async || match backlog(address) {
        20 => Ok(()),
        so_far => Err(so_far),
    })
    .await;
    let relay = settings.start().await;
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), Ack::FRESH);
    }
    drop(early);
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), 20);
    relay.shutdown().await;
}

/// How many connections to the address wait to be accepted.
fn backlog(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{:04X}", address.port());
    // sl, local address, remote address, state, queues: those of a socket that listens (0A) are tx:rx in hex.
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == local && row[3] == "0A").expect("the socket listens");
    usize::from_str_radix(row[4].split_once(':').unwrap().1, 16).unwrap()
}

/// As Ralio does: again, until it is accepted.
async fn deliver(client: &reqwest::Client, address: SocketAddr, delivery: &Delivery, refused: &Cell<u32>) {
    eventually("an acknowledgement", async || match post(client, address, delivery).await {
        Ok(Ack { status: 200, .. }) => Ok(()),
        Ok(Ack { status, .. }) => Err(status.to_string()),
        Err(error) => {
            if was_refused(&error) {
                refused.set(refused.get() + 1);
            }
            Err(format!("{error:?}"))
        }
    })
    .await;
}

fn was_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn a_restart_under_load_refuses_nobody_and_loses_nothing() {
    let (public, address) = socket();
    let relay = TestRelay::with_file_sink("out").passing(public, "public").start().await;
    let client = relay.client().clone();
    let (ended, refused, accepted) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let senders = (0..8).map(async |sender| {
        for n in 0.. {
            deliver(&client, address, &signed::payin_completed(&format!("evt-{sender}-{n}")), &refused).await;
            accepted.set(accepted.get() + 1);
            if ended.get() {
                return;
            }
        }
    });
    let restarts = async {
        let mut relay = relay;
        for _ in 0..3 {
            let enough = accepted.get() + 100;
            let more = async || if accepted.get() >= enough { Ok(()) } else { Err(accepted.get()) };
            eventually("a hundred acknowledgements more", more).await;
            relay = relay.shutdown().await.start().await;
        }
        ended.set(true);
        relay
    };
    let (_, relay) = tokio::join!(join_all(senders), restarts);
    relay.settled().await;
    let delivered: BTreeSet<String> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
    assert_eq!((delivered.len(), refused.get()), (accepted.get(), 0));
    relay.shutdown().await;
}

#[tokio::test]
async fn the_admin_listener_takes_its_socket_by_name() {
    let (admin, address) = socket();
    let relay = TestRelay::builder().passing(admin, "admin").start().await;
    assert_eq!(relay.admin_url(""), format!("http://{address}"));
    assert_ne!(relay.url(""), format!("https://{address}"));
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;
}

/// What `serve` says when it is started like this.
async fn refusal(settings: Builder) -> String {
    let mut serve = settings.spawn();
    assert_eq!(serve.end().await.code(), Some(2), "a mistake in the configuration does not go away by itself");
    eventually("a word of it", async || serve.stderr.all().last().cloned().ok_or(())).await
}

#[tokio::test]
async fn sockets_that_do_not_fit_are_refused_with_what_to_do() {
    let listening = |names| TestRelay::builder().passing(socket().0, names);
    let said = refusal(listening("web")).await;
    assert!(said.contains("a socket named 'web': write FileDescriptorName=public"), "{said}");
    let said = refusal(listening("public:public")).await;
    assert!(said.contains("two sockets named 'public'") && said.contains("leave one ListenStream="), "{said}");
    let said = refusal(listening("public:")).await;
    assert!(said.contains("passed 2 socket(s) and 1 name(s): name each"), "{said}");

    let (accepting, address) = socket();
    let connection = TcpStream::connect(address).unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    drop(accepting);
    let others: [OwnedFd; 3] = [connection.into(), datagram.into(), File::open("/dev/null").unwrap().into()];
    for other in others {
        let said = refusal(TestRelay::builder().passing(other, "public")).await;
        assert!(said.contains("'public' is not a listening TCP socket: write ListenStream="), "{said}");
    }
}

#[tokio::test]
async fn a_socket_elsewhere_than_configured_is_refused() {
    let (public, address) = socket();
    let settings = TestRelay::builder().passing(public, "public");
    let said = refusal(settings.env("RALIO_RELAY__SERVER__LISTEN", "127.0.0.1:9")).await;
    assert!(
        said.contains(&format!("listens on {address}, and server.listen is 127.0.0.1:9: write the same")),
        "{said}"
    );
    let settings = TestRelay::builder().passing(socket().0, "admin");
    let said = refusal(settings.env("RALIO_RELAY__ADMIN__LISTEN", "off")).await;
    assert!(said.contains("admin.listen is \"off\": take one of them out"), "{said}");
}

/// By systemd's own hand: it starts the daemon when the first connection comes.
#[tokio::test]
async fn systemd_socket_activate_passes_both_sockets() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        return skip("systemd-socket-activate");
    }
    let settings = TestRelay::builder();
    settings.write_config();
    let certificate = std::fs::read(settings.directory().join("tls.crt")).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&certificate).unwrap()])
        .timeout(DEADLINE)
        .build()
        .unwrap();
    // It takes no port 0.
    let (public, admin) = (socket().1, socket().1);
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["-l", &public.to_string(), "-l", &admin.to_string(), "--fdname=public:admin"]);
    activate.args([env!("CARGO_BIN_EXE_ralio-relay"), "serve", "--config"]).arg(settings.config_file());
    let mut process = Process::spawn(activate.current_dir(settings.directory()));
    let listens =
        async || process.stderr.all().iter().filter(|line| line.starts_with("Listening on ")).nth(1).map(drop);
    eventually("both sockets", async || listens().await.ok_or(())).await;
    let ack = post(&client, public, &signed::payin_completed("evt-1")).await.unwrap();
    assert_eq!(ack, Ack::FRESH);
    let healthy = client.get(format!("http://{admin}/readyz")).send().await.unwrap();
    assert_eq!(healthy.status(), 200);
    process.signal("TERM");
    assert!(process.end().await.success());
}
