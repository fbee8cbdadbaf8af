# Thin wrappers; the work is in scripts/. `make help` lists what there is.
# DIR, HTTP, HTTPS, SERVERS, DETACH, LAB, DRILLS, ROUNDS, SEEDS, FIRST, ONLY, FAILOVERS, SEED are passed on
# when given: make demo HTTP=9080

export DIR HTTP HTTPS SERVERS DETACH ROUNDS LAB DRILLS SEEDS FIRST ONLY FAILOVERS SEED

.DEFAULT_GOAL := help
.PHONY: help demo demo-stop clean-demo test chaos sim bench bench-failover scaling fmt lint tidy doc fuzz

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## www.foobar.com on three servers, here; Ctrl-C stops it. DETACH=1, LAB=1, DIR=, HTTP=, HTTPS=, SERVERS=
	@scripts/demo.sh

demo-stop: ## Stop a demo started with DETACH=1
	@scripts/demo-stop.sh

clean-demo: ## Stop the demo and delete its folder, entries included
	@scripts/demo-clean.sh

test: ## Format, clippy, tidy, unit tests, end-to-end tests
	@scripts/test.sh

sim: ## Simulated clusters under faults, seed after seed. SEEDS=, FIRST=
	@scripts/sim.sh

chaos: ## Every fault of the holder and of the primary 20 times, 50 failovers under transactions. DRILLS=, ONLY=
	@scripts/chaos.sh

bench: ## Side by side with HAProxy and nginx; writes bench/RESULTS.md. ROUNDS=
	@scripts/bench.sh

bench-failover: ## Side by side with Patroni under faults; writes a section of bench/RESULTS.md. ROUNDS= AT_ONCE=1
	@scripts/bench-failover.sh

scaling: ## What the cluster store costs as the cluster grows: the table of docs/scaling.md
	@scripts/scaling.sh

fmt: ## Format the code
	@cargo fmt --all

lint: ## Clippy on everything
	@cargo clippy --workspace --all-targets --locked -- -D warnings

tidy: ## The project's own rules
	@cargo xtask tidy

doc: ## The API documentation of all crates
	@cargo doc --workspace --no-deps --locked --document-private-items

fuzz: ## Fuzz the HTTP/1 codec for a minute (needs cargo-fuzz)
	@scripts/fuzz.sh
