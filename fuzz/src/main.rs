//! libFuzzer on the target that `FUZZ_TARGET` names; `scripts/fuzz.sh` calls it.
#![no_main]

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        fuzz::target(&name).expect("FUZZ_TARGET is one of fuzz::TARGETS")
    });
    run(bytes);
});
