# What a newcomer needs is `make demo` and `make test`; `make help` lists the rest.
CARGO ?= cargo
HOST_TARGET := x86_64-unknown-linux-gnu
BINARIES := drover drover-client loadgen

.DEFAULT_GOAL := help
.PHONY: help demo test static lint doc bench clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## A master, three clients and 10,000 simulated ones, below target/demo
	$(CARGO) build --release --locked -p master -p client -p loadgen --bins
	tests/demo.sh

test: ## All tests, doc tests included; the last line counts them
	@tests/test.sh

static: ## The three binaries with the C runtime linked in, checked; one: BINARIES=drover-client
	RUSTFLAGS="-C target-feature=+crt-static" \
	    $(CARGO) build --profile dist --locked --target $(HOST_TARGET) $(addprefix --bin ,$(BINARIES))
	tests/check-static.sh $(addprefix target/$(HOST_TARGET)/dist/,$(BINARIES))

lint: ## Format check and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## The documentation of the code, warnings denied: target/doc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace --locked

bench: ## The measurements of benches/README.md
	$(CARGO) bench --locked -p benches

clean: ## Remove all that was built
	$(CARGO) clean
