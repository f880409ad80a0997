//! One connection with one channel, ready to publish.

use std::future::Future;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::tcp::AsyncTcpStream;
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, Event, ExchangeKind};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::tls;
use crate::sink::Tls;

/// For everything from the TCP handshake to the declared topology.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// For saying goodbye; a broker that does not answer is left without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where to publish.
pub(super) struct Broker {
    pub(super) uri: AMQPUri,
    pub(super) exchange: ShortString,
    pub(super) declare: bool,
    pub(super) queue: Option<ShortString>,
    /// For `amqps://`.
    pub(super) tls: Tls,
}

impl Broker {
    /// Host and port: all of the URL that may be shown.
    fn address(&self) -> String {
        let (host, port) = (&self.uri.authority.host, self.uri.authority.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// An open connection. Dropping it cuts the TCP connection.
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
    /// What happens to it, from the beginning.
    pub(super) events: BoxStream<'static, Event>,
    /// When the channel was opened.
    pub(super) opened: Timestamp,
    _socket: Arc<Socket>,
}

impl Open {
    /// Closes channel and connection politely, as far as the broker takes part.
    pub(super) async fn close(self) {
        if self.connection.status().blocked() {
            // Nothing is sent while the broker blocks, a goodbye neither.
            return;
        }
        let goodbye = async {
            // An error means that the connection is closed already.
            let _ = self.connection.close(200, "OK".into()).await;
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// Connects, and makes exchange and queue where that is asked for; otherwise makes sure that the exchange is there.
pub(super) async fn open(broker: &Broker) -> Result<Open, String> {
    bounded(broker, async {
        let open = connect(broker).await?;
        open.channel.confirm_select(ConfirmSelectOptions::default()).await?;
        if broker.declare {
            declare(broker, &open.channel).await?;
        } else {
            find_exchange(broker, &open.channel).await?;
        }
        Ok(open)
    })
    .await
}

/// As [`open`], but makes nothing.
pub(super) async fn probe(broker: &Broker) -> Result<(), String> {
    let open = bounded(broker, async {
        let open = connect(broker).await?;
        let is_there = find_exchange(broker, &open.channel).await;
        if !broker.declare {
            is_there?;
        } else if is_there.is_ok() {
            redeclare(broker, &open.connection, &open.channel).await?;
        }
        Ok(open)
    })
    .await?;
    open.close().await;
    Ok(())
}

async fn bounded(broker: &Broker, opening: impl Future<Output = lapin::Result<Open>>) -> Result<Open, String> {
    let failure = match timeout(OPEN_TIMEOUT, opening).await {
        Ok(Ok(open)) => return Ok(open),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", OPEN_TIMEOUT.as_secs()),
    };
    Err(format!("cannot connect to {}: {failure}", broker.address()))
}

async fn connect(broker: &Broker) -> lapin::Result<Open> {
    let socket = Arc::new(Socket(OnceLock::new()));
    let guard = Arc::downgrade(&socket);
    let properties = ConnectionProperties::default().with_connection_name("ralio-relay".into());
    let runtime = lapin::runtime::default_runtime()?;
    let tls = broker.tls.clone();
    let connection = Connection::connector(
        broker.uri.clone(),
        runtime,
        async move |uri: AMQPUri, runtime| {
            let host = uri.authority.host.as_str();
            let addresses: Vec<SocketAddr> = lookup_host((host, uri.authority.port)).await?.collect();
            let stream = timeout(OPEN_TIMEOUT, AsyncTcpStream::connect(&runtime, addresses.as_slice()))
                .await
                .map_err(std::io::Error::from)??;
            // TLS comes on top of it: to cut the TCP connection cuts both.
            let AsyncTcpStream::Plain(plain) = &stream else {
                return Err(std::io::Error::other("a new TCP connection is not a plain one").into());
            };
            Socket::keep(&guard, plain.get_ref().as_fd().try_clone_to_owned()?.into())?;
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                // This thread is lapin's own: reading files in it keeps nobody waiting.
                AMQPScheme::AMQPS => {
                    stream.into_rustls(&tls::connector(&tls).map_err(std::io::Error::other)?, host).await?
                }
            })
        },
        properties,
    )
    .await?;
    let events = connection.events_listener().boxed();
    let channel = connection.create_channel().await?;
    Ok(Open { connection, channel, events, opened: Timestamp::now(), _socket: socket })
}

async fn declare(broker: &Broker, channel: &Channel) -> lapin::Result<()> {
    declare_exchange(broker, channel).await?;
    if let Some(queue) = &broker.queue {
        declare_queue(queue, channel).await?;
        let (exchange, none) = (broker.exchange.clone(), FieldTable::default());
        channel.queue_bind(queue.clone(), exchange, "#".into(), QueueBindOptions::default(), none).await?;
    }
    Ok(())
}

async fn declare_exchange(broker: &Broker, channel: &Channel) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(broker.exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await
}

async fn declare_queue(queue: &ShortString, channel: &Channel) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, FieldTable::default()).await.map(drop)
}

/// Declares what is there already: that changes nothing, and fails as it would in [`open`] when its properties are
/// others, or the user has no right to.
async fn redeclare(broker: &Broker, connection: &Connection, channel: &Channel) -> lapin::Result<()> {
    declare_exchange(broker, channel).await?;
    let Some(queue) = &broker.queue else { return Ok(()) };
    // A queue that is not there costs the channel.
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(queue.clone(), passive, FieldTable::default()).await {
        Ok(_) => declare_queue(queue, &channel).await,
        Err(_) => Ok(()),
    }
}

async fn find_exchange(broker: &Broker, channel: &Channel) -> lapin::Result<()> {
    if broker.exchange.as_str().is_empty() {
        // The default exchange is always there, and may not be asked for.
        return Ok(());
    }
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(broker.exchange.clone(), ExchangeKind::Topic, passive, FieldTable::default()).await
}

/// The TCP connection under a connection. lapin's thread lives until the connection ends, so one that is given up
/// halfway (a broker that never answers the handshake, or one that blocks publishers) would stay for ever: cutting the
/// TCP connection ends it whatever the broker does.
struct Socket(OnceLock<TcpStream>);

impl Socket {
    fn keep(socket: &Weak<Self>, stream: TcpStream) -> std::io::Result<()> {
        // Given up before TCP was connected: an error ends the thread.
        let socket = socket.upgrade().ok_or(std::io::ErrorKind::ConnectionAborted)?;
        socket.0.set(stream).map_err(|_| std::io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = self.0.get() {
            // An error means that it is cut already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Nothing of a connection that is given up halfway stays behind.
    #[tokio::test]
    async fn giving_up_cuts_the_connection() {
        let said = said_to_a_silent_broker("amqp").await;
        assert!(b"AMQP\x00\x00\x09\x01".starts_with(&said), "{said:?}");
    }

    /// Nor of one that is given up in the middle of its TLS handshake.
    #[tokio::test]
    async fn giving_up_cuts_a_tls_handshake() {
        let said = said_to_a_silent_broker("amqps").await;
        let client_hello = [22, 3, 1];
        assert!(said.starts_with(&client_hello), "{said:?}");
    }

    /// Connects to a broker that never answers, and gives up; everything that the broker gets until the connection ends.
    async fn said_to_a_silent_broker(scheme: &str) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.crt");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let tls = Tls { ca: Some(ca), client: None };
        let broker = Broker { uri, exchange: "e".into(), declare: false, queue: None, tls };
        let mut said = Vec::new();
        let mut stream = {
            let mut opening = std::pin::pin!(open(&broker));
            let (mut stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                opened = &mut opening => panic!("{:?}", opened.err()),
            };
            tokio::select! {
                read = stream.read_buf(&mut said) => assert!(read.unwrap() > 0),
                opened = &mut opening => panic!("{:?}", opened.err()),
            }
            stream
        };
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
        read.expect("the connection was left open").unwrap();
        said
    }
}
