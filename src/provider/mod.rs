//! Standing in for the provider: realistic deliveries.
