# One command each: run, test, lint, bench. CI runs the same commands.

.PHONY: run test lint bench tools clean

# Builds, starts everything on embedded defaults with data in ./data, and loads the sample data on the first start.
run: tools
	scripts/run.sh

# Everything there is to test, installing what it needs.
test: tools
	scripts/postgres.sh
	scripts/strace.sh
	cargo test --workspace --quiet

lint: tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings

# What is fetched rather than built.
tools:
	scripts/duckdb.sh

clean:
	cargo clean
	rm -rf .tools
