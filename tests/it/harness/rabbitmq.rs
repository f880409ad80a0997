//! One private RabbitMQ for the whole test run, on ports of its own, in a temporary directory.
//!
//! It starts with the first test that asks for it and ends with the test process, however that ends: a small shell
//! waits on a pipe that only the test process holds open, and then kills what is left. Tests that only use the broker
//! run side by side, each in a virtual host of its own ([`shared`]); those that stop or kill it have it to themselves
//! ([`exclusive`]).
#![cfg(feature = "amqp")]

mod tls;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::spawn_blocking;

/// The scripts themselves: those on the search path change user and directories.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// In bytes; a larger message costs its publisher the channel.
pub const MAX_MESSAGE_SIZE: usize = 1 << 20;

pub use tls::CLIENT_NAME;

/// A fresh node takes about 8 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

static BROKER: OnceCell<Option<Broker>> = OnceCell::const_new();
static IN_USE: RwLock<()> = RwLock::const_new(());

/// The broker, for tests that leave it as it is. `None` where RabbitMQ is not installed: the test is then skipped, and
/// says so; with `RALIO_RELAY_TEST_NO_SKIP=1` it panics instead.
pub async fn shared() -> Option<Shared> {
    let guard = IN_USE.read().await;
    Some(Shared { broker: broker().await?, _guard: guard })
}

/// The broker, for a test that takes it down. As [`shared`] otherwise.
pub async fn exclusive() -> Option<Exclusive> {
    let guard = IN_USE.write().await;
    Some(Exclusive { broker: broker().await?, state: State::Up, _guard: guard })
}

async fn broker() -> Option<&'static Broker> {
    let start = || async { spawn_blocking(Broker::start).await.unwrap() };
    BROKER.get_or_init(start).await.as_ref()
}

/// The right to use the broker beside others.
pub struct Shared {
    broker: &'static Broker,
    _guard: RwLockReadGuard<'static, ()>,
}

impl Deref for Shared {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.broker
    }
}

/// The right to take the broker down. It is up again when this is dropped.
pub struct Exclusive {
    broker: &'static Broker,
    state: State,
    _guard: RwLockWriteGuard<'static, ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Stopped,
    Killed,
    Frozen,
    Alarmed,
}

impl Deref for Exclusive {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.broker
    }
}

impl Exclusive {
    /// A clean outage: connections are closed, ports too, until [`Self::mend`].
    pub async fn stop_app(&mut self) {
        self.change(State::Stopped, |broker| broker.ctl(&["stop_app"])).await;
    }

    /// `kill -9`, until [`Self::mend`].
    pub async fn kill(&mut self) {
        self.change(State::Killed, Broker::kill).await;
    }

    /// The broker accepts connections and does nothing, until [`Self::mend`].
    pub async fn freeze(&mut self) {
        self.change(State::Frozen, |broker| broker.signal("-STOP")).await;
    }

    /// A memory alarm: whoever publishes is blocked, until [`Self::mend`].
    pub async fn raise_memory_alarm(&mut self) {
        self.change(State::Alarmed, |broker| broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"])).await;
    }

    /// Back to work, whatever was done.
    pub async fn mend(&mut self) {
        let (broker, state) = (self.broker, self.state);
        self.change(State::Up, move |_| broker.mend(state)).await;
    }

    async fn change(&mut self, state: State, work: impl FnOnce(&Broker) + Send + 'static) {
        let broker = self.broker;
        spawn_blocking(move || work(broker)).await.unwrap();
        self.state = state;
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // A test failed in the middle of an outage. The others are to fail for their own reasons only.
        self.broker.mend(self.state);
    }
}

/// A virtual host of a test's own.
pub struct Vhost {
    broker: &'static Broker,
    name: String,
}

/// A message in a queue.
#[derive(Debug)]
pub struct Message {
    pub routing_key: String,
    pub payload: Vec<u8>,
    /// As the management API shows them: `content_type`, `message_id`, `headers` and so on.
    pub properties: Value,
}

impl Vhost {
    /// Where a client connects.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{}", self.broker.amqp, self.name)
    }

