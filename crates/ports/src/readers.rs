//! How far the readers of the log are behind it.

use async_trait::async_trait;

/// Asked by those who append, so that they can wait for those who read.
#[async_trait]
pub trait Readers: Send + Sync + 'static {
    /// Returns how many records the readers of a kind have fallen behind, all partitions together; of
    /// the kinds, the one with the most. Readers that stand still count for nothing, and when they move
    /// again, what gathered meanwhile does not count: the log keeps it, and what comes is not to wait
    /// for it. Cheap enough to ask before each request.
    async fn behind(&self) -> u64;
}
