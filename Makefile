# The two commands of the README, and the checks. One profile and one target directory for all of them, so that
# RocksDB (about 25 CPU-minutes) is compiled once.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/logwood/target

CARGO ?= cargo
LOGWOOD = $(CARGO_TARGET_DIR)/release/logwood

.PHONY: demo test lint build judges needs

# make demo EVENTS="a.ndjson b.log": the events to append, one a line. Default: this machine's own.
demo: build
	$(LOGWOOD) demo $(EVENTS)

build: needs
	$(CARGO) build --release --workspace --locked

lint: needs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

test: lint
	$(CARGO) test --release --workspace --locked
	scripts/test-go
	scripts/test-python
ifeq ($(CI),true)
	scripts/judges
endif

# Programs that others wrote for their own logs, against ours, and ours against theirs. CI=true makes them part of `test`.
judges: build
	scripts/judges

needs:
	@scripts/needs
