# Two commands for newcomers: "make demo" runs the main job on a simulated GPU node, "make test" runs all tests.
# "make help" lists the rest. Everything a target needs is prepared by it.
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible

.PHONY: help setup tools engine demo demo-clean test lint unit molecule e2e bench bench-daemon build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the virtual environment and link the checkout as a collection
	@tests/demo/prepare.sh python

tools:
	@tests/demo/prepare.sh tools

engine:
	@tests/demo/prepare.sh engine

demo: setup engine ## bring up a simulated GPU node with Kubernetes, run site.yml, show the result
	@$(PYTHON) -m tests.demo.demo

demo-clean: ## remove the demo's and the tests' containers, images, cache and virtual environment
	@if [ -x $(PYTHON) ] && docker info >/dev/null 2>&1; then $(PYTHON) -m tests.demo.clean; fi
	@tests/demo/prepare.sh release
	@rm -rf .venv .cache
	@echo "what apt installed on the way stays: docker.io, mmdebstrap, a compiler (apt-get remove takes them)"

test: lint unit molecule e2e ## all tests
	@echo "all tests passed"

lint: setup ## ruff, mypy, yamllint, ansible-lint
	ruff check .
	ruff format --check .
	mypy --config-file files/devplugin/pyproject.toml files/devplugin/src
	mypy --strict --explicit-package-bases tests/sim/cluster tests/demo
	yamllint --strict .
	shellcheck tests/demo/prepare.sh tests/sim/cluster/image/*.sh tests/sim/cluster/image/node-network .ci/run
	ansible-lint --offline

unit: setup tools ## unit tests: pure code, modules, the daemon against a kubelet stub and simulated GPUs
	$(PYTHON) -m pytest tests/unit

molecule: setup engine ## molecule: a node with Docker through converge, idempotence and verify
	molecule test

e2e: setup engine ## the whole chain on a real kubelet and API server
	$(PYTHON) -m pytest tests/e2e

bench: bench-daemon ## benchmarks that print tables
	$(PYTHON) tests/bench/facts.py

bench-daemon: setup tools ## the daemon's table: 8 GPUs, and 80 devices by sharing, beside what is wanted
	@$(PYTHON) tests/bench/daemon.py

build: setup ## build the collection's tarball into build/
	@mkdir -p build
	ansible-galaxy collection build --force --output-path build

clean: ## remove caches of this checkout, not the virtual environment
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible
