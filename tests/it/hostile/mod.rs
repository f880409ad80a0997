//! What a stranger may send, and what a merchant's own data may hold.
