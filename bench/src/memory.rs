//! How long the machine takes for memory. A virtual machine gets its pages from the host when they are
//! touched, and shares the caches: both can take ten times as long as an hour before.
//!
//! The allocator is that of `uss`, so pages are huge where the kernel gives such.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::results::Results;
use crate::units::Unit;

const BYTES: usize = 256 << 20;
const PAGE: usize = 4096;
const READS: usize = 100_000;

/// Measures new memory: written once, in order, and then read in no order.
pub(crate) fn measure(before: &str, results: &mut Results) {
    let mut memory: Vec<u8> = Vec::with_capacity(BYTES);
    let started = Instant::now();
    memory.resize(BYTES, 1);
    let written = started.elapsed();
    let started = Instant::now();
    // A linear congruential generator (Knuth's MMIX); each place depends on what was read before.
    let mut place = 1_usize;
    for _ in 0..READS {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        place = place.wrapping_add(memory[(place >> 33) % BYTES].into());
    }
    black_box(place);
    let read = started.elapsed();
    let of = format!("256 MiB, before `{before}`");
    let each = |time: Duration, count: usize| time.as_secs_f64() * 1e9 / count as f64;
    results.one("memory: 4 KiB written for the first time", &of, Unit::Nanoseconds, each(written, BYTES / PAGE));
    results.one("memory: a byte read at random", &of, Unit::Nanoseconds, each(read, READS));
}
