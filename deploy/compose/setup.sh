#!/bin/sh
# Makes the secrets of compose.yaml that are not there yet, each readable by the user of its service alone.
#   setup.sh                 what is missing
#   setup.sh replace NAME    the relay's file of this name, by standard input
set -eu
umask 077
secrets=${SECRETS:-/secrets}

# USER FILE: takes standard input's place in one step, so that nobody reads half of it.
put() {
    cat >"$2.new"
    chown "$1" "$2.new"
    mv "$2.new" "$2"
}
random() { openssl rand -hex 32; }

# The users of the images: ralio-relay, rabbitmq, prometheus (nobody), grafana.
relay=65532:65532 rabbitmq=999:999 prometheus=65534:65534 grafana=472:0

if [ "${1-}" = replace ]; then
    put "$relay" "$secrets/relay/$2"
    exit
fi

chown "$relay" "$secrets/relay"
chown "$rabbitmq" "$secrets/rabbitmq"
chown "$prometheus" "$secrets/prometheus"
chown "$grafana" "$secrets/grafana"

[ -e "$secrets/relay/webhook-secret" ] || random | put "$relay" "$secrets/relay/webhook-secret"

[ -e "$secrets/prometheus/admin-token" ] || random | put "$prometheus" "$secrets/prometheus/admin-token"
put "$relay" "$secrets/relay/admin-token" <"$secrets/prometheus/admin-token"

# The broker's users are made at its first start: a password that changes later changes nothing there.
if ! [ -e "$secrets/rabbitmq/rabbitmq.conf" ]; then
    password=$(random)
    echo "amqp://relay:$password@rabbitmq:5672" | put "$relay" "$secrets/relay/amqp-url"
    printf 'default_user = relay\ndefault_pass = %s\n' "$password" | put "$rabbitmq" "$secrets/rabbitmq/rabbitmq.conf"
fi

[ -e "$secrets/grafana/admin-password" ] || random | put "$grafana" "$secrets/grafana/admin-password"

if ! [ -e "$secrets/relay/tls.key" ]; then
    openssl req -batch -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$secrets/relay/tls.key.made" -out "$secrets/relay/tls.crt.made"
    put "$relay" "$secrets/relay/tls.crt" <"$secrets/relay/tls.crt.made"
    put "$relay" "$secrets/relay/tls.key" <"$secrets/relay/tls.key.made"
    rm "$secrets/relay/tls.crt.made" "$secrets/relay/tls.key.made"
fi
