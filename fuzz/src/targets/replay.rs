//! The input of `uss replay`: it is answered, or refused with the number of a line, the same each time.

/// Lines.
pub(crate) fn run(bytes: &[u8]) {
    let replay = || {
        let mut output = Vec::new();
        let outcome = uss::replay::run(bytes, &mut output).map_err(|error| error.to_string());
        (outcome, output)
    };
    assert_eq!(replay(), replay());
}
