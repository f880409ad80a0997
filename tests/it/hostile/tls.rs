//! The public listener's TLS, as a scanner and as clients of other protocols see it.

use serde_json::Value;
use tokio::process::Command;

use crate::harness::raw::Raw;
use crate::harness::{TestRelay, signed, skip, text};

/// What the test's own certificate explains: it is signed by nobody else, can be revoked nowhere, and never ends.
const OF_THE_CERTIFICATE: [&str; 4] = ["cert_chain_of_trust", "cert_revocation", "cert_trust", "cert_validityPeriod"];

#[tokio::test]
async fn a_scanner_finds_nothing_old_and_nothing_weak() {
    let relay = TestRelay::builder().start().await;
    let directory = relay.settings().directory();
    let (found, ca) = (directory.join("testssl.json"), directory.join("tls.crt"));
    let address = relay.url("").trim_start_matches("https://").to_owned();
    let mut scan = Command::new("testssl");
    scan.kill_on_drop(true);
    scan.args(["--quiet", "--color", "0", "--warnings", "off", "-p", "-s", "-S", "-P", "--add-ca"]);
    scan.arg(ca).arg("--jsonfile").arg(&found).arg(&address);
    let Ok(scanned) = scan.output().await else { return skip("testssl") };
    let found = std::fs::read(&found).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&scanned.stdout)));
    let found: Vec<Value> = serde_json::from_slice(&found).unwrap();
    let finding = |id: &str| {
        let finding = found.iter().find(|finding| finding["id"] == id);
        text(finding.unwrap_or_else(|| panic!("no {id} in {found:#?}")), "finding")
    };
    for (id, offered) in
        [("SSLv2", false), ("SSLv3", false), ("TLS1", false), ("TLS1_1", false), ("TLS1_2", true), ("TLS1_3", true)]
    {
        assert_eq!(finding(id).starts_with("offered"), offered, "{id}: {}", finding(id));
    }
    for weak in ["NULL", "aNULL", "EXPORT", "LOW", "3DES_IDEA"] {
        assert_eq!(finding(&format!("cipherlist_{weak}")), "not offered", "{weak}");
    }
    assert!(
        found
            .iter()
            .any(|finding| text(finding, "id").starts_with("cipherlist_STRONG") && finding["finding"] == "offered")
    );
    for finding in &found {
        let explained = OF_THE_CERTIFICATE.iter().any(|id| text(finding, "id").starts_with(id));
        let bad = ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&text(finding, "severity"));
        assert!(explained || !bad, "{finding:#}");
    }
    relay.shutdown().await;
}

/// The signature is over the bytes of one request: there is one way to send it.
#[tokio::test]
async fn http2_is_not_offered() {
    let relay = TestRelay::builder().start().await;
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"], &["h2"], &["h3", "spdy/3"], &[]] {
        let offered = Raw::offering(&relay, protocols).await;
        let agreed = offered.as_ref().ok().and_then(Raw::protocol);
        assert!(agreed.as_deref().is_none_or(|agreed| agreed == "http/1.1"), "{protocols:?}: {agreed:?}");
        if let Ok(mut connection) = offered {
            let delivery = signed::payin_completed(&format!("evt {protocols:?}"));
            let length = format!("Content-Length: {}\r\n", delivery.body.len());
            connection.write([crate::harness::raw::head(&delivery, &length).as_bytes(), &delivery.body].concat()).await;
            assert!(connection.read_until("}").await.starts_with("HTTP/1.1 200 "));
        }
    }
    relay.shutdown().await;
}
