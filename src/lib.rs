#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consume;
pub mod inbox;
pub mod ingest;
pub mod lifecycle;
pub mod listener;
pub mod metrics;
pub mod model;
pub mod provider;
pub mod route;
pub mod sink;
pub mod verify;
