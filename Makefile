# Every command a contributor needs. `make help` lists them; each recipe is a few plain lines
# that can be typed without make.
.DEFAULT_GOAL := help
.PHONY: help setup demo soak test-k8s test-image test-dockerfile image test check fmt clippy doc unit integration model docs vendor bench bench-inspector pictures audit clean
export CARGO_TERM_COLOR ?= auto

help: ## List the commands.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## Install what is missing: protoc, etcd, Prometheus and a browser.
	@scripts/install-missing

demo: setup ## Three nodes, a real workload, the placement. ONCE=1 ends by itself.
	cargo build --release --locked -p steading-node -p steading-example-wordcount
	@scripts/demo $(if $(ONCE),--once)

test: setup check unit integration ## Everything that CI runs. Takes some twenty minutes on two cores.

check: fmt clippy doc ## Formatting, lints and documentation, all without a warning.

fmt: ## Is everything formatted?
	cargo fmt --all --check

clippy: ## Lints, denied.
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc: ## Build the documentation without a warning.
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

unit: ## Unit, documentation and macro tests.
	cargo test --locked --no-fail-fast --workspace --exclude steading-integration-tests

integration: ## Tests with real etcd and real node processes.
	cargo build --locked -p steading-node -p steading-inspector -p steading-example-wordcount -p steading-example-guestbook
	cargo test --locked --no-fail-fast -p steading-integration-tests

soak: setup ## Run all tests RUNS times (10) next to BURNERS (2) processes that burn CPU. Takes hours.
	@scripts/soak $(or $(RUNS),10) $(or $(BURNERS),2)

model: ## Visit the larger worlds of the ownership model. Takes a quarter of an hour.
	cargo test --locked -p steading-model -- --ignored --nocapture

docs: ## Write the generated parts of docs/.
	STEADING_WRITE_DOCS=1 cargo test --locked -p steading-node --test docs
	STEADING_WRITE_DOCS=1 cargo test --locked -p steading-integration-tests --test monitoring manifest

vendor: ## Bundle the libraries of the Inspector's page anew. Needs Node.js.
	cd inspector/vendor && npm ci --no-fund && npm run --silent vendor

image: ## Build the image steading:latest from programs of this machine; nothing is pulled.
	cargo build --release --locked -p steading-node -p steading-inspector
	@scripts/image steading target/release/steading target/release/steading-inspector

test-image: ## Build the image and run it with Docker Engine. Needs root, Docker and etcd.
	cargo build --locked -p steading-node -p steading-inspector
	k8s/test/image

test-dockerfile: ## Build the image from the sources alone, as with images that are pulled. Needs root, Docker, debootstrap.
	k8s/test/image-from-sources

test-k8s: ## Deploy on a real Kubernetes and change it under load. Needs root, Docker, containerd, Go; builds Kubernetes once.
	cargo build --locked -p steading-node -p steading-inspector -p steading-integration-tests --bins
	k8s/test/kubernetes

bench: setup ## Measure, and write docs/benchmarks.md. Takes some minutes.
	cargo build --release --locked -p steading-node
	target/release/steading bench all --markdown docs/benchmarks.md

bench-inspector: setup ## Measure the Inspector, and write its section of docs/benchmarks.md.
	cargo build --release --locked -p steading-node -p steading-inspector -p steading-example-wordcount
	STEADING_WRITE_DOCS=1 cargo test --release --locked -p steading-integration-tests --test browser -- --ignored --nocapture

pictures: setup ## Make the pictures of docs/inspector anew.
	STEADING_WRITE_DOCS=1 cargo test --locked -p steading-integration-tests --test browser -- s2_42

audit: ## Licences, advisories and duplicates, where cargo-deny is installed.
	cargo deny check

clean: ## Remove everything built.
	cargo clean
