//! `check --probe`, with far sides that are not as they should be: which key, what it is, and what to do.

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::pki::Pki;
#[cfg(feature = "amqp")]
use crate::harness::rabbitmq::{self, Vhost};
use crate::harness::{TestRelay, run};

/// What it says of a sink with these keys: the finding and, after `-> `, the remedy. Its exit code has to fit.
async fn finding(kind: &str, keys: &str) -> String {
    let builder = TestRelay::builder().sink("far", kind, &format!("[sinks.{kind}]\n{keys}"));
    builder.write_config();
    let output = run(&["check", "--probe", "--config", builder.config_file().to_str().unwrap()]).await;
    let lines: Vec<_> = output.stdout.lines().collect();
    let begin = lines.iter().position(|line| line.contains(" sink far: ")).unwrap_or_else(|| panic!("{output:?}"));
    let remedy = lines[begin + 1..].iter().take_while(|line| line.starts_with("        -> "));
    let said = [lines[begin]].into_iter().chain(remedy.copied()).collect::<Vec<_>>().join("\n");
    output.code(i32::from(said.starts_with("FAIL ")));
    said
}

fn assert_says(case: &str, said: &str, words: &[&str]) {
    assert!(words.iter().all(|word| said.contains(word)), "{case}: {words:?} in {said}");
}

#[tokio::test]
async fn an_endpoint_that_answers_otherwise() {
    let fine = ["OK ", "can be reached"];
    let down = ["FAIL ", "-> sinks[0].http.url: the endpoint, or a proxy before it, is down"];
    let unsure = "fine where no HEAD is known";
    for (status, words) in [
        (204, &fine[..]),
        (405, &fine),
        (301, &["FAIL ", "redirects are not followed", "-> sinks[0].http.url: `curl -I`"]),
        (400, &["WARNING ", "HTTP 400", "-> sinks[0].http.url: ", unsure]),
        (401, &["WARNING ", "HTTP 401", "-> sinks[0].http.headers: ", unsure]),
        (403, &["WARNING ", "HTTP 403", "-> sinks[0].http.headers: ", unsure]),
        (404, &["WARNING ", "check the path", "-> sinks[0].http.url: ", unsure]),
        (500, &["WARNING ", "HTTP 500", "-> sinks[0].http.url: ", unsure]),
        (502, &down),
        (503, &down),
    ] {
        let app = FakeHttp::answering([Answer::Status(status, Vec::new())]).await;
        assert_says(&status.to_string(), &finding("http", &format!("url = {:?}", app.url())).await, words);
    }
    let app = FakeHttp::answering([401]).await;
    let keys = format!("url = {:?}\nheaders = {{ authorization = \"Bearer canary\" }}", app.url());
    let said = finding("http", &keys).await;
    assert_says("credentials", &said, &["FAIL ", "HTTP 401: renew", "-> sinks[0].http.headers: "]);
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached() {
    let pki = Pki::new();
    let secure = FakeHttp::over_tls(pki.server(&["http/1.1"], None), [200]).await;
    let plain = FakeHttp::answering([200]).await;
    let url = |url: String| format!("url = {url:?}");
    let ca = |pki: &Pki| format!("\nca = {:?}", pki.file("ca.crt"));
    let misnamed = secure.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    for (case, keys, words) in [
        ("refused", url("http://127.0.0.1:1/".to_owned()), "nothing listens there"),
        ("no such host", url("http://no-such-host.invalid/".to_owned()), "name is not known"),
        ("TLS to plain", url(plain.url().replace("http:", "https:")) + &ca(&pki), "no TLS is spoken"),
        ("plain to TLS", url(secure.url().replace("https:", "http:")), "https:// instead of http://"),
        ("another CA", url(secure.url()) + &ca(&Pki::new()), "no CA that is trusted here"),
        ("another name", url(misnamed) + &ca(&pki), "-> sinks[0].http.url: its certificate is for another name"),
    ] {
        assert_says(case, &finding("http", &keys).await, &["FAIL ", "-> sinks[0].http.url: ", words]);
    }
}

#[cfg(feature = "amqp")]
#[tokio::test]
async fn a_broker_that_does_not_let_it_in() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost = broker.vhost().await;
    let keys = |url: String| format!("url = {url:?}\nexchange = \"e\"\ndeclare = true\nqueue = \"q\"");
    let pki = Pki::new();
    let other_ca = format!("\nca = {:?}", pki.file("ca.crt"));
    let own_ca = format!("\nca = {:?}", vhost.ca());
    let name = |url: String| url.replace("127.0.0.1", "localhost");
    let scheme = |url: String, from: &str, to: &str| url.replace(from, to);
    assert_says("good", &finding("amqp", &keys(vhost.url())).await, &["OK ", "can be reached"]);
    for (case, keys, cause) in [
        ("password", keys(vhost.url().replace("guest:guest", "guest:hunter2")), "refuses user or password"),
        ("virtual host", keys(vhost.url() + "-not"), "the virtual host"),
        ("refused", keys("amqp://127.0.0.1:1".to_owned()), "nothing listens there"),
        ("no such host", keys("amqp://no-such-host.invalid".to_owned()), "name is not known"),
        ("plain to TLS", keys(scheme(vhost.tls_url(), "amqps:", "amqp:")), "wants amqps://"),
        ("TLS to plain", keys(scheme(vhost.url(), "amqp:", "amqps:")) + &own_ca, "no TLS is spoken"),
        ("another CA", keys(vhost.tls_url()) + &other_ca, "no CA that is trusted here"),
        ("another name", keys(name(vhost.tls_url())) + &own_ca, "its certificate is for another name"),
    ] {
        let said = finding("amqp", &keys).await;
        assert_says(case, &said, &["FAIL ", "-> sinks[0].amqp.url: ", cause]);
        assert!(!said.contains("hunter2"), "{said}");
    }
    vhost.delete().await;
}

#[cfg(feature = "amqp")]
#[tokio::test]
async fn what_the_broker_holds_is_not_what_is_declared() {
    let Some(broker) = rabbitmq::shared().await else { return };
    let vhost: Vhost = broker.vhost().await;
    let probe = async |exchange: &str, more: &str| {
        finding("amqp", &format!("url = {:?}\nexchange = {exchange:?}\n{more}", vhost.url())).await
    };
    let missing = probe("e", "declare = false").await;
    assert_says(
        "missing",
        &missing,
        &["FAIL ", "no exchange 'e'", "-> sinks[0].amqp.exchange: ", "set declare = true"],
    );

    vhost.bind("other", serde_json::json!({"x-max-length": 5}), "e", "#").await;
    let there = probe("e", "declare = false").await;
    assert_says("there", &there, &["OK ", "whether a queue is bound to its exchange shows with the first event"]);
    let other = ["FAIL ", "with other properties"];
    let kind = probe("amq.direct", "declare = true").await;
    assert_says("kind", &kind, &[&other[..], &["-> sinks[0].amqp.exchange: "]].concat());
    let queue = probe("e", "declare = true\nqueue = \"other\"").await;
    assert_says("queue", &queue, &[&other[..], &["-> sinks[0].amqp.queue: "]].concat());
    // Nothing is made.
    assert_says("new", &probe("new", "declare = true\nqueue = \"new\"").await, &["OK "]);
    assert_says("still new", &probe("new", "declare = false").await, &["FAIL ", "no exchange 'new'"]);

    vhost.forbid_declaring().await;
    let forbidden = probe("e", "declare = true").await;
    assert_says("rights", &forbidden, &["FAIL ", "the user lacks a right", "-> sinks[0].amqp.url: "]);
    vhost.delete().await;
}