    /// The same over TLS.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/{}", self.broker.amqps, self.name)
    }

    /// The file with the CA that the broker's certificate is by.
    pub fn ca(&self) -> PathBuf {
        self.broker.directory.join(tls::CA)
    }

    /// The files with a client's certificate by that CA, and its key. Its name is [`CLIENT_NAME`].
    pub fn client(&self) -> [PathBuf; 2] {
        tls::CLIENT.map(|name| self.broker.directory.join(name))
    }

    /// Everything in a queue, oldest first; it stays there.
    pub async fn messages(&self, queue: &str) -> Vec<Message> {
        let ask = json!({"count": 100_000, "ackmode": "ack_requeue_true", "encoding": "base64"});
        let answer = self.call("POST", format!("/api/queues/{}/{queue}/get", self.name), ask).await;
        let messages: Vec<Value> = serde_json::from_slice(&answer).unwrap();
        let message = |mut message: Value| Message {
            routing_key: message["routing_key"].as_str().unwrap().to_owned(),
            payload: BASE64.decode(message["payload"].as_str().unwrap().as_bytes()).unwrap(),
            properties: message["properties"].take(),
        };
        messages.into_iter().map(message).collect()
    }

    /// Declares a durable queue with arguments, and binds it to a durable topic exchange, which is declared too.
    pub async fn bind(&self, queue: &str, arguments: Value, exchange: &str, routing_key: &str) {
        let vhost = &self.name;
        let topic = json!({"type": "topic", "durable": true});
        self.call("PUT", format!("/api/exchanges/{vhost}/{exchange}"), topic).await;
        let durable = json!({"durable": true, "arguments": arguments});
        self.call("PUT", format!("/api/queues/{vhost}/{queue}"), durable).await;
        let binding = json!({"routing_key": routing_key});
        self.call("POST", format!("/api/bindings/{vhost}/e/{exchange}/q/{queue}"), binding).await;
    }

    /// Takes a binding away that [`Self::bind`] or the relay has made, for every routing key (`#`).
    pub async fn unbind(&self, queue: &str, exchange: &str) {
        let bindings = format!("/api/bindings/{}/e/{exchange}/q/{queue}", self.name);
        // The name of a binding is its routing key, escaped; and then once more for the path.
        self.call("DELETE", format!("{bindings}/%2523"), Value::Null).await;
    }

    /// Deletes an exchange, and with it its bindings.
    pub async fn delete_exchange(&self, exchange: &str) {
        self.call("DELETE", format!("/api/exchanges/{}/{exchange}", self.name), Value::Null).await;
    }

    /// Takes the right to declare from its user.
    pub async fn forbid_declaring(&self) {
        let publishing = json!({"configure": "^$", "write": ".*", "read": ".*"});
        self.call("PUT", format!("/api/permissions/{}/guest", self.name), publishing).await;
    }

    /// Takes it away, with all that is in it: each one costs the broker time when it starts.
    pub async fn delete(self) {
        self.call("DELETE", format!("/api/vhosts/{}", self.name), Value::Null).await;
    }

    /// The connections to it, as the management API shows them.
    pub async fn connections(&self) -> Vec<Value> {
        let answer = self.call("GET", format!("/api/vhosts/{}/connections", self.name), Value::Null).await;
        serde_json::from_slice(&answer).unwrap()
    }

    /// Closes every connection to it, as an operator would.
    pub async fn close_connections(&self) {
        let (broker, name) = (self.broker, self.name.clone());
        let close = move || broker.ctl(&["close_all_connections", "--vhost", &name, "closed by a test"]);
        spawn_blocking(close).await.unwrap();
    }

    async fn call(&self, method: &'static str, path: String, body: Value) -> Vec<u8> {
        let broker = self.broker;
        spawn_blocking(move || broker.call(method, &path, &body)).await.unwrap()
    }
}

/// A running node.
pub struct Broker {
    directory: PathBuf,
    /// Ports.
    amqp: u16,
    amqps: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
    vhosts: AtomicUsize,
    server: Mutex<Option<Child>>,
    /// Its standard input is the pipe that ends with the test process.
    _watchdog: Child,
}

impl Broker {
    /// A new, empty virtual host.
    pub async fn vhost(&self) -> Vhost {
        let broker = BROKER.get().and_then(Option::as_ref).expect("this is that broker");
        let vhost = Vhost { broker, name: format!("test-{}", self.vhosts.fetch_add(1, Ordering::Relaxed)) };
        vhost.call("PUT", format!("/api/vhosts/{}", vhost.name), json!({})).await;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        vhost.call("PUT", format!("/api/permissions/{}/guest", vhost.name), everything).await;
        vhost
    }

