//! The partition loop: log in, transitions out, checkpoints, archiver, backfill.
