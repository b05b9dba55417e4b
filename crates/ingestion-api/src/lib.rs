//! Receives events, resolves identities, and answers once the log has them.
