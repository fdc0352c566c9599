# Requires Rust, git and make. `make test` installs whatever else the tests need: see tests/setup.sh.

CARGO ?= cargo
PYTHON_ENV := $(CURDIR)/target/venv

.DEFAULT_GOAL := help
.PHONY: help run check test soak fuzz autobahn lint fmt doc site screenshot bench scale release image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Uses the unoptimised build: it is ready minutes before a release build, and the tests share it.
run: ## Watch simulated crews: gateway, crews and console, with nothing to install. ARGS="--speed 2" goes to `crewcast dev`
	$(CARGO) run -p crewcast -- dev $(ARGS)

# Tests that start a Redis server run in `make test` only: everything in tests/, the integration tests of the publisher and the command
# line, and the gateway's tests of its Redis broker.
check: lint ## Lint and run the unit tests, with nothing to install (two minutes once built)
	$(CARGO) test --workspace --lib --bins --test catalog --test tcp --test examples -- --skip broker::redis::tests::

# Most tests wait for processes, sockets and timers: more of them at once than cores halve the time.
test check: export RUST_TEST_THREADS ?= 4

test: ## Run every test (installs missing programs that tests start: redis-server, nginx, a Chromium)
	@tests/setup.sh
	TEST_PYTHON="$(PYTHON_ENV)/bin/python" $(CARGO) test --workspace --no-fail-fast

SOAK_MINUTES ?= 10

soak: ## Inject random faults under load for SOAK_MINUTES (10) and print their cost (needs redis-server)
	SOAK_MINUTES=$(SOAK_MINUTES) $(CARGO) test --release -p crewcast-tests --test faults -- --ignored --nocapture soak

FUZZ_SECONDS ?= 1800

fuzz: ## Run each fuzz target for FUZZ_SECONDS (1800); needs a nightly Rust, a C++ compiler and cargo-fuzz
	@fuzz/run.sh $(FUZZ_SECONDS)

autobahn: ## Run the Autobahn test suite against the sockets' code; needs its wstest, or Docker
	@tests/autobahn.sh

lint: ## Check format, lints and documentation; warnings are errors
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

fmt: ## Format the code
	$(CARGO) fmt --all

doc: ## Build and open the API documentation
	$(CARGO) doc --workspace --no-deps --open

site: ## Build the documentation as a site: target/book/index.html
	@tests/mdbook.sh
	target/tools/bin/mdbook build docs

screenshot: ## Take the picture of the console for the README: docs/images/console.png
	@tests/setup.sh
	$(CARGO) build -p crewcast
	cd tests/browser && node screenshot.js "$(CURDIR)/target/debug/crewcast" "$(CURDIR)/docs/images/console.png"

BENCH_FLAGS ?=

bench: ## Measure cost and speed next to other systems, and write docs/performance.md (25 minutes)
	$(CARGO) build --release -p crewcast -p crewcast-bench
	crates/bench/peers/setup.sh
	@status=0; for part in compare latency idle slow storm deflate publish; do \
	  echo "== $$part"; target/release/crewcast-bench $$part $(BENCH_FLAGS) || status=1; \
	done; target/release/crewcast-bench report && exit $$status

scale: ## Measure what a million sockets need, and write docs/scaling.md (six minutes)
	$(CARGO) build --release -p crewcast -p crewcast-bench
	target/release/crewcast-bench scale

release: ## Build the binary for deployment: target/release/crewcast
	$(CARGO) build --release -p crewcast

image: ## Build the container image crewcast:dev
	docker build -f deploy/Dockerfile -t crewcast:dev .

clean: ## Remove all build output
	$(CARGO) clean
