# Tributary. `make` lists the targets. Works from a shell with any Node from 20 on: npm ci brings Node 24 along.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/node_modules/.bin
NODE := $(BIN)/node
# Programs with an `env node` shebang, and what they start, find the same Node.
export PATH := $(BIN):$(PATH)

INSTALLED := node_modules/.package-lock.json
SOURCES := "{agent,applier,shared,deploy,test}/**/*.{ts,js,css}" "{agent,applier}/web/assets/*.html" "deploy/demo/till/*.html"
CACHE := $${TRIBUTARY_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/tributary}
# Passed on, e.g. make test ARGS=test/unit/protocol-model.test.ts
ARGS ?=
# What make image builds on, if not on debian:12-slim.
BASE ?=

.PHONY: help setup check types lint format docs screenshots test test-servers test-system demo bench chaos deb rpm npm image audit clean distclean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(INSTALLED) ## install packages as locked, Node 24 among them

$(INSTALLED): package-lock.json
	@npm ci
	@if ! [ -x "$(NODE)" ]; then \
	  major="$$(node -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)"; \
	  if [ "$$major" -ge 24 ]; then ln -s "$$(command -v node)" "$(NODE)"; \
	  else echo "Node 24 does not come as a package for this machine: install Node 24 or later and run make setup again." >&2; \
	    rm -f $(INSTALLED); exit 1; fi; fi
	@touch $(INSTALLED)

check: setup ## types, lint and format
	@$(MAKE) -j2 --keep-going --output-sync=target types lint format

types: setup
	@tsc -p . --incremental --tsBuildInfoFile node_modules/.cache/tsc.json
	@tsc -p tsconfig.browser.json --incremental --tsBuildInfoFile node_modules/.cache/tsc-browser.json

lint: setup
	@eslint .
	@knip
	@knip --production

format: setup
	@prettier --check --cache --log-level=warn $(SOURCES) eslint.config.js

test: setup ## every test, against real servers
	@$(NODE) test/run.ts $(ARGS)

test-system: setup ## packages in a booted Debian, images, and arm64 under QEMU (as root)
	@$(NODE) test/run.ts --timeout=1200 test/system $(ARGS)

test-servers: setup ## the cases on every version of the servers that is to be had; writes test/servers/matrix.json
	@$(NODE) test/run.ts --timeout=3600 test/servers $(ARGS)

demo: setup ## a head office, branches and a broker on this machine
	@$(NODE) deploy/demo/demo.ts $(ARGS)

bench: setup ## measure, and write test/bench/latest.json
	@$(NODE) test/bench/main.ts $(ARGS)

chaos: setup ## break everything at random and compare (node test/chaos/main.ts --help)
	@[ "$${STAGE:-single}" != single ] || MODEL_RUNS=$${MODEL_RUNS:-20000} $(NODE) test/run.ts test/unit/protocol-model.test.ts
	@[ "$${STAGE:-single}" != single ] || RUNS=$${RUNS:-200} $(NODE) test/run.ts --timeout=9000 test/integration/property.test.ts
	@$(NODE) test/chaos/main.ts $(ARGS)

deb: setup ## Debian packages of both programs for amd64 and arm64, in dist
rpm: setup ## the same for RHEL, Rocky and SUSE, in dist/rpm
npm: setup ## a package for npm of each program, for any machine with Node 24, in dist/npm
image: setup ## an OCI image of each program, by docker, podman or buildah (BASE=image)
deb rpm npm image:
	@BASE=$(BASE) $(NODE) deploy/packages/main.ts $@

docs: setup ## bring the parts of the documents that come from the code up to date
	@$(NODE) test/support/documents/documents.ts

screenshots: setup ## take the pictures of the pages that README and documents show, from the demo
	@DEMO_STAY=0 $(NODE) deploy/demo/demo.ts --pictures docs/images

audit: setup ## known vulnerabilities of the packages (asks the registry)
	@npm audit

clean: ## remove what was made here; packages and servers that were fetched stay
	@rm -rf .tap dist test/bench/latest.json

distclean: clean ## remove those too
	@rm -rf node_modules "$(CACHE)"
