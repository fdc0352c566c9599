# Needs Rust, git and make. `make test` installs what the tests need besides: see tests/setup.sh.

CARGO ?= cargo
PYTHON_ENV := $(CURDIR)/target/venv

.DEFAULT_GOAL := help
.PHONY: help run test soak lint fmt doc site screenshot bench scale release image clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The unoptimised build: its first light comes minutes before that of a release, and the tests share it.
run: ## Watch a simulated crew: gateway, crew and console on this machine, nothing to install
	$(CARGO) run -p crewcast -- dev

test: ## Run every test (installs what they start when missing: redis-server, nginx, a Chromium)
	@tests/setup.sh
	TEST_PYTHON="$(PYTHON_ENV)/bin/python" $(CARGO) test --workspace --no-fail-fast

SOAK_MINUTES ?= 10

soak: ## Break things at random under load for SOAK_MINUTES (10), and print what it cost (needs redis-server)
	SOAK_MINUTES=$(SOAK_MINUTES) $(CARGO) test --release -p crewcast --test faults -- --ignored --nocapture soak

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

bench: ## Measure what it costs and how fast it is, beside other systems, and write docs/performance.md (25 minutes)
	$(CARGO) build --release -p crewcast -p crewcast-bench
	crates/bench/peers/setup.sh
	@status=0; for part in compare latency idle slow storm deflate publish; do \
	  echo "== $$part"; target/release/crewcast-bench $$part $(BENCH_FLAGS) || status=1; \
	done; target/release/crewcast-bench report && exit $$status

scale: ## Measure what deployments are made of, and write docs/scaling.md: what a million sockets take (six minutes)
	$(CARGO) build --release -p crewcast -p crewcast-bench
	target/release/crewcast-bench scale

release: ## Build the binary as it is deployed: target/release/crewcast
	$(CARGO) build --release -p crewcast

image: ## Build the container image crewcast:dev
	docker build -f deploy/Dockerfile -t crewcast:dev .

clean: ## Remove everything that was built
	$(CARGO) clean
