//! Integration tests: the built binary, as its users and its neighbours meet it. One binary, so that they link once and
//! run side by side; each relay has its own process, ports and directory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod harness;

#[cfg(feature = "amqp")]
mod amqp;
mod api;
mod api_bodies;
mod api_parked;
mod api_tail;
mod archive;
mod backup;
mod breaker;
mod commands;
mod config;
mod debian;
mod delivery;
mod deploy;
mod dev;
mod durability;
mod evidence;
mod exec;
mod faults;
mod handshakes;
mod hostile;
mod http_sink;
mod init;
mod monitoring;
mod names;
mod observe;
mod operate;
mod operate_beside;
mod operate_handover;
mod operate_parked;
mod operate_removed;
mod operate_replay;
mod page;
mod probe;
mod quarantine;
mod readiness;
mod reading;
mod receive;
mod reload;
mod reload_sinks;
mod showing;
mod sink_contract;
mod small_commands;
mod sockets;
mod starts;
mod terminal;
mod typed;
mod unavailable;
mod upgrade;
