//! `deploy/kubernetes`: manifests that Kubernetes takes, closed pods, and what they mount is what the relay reads.

use serde_json::{Value, json};

use super::held::Held;
use super::image::of_package;
use super::{alerts_job, documents, list, named, python_tool};
use crate::harness::{run_in, text, write_secret};

fn file(name: &str) -> String {
    format!("deploy/kubernetes/{name}.yaml")
}

/// The object of this kind and name.
#[track_caller]
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// Whether every label of a selector is there.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn kubernetes_takes_the_manifests() {
    for name in ["secret", "deployment", "sidecar"] {
        let Some((taken, said)) = python_tool("kubernetes-validate", &["--strict", &file(name)]) else { return };
        let count = documents(&file(name)).unwrap().len();
        assert!(taken && said.matches(" passed for resource ").count() == count, "{said}");
    }
}

/// Each manifest with the pod in it: its objects, and the workload's name.
fn workloads() -> Option<Vec<(Vec<Value>, &'static str, &'static str)>> {
    let deployment = (documents(&file("deployment"))?, "Deployment", "ralio-relay");
    Some(vec![deployment, (documents(&file("sidecar"))?, "StatefulSet", "ledger")])
}

/// What the Pod Security Standard "restricted" asks for, and more.
#[test]
fn the_pods_may_next_to_nothing() {
    for (objects, kind, name) in workloads().into_iter().flatten() {
        let enforced = &object(&objects, "Namespace", "ralio-relay")["metadata"]["labels"];
        assert_eq!(enforced["pod-security.kubernetes.io/enforce"], "restricted");
        let pod = &object(&objects, kind, name)["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[field], Value::Null);
        }
        for container in list(&pod["containers"]) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{container}");
        }
    }
}

/// One writer for each inbox: never two pods at a time.
#[test]
fn there_is_never_a_second_pod() {
    for (objects, kind, name) in workloads().into_iter().flatten() {
        let spec = &object(&objects, kind, name)["spec"];
        assert_eq!(spec["replicas"], 1);
        assert!(kind == "StatefulSet" || spec["strategy"] == json!({"type": "Recreate"}), "{}", spec["strategy"]);
        for budget in of_kind(&objects, "PodDisruptionBudget") {
            assert_eq!(budget["spec"]["maxUnavailable"], 1, "a node could never be drained");
        }
    }
}

/// Where a pod mounts what: of each mount the path, and the files in it by name.
fn mounted(pod: &Value, container: &Value, objects: &[Value], secrets: &[Value]) -> Vec<(String, Vec<String>)> {
    let keys = |data: &Value| data.as_object().unwrap().keys().cloned().collect();
    let mounts = list(&container["volumeMounts"]).iter().map(|mount| {
        let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        let files = match volume {
            Some(volume) if volume["secret"].is_object() => {
                let secret = object(secrets, "Secret", text(&volume["secret"], "secretName"));
                assert_eq!(
                    volume["secret"]["defaultMode"], 0o440,
                    "readable by the group, which is fsGroup, and nobody else"
                );
                keys(&secret["stringData"])
            }
            Some(volume) if volume["configMap"].is_object() => {
                keys(&object(objects, "ConfigMap", text(&volume["configMap"], "name"))["data"])
            }
            _ => Vec::new(),
        };
        assert_eq!(mount["subPath"], Value::Null, "what is mounted by subPath never changes");
        (text(mount, "mountPath").to_owned(), files)
    });
    mounts.collect()
}

#[tokio::test]
async fn the_relay_finds_what_its_configuration_names() {
    let Some(secrets) = documents(&file("secret")) else { return };
    for (objects, kind, name) in workloads().unwrap() {
        let pod = &object(&objects, kind, name)["spec"]["template"]["spec"];
        let container = named(&pod["containers"], "ralio-relay");
        assert_eq!(container["image"], format!("ralio-relay:{}", of_package("version")));
        assert_eq!(container["args"], json!(["serve"]));
        let mounted = mounted(pod, container, &objects, &secrets);
        let config = of_kind(&objects, "ConfigMap")[0];
        let at_default = |(path, files): &(String, Vec<String>)| path == "/etc/ralio-relay" && files == &["relay.toml"];
        assert!(mounted.iter().any(at_default), "{mounted:?}");
        let secret_files = mounted.iter().filter(|mount| !at_default(mount));
        let files: Vec<_> =
            secret_files.flat_map(|(path, files)| files.iter().map(move |f| format!("{path}/{f}"))).collect();
        let held = Held::read(text(&config["data"], "relay.toml"), &files).await;
        // The sidecar has no use for the broker's URL.
        let mut unread: Vec<_> = files.iter().filter(|file| !held.files().contains(file)).collect();
        unread.retain(|file| kind == "Deployment" || !file.ends_with("/amqp-url"));
        assert!(unread.is_empty(), "mounted, and not read: {unread:?}");
        let volume = mounted.iter().find(|(_, files)| files.is_empty()).map(|(path, _)| format!("{path}/"));
        let volume = volume.expect("a volume for the inbox");
        assert!(held.inbox().starts_with(&volume), "{} is not below {volume}", held.inbox());
        assert_eq!(named(&container["ports"], "webhooks")["containerPort"], held.port("server.listen"));
        assert_eq!(named(&container["ports"], "admin")["containerPort"], held.port("admin.listen"));
        let everywhere = |key| text(&json!({"listen": held.value(key)}), "listen").starts_with("0.0.0.0:");
        assert!(everywhere("server.listen") && everywhere("admin.listen"), "the kubelet asks by the pod's address");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > held.seconds("server.drain_timeout"), "killed while it drains");
        for (probe, path) in
            [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
        {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "admin"}), "{probe}");
        }
    }
}

