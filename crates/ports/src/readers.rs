//! How far the readers of the log are behind it.

use async_trait::async_trait;

/// Asked by those who append, so that they can wait for those who read.
#[async_trait]
pub trait Readers: Send + Sync + 'static {
    /// Returns how many records the readers that get on still have to read; of several, the one with
    /// the most. Those that stand still count for nothing: nobody knows for how long, and the log
    /// keeps their records. Cheap enough to ask before each request.
    async fn behind(&self) -> u64;
}
