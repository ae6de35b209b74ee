# Martlet. `make help` lists the commands; every one works on a fresh Debian 12 with Swift 6.3 installed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check format soak bench bench-peers protos release clean build-deps test-deps bench-deps peer-deps

CONFIG ?= debug
ARGS ?=

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: build-deps ## build everything and start the whole suite in one process, data in ./martlet-data
	@swift build -c $(CONFIG) --product martlet
	@exec .build/$(CONFIG)/martlet up $(ARGS)

test: build-deps test-deps ## every test, with the servers that they need; under 40 minutes
	@Tests/run.sh

check: build-deps ## format, tidy, architecture and unit tests: a few minutes
	@Tests/run.sh format unit

format: ## lay the sources out
	@swift format -i -r Package.swift Sources Tests

soak: build-deps test-deps ## the full lengths: 600 power cuts, a million fuzz inputs, thousands of histories, sanitizers, kills
	@Tests/soak.sh

bench: build-deps bench-deps ## speed, memory and budgets of a release build; Docs/benchmarks.md explains the figures
	@Tests/Benchmarks/run.sh

bench-peers: build-deps peer-deps ## the same chat against ejabberd and mosquitto, in the same run, with a table
	@Tests/Benchmarks/peers.sh

protos: ## regenerate the protobuf code
	@Protocols/generate.sh

release: build-deps ## martlet under all its names, optimised, Swift's libraries inside, into .build/dist
	@Deploy/release.sh

clean: ## forget everything built; data folders stay
	@rm -rf .build

build-deps:
	@Deploy/install.sh build

test-deps:
	@Deploy/install.sh test

bench-deps:
	@Deploy/install.sh bench

peer-deps:
	@Deploy/install.sh peers