/// Names lead to what they name.
#[test]
fn services_policies_and_budgets_meet_the_pod() {
    for (objects, kind, name) in workloads().into_iter().flatten() {
        let spec = &object(&objects, kind, name)["spec"];
        let labels = &spec["template"]["metadata"]["labels"];
        assert!(selects(&spec["selector"]["matchLabels"], labels));
        let ports: Vec<&str> = list(&spec["template"]["spec"]["containers"])
            .iter()
            .flat_map(|container| list(&container["ports"]))
            .map(|port| text(port, "name"))
            .collect();
        for service in of_kind(&objects, "Service") {
            assert!(selects(&service["spec"]["selector"], labels), "{service}");
            for port in list(&service["spec"]["ports"]) {
                assert!(ports.contains(&text(port, "targetPort")), "{service}");
            }
            let public = service["spec"]["type"] == "LoadBalancer";
            let admin = list(&service["spec"]["ports"]).iter().any(|port| port["targetPort"] == "admin");
            assert!(!(public && admin), "the admin listener is public");
        }
        for policy in of_kind(&objects, "NetworkPolicy") {
            assert!(selects(&policy["spec"]["podSelector"]["matchLabels"], labels));
            for rule in list(&policy["spec"]["ingress"]) {
                let to_admin = list(&rule["ports"]).iter().any(|port| port["port"] == "admin");
                assert!(!to_admin || rule["from"].is_array(), "everybody may ask the admin listener");
                assert!(list(&rule["ports"]).iter().all(|port| ports.contains(&text(port, "port"))), "{rule}");
            }
        }
        for budget in of_kind(&objects, "PodDisruptionBudget") {
            assert!(selects(&budget["spec"]["selector"]["matchLabels"], labels));
        }
        let claims =
            list(&spec["template"]["spec"]["volumes"]).iter().filter(|v| v["persistentVolumeClaim"].is_object());
        for claim in claims {
            object(&objects, "PersistentVolumeClaim", text(&claim["persistentVolumeClaim"], "claimName"));
        }
    }
}

/// The operator's own kind, which no schema here knows.
#[test]
fn the_service_monitor_leads_to_the_metrics() {
    let Some(monitors) = documents(&file("servicemonitor")) else { return };
    let [monitor] = &monitors[..] else { panic!("one object: {monitors:?}") };
    assert_eq!((text(monitor, "apiVersion"), text(monitor, "kind")), ("monitoring.coreos.com/v1", "ServiceMonitor"));
    let (objects, secrets) = (documents(&file("deployment")).unwrap(), documents(&file("secret")).unwrap());
    let [endpoint] = list(&monitor["spec"]["endpoints"]) else { panic!("one endpoint") };
    let meant =
        |service: &&&Value| selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]);
    let services = of_kind(&objects, "Service");
    let [service] = services.iter().filter(meant).collect::<Vec<_>>()[..] else { panic!("one service is selected") };
    named(&service["spec"]["ports"], text(endpoint, "port"));
    assert_eq!(endpoint["path"], "/metrics");
    assert_eq!(service["metadata"]["labels"][text(&monitor["spec"], "jobLabel")], alerts_job());
    let credentials = &endpoint["authorization"]["credentials"];
    let secret = object(&secrets, "Secret", text(credentials, "name"));
    assert!(secret["stringData"][text(credentials, "key")].is_string(), "{credentials}");
    assert_eq!(monitor["metadata"]["namespace"], secret["metadata"]["namespace"]);
}

/// Whoever forgets to fill in `secret.yaml` gets no relay with a secret that everybody knows.
#[tokio::test]
async fn an_empty_secret_is_refused() {
    let Some(secrets) = documents(&file("secret")) else { return };
    let values = secrets.iter().flat_map(|secret| secret["stringData"].as_object().unwrap().values());
    assert!(values.clone().count() == 5 && values.clone().all(|value| value == ""), "a secret that everybody knows");
    let directory = tempfile::tempdir().unwrap();
    write_secret(&directory.path().join("secret"), "");
    let toml = "[server]\nplaintext = true\n[inbox]\nurl = \"sqlite://inbox.db\"\n[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n\
                [[sources]]\nname = \"a\"\npath = \"/a\"\nsecrets = [{ file = \"secret\" }]\n";
    std::fs::write(directory.path().join("relay.toml"), toml).unwrap();
    let checked = run_in(directory.path(), &["check", "--config", "relay.toml"], b"").await.code(2);
    assert!((checked.stdout + &checked.stderr).contains("empty"));
}
