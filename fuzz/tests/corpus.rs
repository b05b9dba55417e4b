//! Every target over its corpus: seeds, and what once made it panic.
#![expect(clippy::print_stdout)]

use std::path::Path;

#[test]
fn targets_run_over_their_corpus() {
    for (name, run) in fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            files += 1;
        }
        assert!(files > 3, "{}: {files}", folder.display());
    }
}
