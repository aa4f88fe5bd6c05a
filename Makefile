# `make` lists the targets. Debian's make 4.3 is enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
LOCAL := infra/local
CLUSTER := infra/cluster
# In CI the lock file must be the one that was committed.
LOCKED := $(if $(CI),--locked)
# Tools that `make tools` installed come first on the path.
export PATH := $(or $(NEARCAST_LOCAL),$(CURDIR)/.local)/tools/bin:$(PATH)

.PHONY: help setup tools up down status logs clean-data up-cluster down-cluster status-cluster clean-cluster build demo check \
  test bench bench-worker bench-gateway bench-sink chaos overload fuzz nightly test-stack test-cluster

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs what this machine lacks (Debian 12, as root); quick when nothing is missing
	@$(LOCAL)/setup.sh

tools: ## Installs what `make check` needs besides: cargo-deny, cargo-machete
	@$(LOCAL)/setup.sh tools

up: ## Starts Kafka, Cassandra and Redis on 127.0.0.1, data under .local/
	@$(LOCAL)/setup.sh stack
	@$(LOCAL)/stack.sh up

down: ## Stops exactly what `make up` started; the data stays
	@$(LOCAL)/stack.sh down

status: ## Shows which of them is up
	@$(LOCAL)/stack.sh status || true

logs: ## Shows where their logs are, and the ends of them
	@$(LOCAL)/stack.sh logs

clean-data: ## Wipes their data, once they are down
	@$(LOCAL)/stack.sh clean

up-cluster: ## Starts the edge on this machine: HAProxy with TLS, two of each service, three brokers, Redis Cluster, Cassandra
	@$(LOCAL)/setup.sh cluster
	cargo build -p nearcast
	@$(CLUSTER)/cluster.sh up

down-cluster: ## Drains it and stops exactly what `make up-cluster` started; the data stays
	@$(CLUSTER)/cluster.sh down

status-cluster: ## Shows what of it is up
	@$(CLUSTER)/cluster.sh status || true

clean-cluster: ## Wipes its data, once it is down
	@$(CLUSTER)/cluster.sh clean

build: ## Builds everything
	@$(LOCAL)/setup.sh build
	cargo build --workspace

demo: ## Runs everything in one process, with simulated phones and no server
	@$(LOCAL)/setup.sh build
	cargo run -p nearcast -- demo

check: tools ## Format, clippy, licences, unused dependencies, shell scripts
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/libfuzzer/Cargo.toml -- --check
	cargo clippy --workspace --all-targets $(LOCKED) -- -D warnings
	cargo deny --log-level error check bans licenses sources
	cargo machete
	@if command -v shellcheck >/dev/null; then \
	  set -x; shellcheck -x -P . $(LOCAL)/*.sh $(CLUSTER)/*.sh fuzz/*.sh .ci/run $(wildcard tests/*.sh); \
	else \
	  echo "shellcheck is not installed, so the scripts were not checked: apt-get install shellcheck"; \
	fi

test: setup ## Brings the stack up, runs every test, leaves the stack as it was
	@$(LOCAL)/run-tests.sh

bench: ## The join beside a naive one, and the worker on Kafka; BENCH=all_online:1000000 for one case of the join
	@$(LOCAL)/setup.sh build
	cargo bench -p nearcast-fanout --bench engine -- $(BENCH)
	$(if $(BENCH),,@$(MAKE) --no-print-directory bench-worker)

bench-worker: setup ## The worker on Kafka: records/s, deliveries, heavy users, starts; BENCH=near_40 for one case
	@$(LOCAL)/with-stack.sh cargo bench -p nearcast-fanout --bench worker -- $(BENCH)

bench-gateway: setup ## What a connection costs the gateway, beside an echo server; BENCH=deaf for one case
	ulimit -n $$(ulimit -Hn) && $(LOCAL)/with-stack.sh cargo bench -p nearcast-gateway --bench gateway -- $(BENCH)

bench-sink: setup ## What the history sink stores in a second, beside the driver alone; BENCH=backlog for one case
	@$(LOCAL)/with-stack.sh cargo bench -p nearcast-history-sink --bench sink -- $(BENCH)

chaos: setup ## Every fault on a cluster of its own, then workers killed and gateways restarted, under audited phones; FAULTS=sigstop for some
	@$(LOCAL)/setup.sh cluster
	ulimit -n $$(ulimit -Hn) && cargo test -p nearcast --test chaos -- --long $(FAULTS)
	$(if $(FAULTS),,@$(LOCAL)/with-stack.sh cargo test -p nearcast --test takeovers --test gateways -- --long)

overload: setup ## Twice the reports that this machine takes for 5 minutes, with storms of reconnects, in a release build
	ulimit -n $$(ulimit -Hn) && $(LOCAL)/with-stack.sh cargo test --release -p nearcast --test overload -- --long

fuzz: ## Every target for FUZZ_SECONDS (600); FUZZ=records for one of them
	@$(LOCAL)/setup.sh fuzz
	@fuzz/run.sh $(FUZZ)

nightly: ## Ten thousand random histories against the oracle; NEARCAST_HISTORIES=N for another number
	@$(LOCAL)/setup.sh build
	PROPTEST_CASES=$(or $(NEARCAST_HISTORIES),10000) cargo test -p nearcast-fanout --test histories -- --nocapture

test-stack: ## Tests the commands above on a stack of its own
	@$(LOCAL)/setup.sh stack
	@$(LOCAL)/test.sh

test-cluster: ## Users keep their gateway and their list while gateways die, drain and come: on a cluster of its own
	@$(LOCAL)/setup.sh cluster
	ulimit -n $$(ulimit -Hn) && cargo test --release -p nearcast --test edge -- --long
