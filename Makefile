# Two commands for newcomers: "make demo" runs the main job on a simulated GPU node, "make test" runs all tests.
# "make help" lists the rest. Everything a target needs is prepared by it.
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible

# Two processes for the unit tests and the linters: the smallest machine that CI offers has two cores.
WORKERS ?= 2

.PHONY: help setup tools browser engine demo demo-clean test quick lint lint-python lint-types lint-yaml lint-shell \
	lint-ansible unit unit-quick unit-targets coverage mutation sanity sanity-all importer molecule e2e matrix engines \
	bench bench-daemon soak bench-ansible build release docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the virtual environment and link the checkout as a collection
	@tests/demo/prepare.sh python

tools:
	@tests/demo/prepare.sh tools

browser:
	@tests/demo/prepare.sh browser

engine:
	@tests/demo/prepare.sh engine

demo: setup tools engine ## bring up a simulated GPU node with Kubernetes, run site.yml, show the result
	@$(PYTHON) -m tests.demo.demo

demo-clean: ## remove the demo's and the tests' containers, images, cache and virtual environment
	@if [ -x $(PYTHON) ] && docker info >/dev/null 2>&1; then $(PYTHON) -m tests.demo.clean; fi
	@tests/demo/prepare.sh release
	@rm -rf .venv .cache
	@echo "what apt installed on the way stays: docker.io, mmdebstrap, a compiler (apt-get remove takes them)"

test: setup ## all tests, stage after stage, with a table of the stages at the end
	@$(PYTHON) -m tests.house.stages lint unit molecule+sanity e2e

quick: setup ## what needs no containers and little time: lint, and the unit tests that start no processes
	@$(PYTHON) -m tests.house.stages lint+unit-quick

# Two linters at a time; what each says is kept together.
lint: setup ## style and types: ruff, mypy, yamllint, shellcheck, ansible-lint, the changelog's fragments
	@$(MAKE) --no-print-directory --jobs $(WORKERS) --output-sync=target lint-ansible lint-types lint-python lint-yaml lint-shell

lint-python: setup ## ruff, style and format; and who may import whom in the daemon
	ruff check .
	ruff format --check .
	PYTHONPATH=files/devplugin/src lint-imports files/devplugin/pyproject.toml

lint-types: setup ## mypy --strict
	mypy --config-file files/devplugin/pyproject.toml files/devplugin/src
	MYPYPATH=files/devplugin/src mypy --strict --explicit-package-bases --exclude '/test_' tests/sim/cluster tests/engines tests/demo tests/house
	mypy --strict --explicit-package-bases plugins/module_utils plugins/plugin_utils

lint-yaml: setup ## yamllint, and the changelog's fragments
	yamllint --strict .
	antsibull-changelog lint

lint-shell: setup ## shellcheck
	shellcheck tests/demo/prepare.sh tests/sim/cluster/image/*.sh tests/sim/cluster/image/node-network .ci/run

lint-ansible: setup ## ansible-lint, profile production
	ansible-lint --offline

unit: setup tools ## unit tests: pure code, modules, the daemon against a kubelet stub and simulated GPUs
	@$(PYTHON) -m tests.house.targets --prepare
	$(PYTHON) -m pytest -n $(WORKERS) --dist worksteal -m "not matrix" tests/unit tests/house

unit-quick: setup tools ## those of the unit tests that start no processes, with fewer generated cases
	$(PYTHON) -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not matrix" --hypothesis-profile quick tests/unit tests/house

unit-targets: setup tools ## the modules' own tests, the modules run by the oldest and by the newest Python of targets
	@WORKERS=$(WORKERS) $(PYTHON) -m tests.house.targets

coverage: setup tools ## the unit tests again, with what they do not reach; fails below the floor (pyproject.toml)
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	$(PYTHON) -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report term:skip-covered -m "not matrix" tests/unit

# Rooms of tests/house/mutation.py; all of them by default.
ROOMS ?=
mutation: setup tools ## small changes to pure code, one after the other: which of them does no test notice
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check "cosmic-ray>=8.4,<9"
	@$(PYTHON) -m tests.house.mutation $(ROOMS)

sanity: setup importer ## ansible-test sanity on the built collection, without an ignore list, and Galaxy's importer
	$(PYTHON) -m tests.house.sanity

sanity-all: setup ## the same with every series of ansible-core that a Python here can run
	$(PYTHON) -m tests.house.sanity --all

importer: setup ## Galaxy's own importer on the tarball, without a warning
	@$(PYTHON) -m tests.house.importer

molecule: setup tools engine ## molecule: a node with Docker, and the toolkit with apt, dnf and zypper: converge, idempotence, verify
	molecule test --all

e2e: setup tools browser engine ## the whole chain on a real kubelet and API server
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15 -m "not matrix" tests/e2e

CELLS ?=
matrix: setup tools browser engine ## the tests on every combination of versions that README.md names; goes on where it ended
	@$(PYTHON) -m tests.house.matrix $(CELLS)

engines: setup tools ## build the engines that the tests run: Kubernetes, etcd, containerd, crictl, NVIDIA's toolkit
	@$(PYTHON) -m tests.engines

bench: bench-daemon ## benchmarks that print tables
	$(PYTHON) tests/bench/facts.py

soak: setup ## a million random faults, checks and acknowledgements in simulated time: nothing lost, nothing leaked
	@PYTHONPATH=files/devplugin/src $(PYTHON) -m tests.bench.soak

# A folder with NVIDIA's nvidia-device-plugin and gpu-feature-discovery, which are then measured in the same run.
NVIDIA_PLUGIN ?=
bench-daemon: setup tools ## the daemon's tables: 8 GPUs with 8, 80 and 1,600 devices; and NVIDIA's plugin, if it is there
	@$(PYTHON) tests/bench/daemon.py
	@$(PYTHON) tests/bench/placement.py
	@if [ -n "$(NVIDIA_PLUGIN)" ]; then $(PYTHON) tests/bench/peers.py $(NVIDIA_PLUGIN); fi

# Numbers of hosts; each of them gets containers of its own. SETTLED=1 leaves the first runs out, which take long on 50 hosts.
HOSTS ?= 1 10
SETTLED ?=
bench-ansible: setup tools engine ## site.yml on simulated hosts, first and again, beside as many tasks that do nothing
	@$(PYTHON) tests/bench/ansible.py --hosts $(HOSTS) $(if $(SETTLED),--settled)

build: setup ## build the collection's tarball into build/
	$(PYTHON) -m tests.house.tarball

release: setup ## tarball, image context, manifest, bill of materials and their digests into build/
	@PYTHONPATH=.cache/collections $(PYTHON) -m tests.house.release

docs: setup ## pages of modules, filters and roles from their own documentation, into build/docs
	@mkdir -p build/docs
	ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/.cache/collections antsibull-docs collection --use-current --squash-hierarchy \
		--fail-on-error --output-format simplified-rst --dest-dir build/docs kubegpu.nvidia

clean: ## remove caches of this checkout, not the virtual environment
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible
