# One command each: run, test, lint, bench. CI runs the same commands.

.PHONY: run test soak fuzz lint bench tools data clean

# Builds, starts everything on embedded defaults with data in ./data, and loads the sample data on the first start.
run: tools
	scripts/run.sh

# Everything there is to test, installing what it needs.
test: tools data
	scripts/postgres.sh
	scripts/strace.sh
	cargo test --workspace --quiet

# Random histories against three other answers, for SECONDS=…, COMPARISONS=1000000, or until stopped.
soak: tools
	scripts/postgres.sh
	COMPARISONS=$(COMPARISONS) scripts/soak.sh $(SECONDS)

# Fuzzes each target for SECONDS=… (60), or only TARGETS="clause lines": fuzz/README.md.
fuzz: tools
	scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

lint: tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings

# How fast it is, alone and beside others; QUICK=1 at small sizes, BENCH="engine posts" for some parts: bench/README.md.
bench: tools
	cargo build --release --workspace --bins
	target/release/bench target/release/uss $(if $(QUICK),--quick) $(BENCH)

# What is fetched rather than built.
tools:
	scripts/duckdb.sh

# Public data sets, for tests and the tour.
data:
	scripts/data.sh

clean:
	cargo clean
	rm -rf .tools