    fn start() -> Option<Self> {
        if !Path::new(SCRIPTS).join("rabbitmq-server").exists() {
            let reason = "rabbitmq-server is not installed (apt-get install rabbitmq-server)";
            assert!(std::env::var_os("RALIO_RELAY_TEST_NO_SKIP").is_none_or(|value| value != "1"), "{reason}");
            // Not `eprintln!`: what that prints is shown for failed tests only.
            let notice = format!("\nSKIPPED, every test that needs RabbitMQ: {reason}\n");
            io::stderr().write_all(notice.as_bytes()).unwrap();
            return None;
        }
        let directory = tempfile::Builder::new().prefix("ralio-relay-rabbitmq").tempdir().unwrap().keep();
        let [amqp, amqps, management, distribution, epmd] = free_ports();
        let watchdog = watch(&directory, epmd);
        let (vhosts, server) = (AtomicUsize::new(0), Mutex::new(None));
        let broker =
            Self { directory, amqp, amqps, management, distribution, epmd, vhosts, server, _watchdog: watchdog };
        broker.configure();
        broker.run();
        Some(broker)
    }

    fn configure(&self) {
        let file = |name: &str, text: &str| fs::write(self.directory.join(name), text).unwrap();
        file(".erlang.cookie", "RALIORELAYTEST");
        fs::set_permissions(self.directory.join(".erlang.cookie"), fs::Permissions::from_mode(0o400)).unwrap();
        file("plugins", "[rabbitmq_management].");
        let settings = [
            format!("listeners.tcp.1 = 127.0.0.1:{}", self.amqp),
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", self.management),
            "loopback_users = none".to_owned(),
            "disk_free_limit.absolute = 50MB".to_owned(),
            format!("max_message_size = {MAX_MESSAGE_SIZE}"),
        ];
        let settings = [settings.to_vec(), tls::configure(&self.directory, self.amqps)].concat();
        file("rabbitmq.conf", &(settings.join("\n") + "\n"));
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = |name: &str| self.directory.join(name);
        let mut command = Command::new(program);
        command
            .current_dir(&self.directory)
            .env("HOME", &self.directory)
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.amqp))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("none"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .stdin(Stdio::null());
        command
    }

    /// Starts the node and waits until it answers.
    fn run(&self) {
        let output = || fs::OpenOptions::new().append(true).create(true).open(self.directory.join("output")).unwrap();
        // The group's number is in a file before there is anything to kill.
        let server = self
            .command("sh")
            .args(["-c", r#"echo $$ >group && exec "$0""#])
            .arg(Path::new(SCRIPTS).join("rabbitmq-server"))
            .process_group(0)
            .stdout(output())
            .stderr(output())
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(server);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.request("GET", "/api/overview", b"").is_ok_and(|(status, _)| status == 200) {
            if Instant::now() > deadline {
                let output = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
                panic!("RabbitMQ did not start within {START_TIMEOUT:?}:\n{output}");
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn kill(&self) {
        self.signal("-KILL");
        if let Some(mut server) = self.server.lock().unwrap().take() {
            server.wait().unwrap();
        }
    }

    /// To the process group of the node; the port mapper is not in it.
    fn signal(&self, signal: &str) {
        let group = fs::read_to_string(self.directory.join("group")).unwrap();
        let status = Command::new("kill").args([signal, "--", &format!("-{}", group.trim())]).status().unwrap();
        assert!(status.success());
    }

    fn ctl(&self, arguments: &[&str]) {
        let output = self.command(Path::new(SCRIPTS).join("rabbitmqctl")).args(arguments).output().unwrap();
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn mend(&self, state: State) {
        match state {
            State::Up => {}
            State::Stopped => {
                self.ctl(&["start_app"]);
                self.wait_until_ready();
            }
            State::Killed => self.run(),
            State::Frozen => {
                self.signal("-CONT");
                self.wait_until_ready();
            }
            // RabbitMQ's own default.
            State::Alarmed => self.ctl(&["set_vm_memory_high_watermark", "0.4"]),
        }
    }

    /// The management API, which must say yes.
    fn call(&self, method: &str, path: &str, body: &Value) -> Vec<u8> {
        let (status, answer) = self.request(method, path, body.to_string().as_bytes()).unwrap();
        assert_eq!(status / 100, 2, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        answer
    }

    /// HTTP/1.0: the answer ends with the connection.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.management))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let credentials = BASE64.encode(b"guest:guest");
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, answer.split_off(end + 4)))
    }
}

/// Ends the node, its port mapper and its directory when the test process is gone.
fn watch(directory: &Path, epmd: u16) -> Child {
    const SCRIPT: &str = r#"
        cat >/dev/null
        test -s "$0/group" && kill -s KILL -- "-$(cat "$0/group")"
        for attempt in 1 2 3 4 5 6 7 8 9 10; do
            # Refused while the node that was just killed is still registered.
            epmd -port "$1" -kill | grep -q -v '^Killing not allowed' && break
            sleep 0.2
        done
        rm -rf "$0"
    "#;
    Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(directory)
        .arg(epmd.to_string())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Ports that were free a moment ago, all held at once so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
