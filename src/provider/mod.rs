//! Standing in for the provider: realistic deliveries.

pub mod simulation;
