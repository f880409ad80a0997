//! What the tests stand on.

pub mod fake_http;
pub mod rabbitmq;
