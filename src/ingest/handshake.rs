//! TLS handshakes that fail: why, counted and told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{AlertDescription, Error, PeerIncompatible};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ServerTls;
use crate::metrics::Metrics;

/// A reason is told again after so long.
const QUIET: Duration = Duration::from_secs(600);

/// What the first bytes of a PROXY protocol header are, in its two versions.
const PROXY: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQ"];
/// How many bytes are looked at.
const BEGINNING: usize = 8;

/// Why a handshake failed: the label `reason` of `tls_handshake_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NoSharedCipher,
    NoSharedVersion,
    UnknownCa,
    NotTls,
    PlainHttp,
    ProxyLine,
    Timeout,
    Closed,
    Other,
}

impl Failure {
    const ALL: [Self; 9] = [
        Self::NoSharedCipher,
        Self::NoSharedVersion,
        Self::UnknownCa,
        Self::NotTls,
        Self::PlainHttp,
        Self::ProxyLine,
        Self::Timeout,
        Self::Closed,
        Self::Other,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NoSharedCipher => "no_shared_cipher",
            Self::NoSharedVersion => "no_shared_version",
            Self::UnknownCa => "unknown_ca",
            Self::NotTls => "not_tls",
            Self::PlainHttp => "plain_http",
            Self::ProxyLine => "proxy_line",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    /// What to do about it; `None` where nearly always nothing is to be done, because it is a scanner or a health check.
    fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NoSharedCipher => Some(
                "the sender offers no cipher suite, group or signature scheme that the relay has: let it offer one of TLS 1.3, or ECDHE with AES-GCM or ChaCha20",
            ),
            Self::NoSharedVersion => Some("the sender speaks neither TLS 1.2 nor TLS 1.3: let it speak one of them"),
            Self::UnknownCa => Some(
                "the sender does not trust the certificate: put the whole chain into server.tls.cert, from a public certificate authority, and look whether it has expired",
            ),
            Self::PlainHttp => Some(
                "somebody speaks HTTP to the HTTPS port: write https:// in its URL, or set server.plaintext = true behind a proxy that terminates TLS",
            ),
            Self::ProxyLine => {
                Some("a load balancer sends the PROXY protocol, which the relay does not take: turn it off there")
            }
            Self::NotTls | Self::Timeout | Self::Closed | Self::Other => None,
        }
    }

    /// By the error, and by what the peer sent first.
    fn of(error: &io::Error, beginning: &[u8]) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Timeout;
        }
        if PROXY.iter().any(|proxy| !beginning.is_empty() && beginning.starts_with(proxy)) {
            return Self::ProxyLine;
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::PeerIncompatible(incompatible)) => Self::of_incompatible(incompatible),
            Some(Error::AlertReceived(alert)) => Self::of_alert(*alert),
            Some(Error::InvalidMessage(_)) => match beginning {
                [0x16, ..] => Self::Other,
                [first, ..] if first.is_ascii_uppercase() => Self::PlainHttp,
                _ => Self::NotTls,
            },
            Some(_) => Self::Other,
            None => Self::Closed,
        }
    }

    fn of_incompatible(incompatible: &PeerIncompatible) -> Self {
        use PeerIncompatible as I;
        match incompatible {
            I::NoCipherSuitesInCommon
            | I::NoKxGroupsInCommon
            | I::NoSignatureSchemesInCommon
            | I::NoCertificateRequestSignatureSchemesInCommon
            | I::NamedGroupsExtensionRequired
            | I::EcPointsExtensionRequired
            | I::UncompressedEcPointsRequired => Self::NoSharedCipher,
            // A hello without this extension is older than TLS 1.2.
            I::SignatureAlgorithmsExtensionRequired
            | I::Tls12NotOffered
            | I::Tls12NotOfferedOrEnabled
            | I::SupportedVersionsExtensionRequired
            | I::ServerDoesNotSupportTls12Or13 => Self::NoSharedVersion,
            _ => Self::Other,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown => Self::UnknownCa,
            AlertDescription::ProtocolVersion => Self::NoSharedVersion,
            AlertDescription::HandshakeFailure => Self::NoSharedCipher,
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// Counts failures, and tells of those that have not been told of lately.
pub(super) struct Failures {
    metrics: Arc<Metrics>,
    told: Mutex<[Told; Failure::ALL.len()]>,
}

#[derive(Clone, Copy, Default)]
struct Told {
    at: Option<Instant>,
    suppressed: u64,
}

impl Failures {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        for failure in Failure::ALL {
            // A series that is there from the beginning shows its first increase.
            metrics.tls_handshake_failures.with_label_values(&[failure.label()]);
        }
        Self { metrics, told: Mutex::default() }
    }

    fn note(&self, failure: Failure, peer: SocketAddr, error: &io::Error) {
        self.metrics.tls_handshake_failures.with_label_values(&[failure.label()]).inc();
        let Some(suppressed) = self.is_news(failure, Instant::now()) else {
            tracing::debug!(%peer, reason = failure.label(), %error, "a TLS handshake failed");
            return;
        };
        let (peer, reason) = (peer.ip().to_canonical(), failure.label());
        match failure.remedy() {
            Some(remedy) => tracing::warn!(%peer, reason, %error, suppressed, "a TLS handshake failed: {remedy}"),
            None => tracing::info!(%peer, reason, %error, suppressed, "a TLS handshake failed"),
        }
    }

    /// How many of this kind were not told of since the last one; `None` = neither is this one.
    fn is_news(&self, failure: Failure, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = &mut told[failure as usize];
        if told.at.is_some_and(|at| now.saturating_duration_since(at) < QUIET) {
            told.suppressed += 1;
            return None;
        }
        told.at = Some(now);
        Some(std::mem::take(&mut told.suppressed))
    }
}

/// Makes the handshake, within `patience`.
pub(super) async fn accept(
    tls: &ServerTls,
    tcp: TcpStream,
    peer: SocketAddr,
    patience: Duration,
    failures: &Failures,
) -> io::Result<TlsStream<TcpStream>> {
    let mut beginning = [0; BEGINNING];
    let mut seen = 0;
    let handshake = async {
        // What was sent is read again by the handshake; afterwards it would be gone.
        seen = tcp.peek(&mut beginning).await?;
        TlsAcceptor::from(tls.config()).accept(tcp).await
    };
    let accepted = match tokio::time::timeout(patience, handshake).await {
        Ok(accepted) => accepted,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    accepted.inspect_err(|error| failures.note(Failure::of(error, &beginning[..seen]), peer, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_place_and_a_name() {
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index, "{failure:?}");
            assert!(Failure::ALL.iter().filter(|other| other.label() == failure.label()).count() == 1);
        }
    }

    #[test]
    fn a_reason_is_told_of_again_after_a_while() {
        let failures = Failures::new(Arc::new(Metrics::new()));
        let start = Instant::now();
        assert_eq!(failures.is_news(Failure::NotTls, start), Some(0));
        assert_eq!(failures.is_news(Failure::NotTls, start), None);
        assert_eq!(failures.is_news(Failure::UnknownCa, start), Some(0), "each reason for itself");
        assert_eq!(failures.is_news(Failure::NotTls, start + QUIET), Some(1));
    }
}
