# `make` alone lists the commands. Everything is installed into .venv, node_modules and .offload of this folder.
PYTHON ?= python3
ENV ?=
ENVIRONMENTS := $(sort $(patsubst environments/%.toml,%,$(wildcard environments/*.toml)))
BIN := .venv/bin
CDK := node_modules/.bin/cdk
# One more than the cores of a small machine, since tests wait for a queue or a timeout; most of all do those that drive
# an embedded AWS (tests/conftest.py lays them out).
PARALLEL := --numprocesses 3 --dist worksteal
PARALLEL_WITH_AWS := --numprocesses 6 --dist worksteal
export PATH := $(CURDIR)/$(BIN):$(PATH)
# jsii would otherwise greet every synth with the machine's own, maybe outdated, Node.
export JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION := 1
export CDK_DISABLE_CLI_TELEMETRY := true
# Many containers set it; every synth would then compile the CDK's modules anew, for over two seconds (bench/synth).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help toolchain up down test test-fast check check-types check-templates check-permissions calls named synth bootstrap diff deploy destroy restore conformance bench bill prove lock schemas package clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

toolchain: .venv/.ready $(BIN)/offload node_modules/.ready .offload/embedded/.ready .offload/durable/.ready .offload/moto/.ready ## install what the other commands need (they do it by themselves)

.venv/.ready: requirements.txt requirements/dev.txt requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: '$(PYTHON)' is missing or older than Python 3.11: install one, or name it with PYTHON=/path/to/python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: '$(PYTHON)' has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing the Python packages into .venv"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/python -c 'import sys, pathlib, sysconfig; pathlib.Path(sysconfig.get_paths()["purelib"], "offload.pth").write_text(sys.argv[1] + "\n")' "$(CURDIR)"
	@touch $@

$(BIN)/offload: offload/cli/start .venv/.ready
	@cp offload/cli/start $@ && chmod +x $@

# Of Python's version alone, so that other packages in .venv do not install the emulators anew.
.offload/python: .venv/.ready
	@mkdir -p .offload && $(BIN)/python -VV > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

node_modules/.ready: package.json package-lock.json | .venv/.ready
	@echo "Installing the CDK command line into node_modules"
	@$(BIN)/npm ci --silent --no-audit --no-fund
	@touch $@

# Neither writes bytecode later: without it each cold start of a function would compile the emulator's packages anew.
# What runs from a folder is stopped before the folder goes.
.offload/embedded/.ready: offload/cli/local/requirements/embedded.txt .offload/python | $(BIN)/offload
	@echo "Installing the embedded AWS into .offload/embedded"
	@if [ -d .offload/embedded ]; then $(BIN)/offload down; fi
	@mkdir -p .offload && rm -rf .offload/embedded
	@$(BIN)/uv venv --quiet --python $(BIN)/python .offload/embedded
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python .offload/embedded/bin/python --require-hashes offload/cli/local/requirements/embedded.txt
	@touch $@

.offload/durable/.ready: offload/cli/local/requirements/durable.txt .offload/python | $(BIN)/offload
	@echo "Installing the runner of durable functions into .offload/durable"
	@if [ -d .offload/durable ]; then $(BIN)/offload down; fi
	@mkdir -p .offload && rm -rf .offload/durable
	@$(BIN)/uv venv --quiet --python $(BIN)/python .offload/durable
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python .offload/durable/bin/python --require-hashes offload/cli/local/requirements/durable.txt
	@touch $@

.offload/moto/.ready: requirements/moto.txt .offload/python | $(BIN)/offload
	@echo "Installing moto's server into .offload/moto"
	@mkdir -p .offload && rm -rf .offload/moto
	@$(BIN)/uv venv --quiet --python $(BIN)/python .offload/moto
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python .offload/moto/bin/python --require-hashes requirements/moto.txt
	@touch $@

up: toolchain ## start the embedded AWS, deploy `local` to it, publish a day of real orders and show the ledger
	@$(BIN)/offload up

down: ## stop the embedded AWS; its state stays in .offload
	@if [ -x $(BIN)/offload ]; then $(BIN)/offload down; fi

test: toolchain check ## everything that is not a benchmark: checks, unit, snapshots, the embedded AWS
	@$(BIN)/python -m pytest $(PARALLEL_WITH_AWS) tests

test-fast: toolchain ## unit and template tests alone, without the slow ones
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow" tests/unit $(wildcard tests/shop/unit tests/shop/snapshots)

check: toolchain ## ruff, mypy strict, import-linter, cfn-lint, permissions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory --jobs 2 check-types check-templates check-permissions

check-types: toolchain
	@$(BIN)/mypy

check-templates: toolchain
	@$(BIN)/python -m offload.cdk.lint

check-permissions: toolchain ## compare the calls that functions make with what their roles allow, both ways
	@$(BIN)/python -m offload.cdk.permissions

# Functions run in both; each process of the tests leaves what it saw in the folder.
calls: toolchain ## run the tests and write the calls that functions make to AWS into schemas/permissions/calls.json
	@rm -rf .offload/calls && mkdir -p .offload/calls
	@OFFLOAD_CALLS_FOLDER="$(CURDIR)/.offload/calls" $(BIN)/python -m pytest $(PARALLEL) tests/unit $(wildcard tests/shop/unit)
	@OFFLOAD_CALLS_FOLDER="$(CURDIR)/.offload/calls" $(BIN)/python -m pytest $(PARALLEL) tests/local $(wildcard tests/shop/local)
	@$(BIN)/python -m offload.cdk.permissions.record .offload/calls

# An unset ENV is one line that names the environments, before anything is installed or asked.
named:
	@test -n "$(filter $(ENV),$(ENVIRONMENTS))" || { echo "make: $(if $(ENV),no environment '$(ENV)',say which environment): make $(MAKECMDGOALS) ENV=NAME, one of $(ENVIRONMENTS)" >&2; exit 1; }

synth: named toolchain ## synthesize ENV=local|dev|staging|prod into cdk.out
	@$(CDK) synth --quiet --context environment=$(ENV)

# The empty --app: with one, the command line would synthesize the whole app before it looks at the account.
bootstrap: named toolchain ## make what the CDK needs in ENV's account and Region, once for each
	@target=$$($(BIN)/offload target $(ENV)) && $(CDK) bootstrap --app '' "$$target"

diff: named toolchain ## what a deploy of ENV would change
	@$(BIN)/offload target $(ENV)
	@$(CDK) diff --context environment=$(ENV)

deploy: named toolchain ## deploy ENV to AWS
	@$(BIN)/offload preflight $(ENV) $(PREFLIGHT)
	@$(BIN)/offload before-deploy $(ENV)
	@$(CDK) deploy --all --context environment=$(ENV)
	@$(BIN)/offload protect $(ENV)

destroy: named toolchain ## delete ENV, after a look at what goes and what stays
	@$(BIN)/offload destroy $(ENV)

restore: named toolchain ## take up again what `make destroy` of ENV kept (docs/restore.md)
	@$(BIN)/offload target $(ENV)
	@for kept in kept/$(ENV)/*.json; do \
	  test -f "$$kept" || { echo "make: there is no $$kept: put there what \`make destroy ENV=$(ENV)\` wrote" >&2; exit 1; }; \
	  stack=$$(basename "$$kept" .json | sed 's/^[0-9]*-//'); \
	  $(CDK) import "$$stack" --context environment=$(ENV) --resource-mapping "$$kept" || exit 1; \
	  $(CDK) deploy "$$stack" --exclusively --context environment=$(ENV) || exit 1; done

conformance: toolchain ## try on the account of ENV what the code relies on; it says first what it makes and costs
	@$(BIN)/python -m tests.conformance.account $(ENV)

bench: toolchain ## every benchmark under bench/, one after the other
	@missed=0; for bench in bench/*/run.py; do echo "$$bench"; $(BIN)/python $$bench || missed=1; done; exit $$missed

bill: toolchain ## rewrite what README.md and docs/costs.md say of an idle month
	@$(BIN)/python -m shop.commands.bill_documents

prove: toolchain ## the proofs that are too long for `make test`, whole
	@OFFLOAD_PROVE=whole $(BIN)/python -m pytest $(PARALLEL) $$(grep -rl --include=*.py OFFLOAD_PROVE tests/unit $(wildcard tests/shop/unit))
	@OFFLOAD_PROVE=whole $(BIN)/python -m pytest tests/local $(wildcard tests/shop/local)
	@$(if $(wildcard tests/shop/scale),$(BIN)/python -m tests.shop.scale --plot docs/scale.svg $(SCALE))

# A file whose content stays keeps its time: nothing is installed again for it.
lock: toolchain ## compile the pinned, hashed requirements, the functions' too
	@for name in uv app dev embedded durable moto; do \
	  case $$name in app) out=requirements.txt;; embedded|durable) out=offload/cli/local/requirements/$$name.txt;; *) out=requirements/$$name.txt;; esac; \
	  if [ -f $$out ]; then cp $$out .offload/compiled.txt; else rm -f .offload/compiled.txt; fi; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/$$name.in --output-file .offload/compiled.txt || exit 1; \
	  cmp -s .offload/compiled.txt $$out || cp .offload/compiled.txt $$out; done
	@$(BIN)/python -m offload.cdk.bundling.lock

schemas: toolchain ## write the JSON Schemas of the contracts into schemas/
	@$(BIN)/python -m offload.cli.schemas.schemas

package: toolchain ## build the wheel and the sdist into dist/, the same bytes on every machine
	@rm -rf dist && $(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist . && ls dist

clean: down ## remove what make installed and made
	@rm -rf .venv node_modules .offload dist cdk.out .pytest_cache .mypy_cache .ruff_cache
