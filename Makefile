# `make help` lists what there is.
SHELL := /bin/bash
PROFILE ?= release
CARGO ?= cargo
MODULES := target/modules

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## Install what is missing: packages, compiler, the host's source
	@scripts/setup.sh

.PHONY: setup-tests
setup-tests: ## The same, and what the tests need: databases, a browser, a SIP tester
	@scripts/setup.sh tests

.PHONY: build
build: setup ## presence.so, pua.so and their library in target/modules
	@scripts/build.sh

.PHONY: run
run: ## Build, start Kamailio with our modules and show a publication reach a watcher (ONCE=1 ends after the show)
	@scripts/port.sh
	@$(MAKE) --no-print-directory build
	@scripts/run.sh

.PHONY: example
example: build ## Start an example with our modules: NAME=pbx (without NAME: list them; more in scripts/example.sh)
	@scripts/setup.sh example "$(NAME)"
	@scripts/example.sh $(NAME)

.PHONY: phone
phone: ## A softphone in this terminal, at the example pbx: NAME=alice or NAME=bob (more in examples/pbx/phone.sh)
	@scripts/setup.sh phone
	@examples/pbx/phone.sh $(NAME)

.PHONY: test
test: ## Everything: formatter, lints, unit tests, the real Kamailio (ONLY="test_api.py ...": these scenarios)
	@scripts/test.sh

.PHONY: test-core
test-core: setup ## The handlers alone, on ports in memory: how many cases, in what time
	@scripts/core.sh

.PHONY: scenarios
scenarios: ## The real Kamailio alone, without other databases and a browser (ONLY="test_api.py ...": these)
	@scripts/setup.sh scenarios
	@scripts/scenarios.sh

.PHONY: test-network
test-network: build ## Three nodes on a network that loses, delays and cuts (SECONDS=600 SEED=1); needs root
	@scripts/setup.sh scenarios
	@NETWORK_SECONDS=$(or $(SECONDS),600) NETWORK_SEED=$(or $(SEED),1) ONLY=test_network.py scripts/scenarios.sh

.PHONY: test-hosts
test-hosts: ## Both commands in clean Debians, SUITES="bookworm trixie forky sid", made by debootstrap; needs root
	@scripts/hosts.sh $(or $(SUITES),trixie)

.PHONY: test-pairs
test-pairs: build ## A cluster with nodes of another Kamailio (OTHER_KAMAILIO_BIN=FILE OTHER_PRESENCE_MODULES=FOLDER)
	@scripts/setup.sh scenarios
	@test -n "$(OTHER_KAMAILIO_BIN)" || \
		{ echo "error: name the other server with OTHER_KAMAILIO_BIN=/path/to/sbin/kamailio" >&2; exit 1; }
	@ONLY=test_other_version.py scripts/scenarios.sh

.PHONY: header
header: build ## Write include/kamailio_presence.h again
	@scripts/build.sh header

.PHONY: deb
deb: setup ## A Debian package for the installed Kamailio, in target/deb
	@scripts/deb.sh

.PHONY: deb-source
deb-source: setup ## The Debian source package, crates included, in target/deb
	@scripts/deb-source.sh

.PHONY: rpm
rpm: setup ## An RPM for the installed Kamailio, in target/rpm
	@scripts/rpm.sh

.PHONY: test-deb
test-deb: ## Build, install, use and purge the package in a clean Debian of each of SUITES; needs root
	@COMMANDS="make setup && scripts/setup.sh scenarios && scripts/deb-test.sh" scripts/hosts.sh $(or $(SUITES),trixie)

.PHONY: test-aarch64
test-aarch64: ## Build for aarch64 and show the server serve under qemu-user, in a tree of SUITES (forky); needs root
	@COMMANDS="scripts/cross-test.sh" scripts/hosts.sh $(or $(SUITES),forky)

.PHONY: test-container
test-container: ## Build packaging/Containerfile with buildah, start the server in it, show (SUITE=trixie or BASE=IMAGE)
	@scripts/container-test.sh

.PHONY: install
install: build ## Put the modules into the server's folder (DESTDIR, MODULES_DIR); stock files are kept as *.stock
	@scripts/install.sh install

.PHONY: uninstall
uninstall: ## Bring the stock modules back
	@scripts/install.sh uninstall

.PHONY: clean
clean: ## Remove what was built; the downloaded source stays
	@$(CARGO) clean --profile release
	@rm -rf $(MODULES)

.PHONY: bench
bench: build ## Stock and ours side by side, table and plot in target/bench (QUICK=1: minutes; ONLY="growth ...")
	@scripts/setup.sh bench
	@scripts/bench.sh

SECONDS_EACH ?= 600
.PHONY: lint
lint: ## Formatter, lints, documentation, shell, Python, prose, licences, the oldest compiler
	@scripts/setup.sh lint
	@scripts/lint.sh

.PHONY: setup-docs
setup-docs: ## Install mkdocs, which makes the site of `make docs`
	@scripts/setup.sh docs

.PHONY: docs
docs: setup ## Write docs/presence.md and docs/pua.md from the tables, check links, make the site in target/site
	@scripts/docs.sh

.PHONY: fuzz
fuzz: setup-tests ## Fuzz what reads what others wrote (SECONDS_EACH for each of four targets, 600 by default)
	@scripts/fuzz.sh $(SECONDS_EACH)

LIVES ?= 1000000
.PHONY: simulate
simulate: setup ## The protocol in a simulated network, life after life (SEED=201 LIVES=1000000 ONLY=part_of_everything)
	@SEED=$(or $(SEED),201) LIVES=$(LIVES) $(CARGO) test --release --quiet --test simulation -- \
		--nocapture $(or $(ONLY),whatever upgraded one_node_speaks)

.PHONY: simulate-growth
simulate-growth: setup ## What a refresh and a join cost with 3, 10 and 30 nodes, up to 10 million subscriptions
	@$(CARGO) test --release --quiet --test simulation -- --nocapture --ignored growth

.PHONY: sanitize
sanitize: setup ## The unit tests under AddressSanitizer
	@scripts/sanitize.sh

.PHONY: miri
miri: setup ## Pure core, locks, allocator and owners of memory, interpreted by miri (FILTER="host::slab": a part)
	@scripts/miri.sh

.PHONY: memcheck
memcheck: build ## A mixed run of the real Kamailio under valgrind
	@scripts/setup.sh tests
	@scripts/memcheck.sh

.PHONY: soak
soak: build ## Six suites at full size: 1,000 calls, 50 kills, a million messages, 100,000 mutated requests (hours)
	@scripts/setup.sh tests
	@cd tests && SOAK=1 /usr/bin/python3 -m pytest -v -p no:cacheprovider \
		--suite stuck-lamp --suite crash --suite mass-expiry --suite commands --suite memory --suite hostile-input

# Not SECONDS: bash counts in a variable of that name.
EXPLORE_FOR := $(SECONDS)
.PHONY: explore
explore: build ## Random lives on stock and ours, compared (SECONDS=120 SEED MODE=0..3 DRIVER REPLAY SWEEP)
	@scripts/setup.sh tests
	@scripts/explore.sh "$(or $(EXPLORE_FOR),120)" "$(SEED)" "$(MODE)" "$(DRIVER)" "$(REPLAY)" "$(SWEEP)"

.PHONY: test-parameters
test-parameters: build ## Every parameter in every storage mode, on stock and on ours (15 minutes)
	@scripts/setup.sh tests
	@cd tests && FULL=1 python3 -m pytest -q -p no:cacheprovider test_parameters.py
