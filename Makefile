# Every verb of the project; bare `make` prints them. A recipe is one command: what parses is Python,
# in tools/.

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory
.PHONY: $(shell grep -oE '^[a-z-]+:' $(firstword $(MAKEFILE_LIST)) | tr -d :)

# Asked from /, where no .python-version can make a pyenv shim refuse.
PYTHON := $(shell cd / && python3 -c 'import sys; print(sys.executable if sys.version_info >= (3, 11) else "")' 2>/dev/null)
ifeq ($(PYTHON),)
$(error python3 3.11 or later is needed: install the package python3)
endif

UV := $(or $(shell command -v uv),.cache/uv/bin/uv)

# The machine's certificates, and so a company's own, instead of the list that uv brings.
export UV_SYSTEM_CERTS ?= 1

# What the images and /version say; compose reads them from the environment.
export VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
export REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
export BUILT    ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)

quoted = '$(subst ','\'',$(1))'

# s=web narrows a target to one service
s ?=

##@ Develop

dev: ## Run the app with hot reload on http://localhost:8000 (DEV_PORT=…, DOCKER=no)
	@$(PYTHON) tools/dev.py

test: .venv/installed ## Run all tests; one service's with s=web; pytest's options with args=…
	@.venv/bin/python -m pytest $(if $(s),services/$(s)) $(args)

check: lint test ## Run what CI runs

faults: .venv/installed ## Inject every fault into a production stack of its own, and print what it cost
	@REQUIRE_ENGINE=1 .venv/bin/python -m pytest tests/faults -q $(args)

contract: .venv/installed ## Score any image against the contract: IMAGE=… [PORT= HEALTH= SLOW= MIGRATE= ENV=]
	@.venv/bin/python tests/contract/report.py

loadtest: .venv/installed ## Redeploy three times under load, in a production stack of its own
	@REQUIRE_ENGINE=1 .venv/bin/python -m pytest tests/stack/test_deploy.py -q -k under_load $(args)

lint: .venv/installed ## Check style, Dockerfiles, shell scripts, workflows and compose files
	@.venv/bin/python tools/lint.py

fmt: .venv/installed ## Format the Python code
	@.venv/bin/ruff check --fix --quiet . && .venv/bin/ruff format .

docs: .venv/installed ## Write .env.example and docs/configuration.md from the settings in code
	@.venv/bin/python tools/docs.py

##@ Run in production

init: ## Write .env and secrets/ with generated values; keeps what exists
	@$(PYTHON) tools/init.py

up: ## Build and start production, and wait until it is healthy
	@$(PYTHON) tools/engine.py
	@$(PYTHON) tools/upgrade.py --check
	@docker compose up --build --detach --wait

deploy: ## Roll out this commit, or TAG=…, one replica at a time; nothing is dropped
	@$(PYTHON) tools/deploy.py

rollback: ## Go back to the release before
	@$(PYTHON) tools/deploy.py --rollback

rotate-secret: ## Change a secret while serving: s=secret_key, s=web_password, …
	@S=$(s) $(PYTHON) tools/rotate.py

proxy-reload: ## Have the proxy take up an edited docker/proxy/Caddyfile; a mistake changes nothing
	@$(PYTHON) tools/proxy.py

maintenance: ## Answer 503 with a page that says so, until `make maintenance-off`
	@touch docker/proxy/maintenance

maintenance-off: ## Serve again
	@rm -f docker/proxy/maintenance

down: ## Stop production and development; the data stays
	@docker compose --file compose/base.yaml --file compose/dev.yaml down
	@[ ! -f .env ] || docker compose down

logs: ## Follow the logs; one service's with s=web-a
	@docker compose logs --follow --tail 100 $(s)

ps: ## Show what runs
	@docker compose ps

##@ Look after it

doctor: ## Look for what goes wrong on real machines, and say what to do
	@$(PYTHON) tools/doctor.py

shell: ## Open a Python shell inside the app that runs
	@SERVICE=$(s) $(PYTHON) tools/inside.py shell

psql: ## Open psql on the database that runs, as its owner
	@SERVICE=$(s) $(PYTHON) tools/inside.py psql

run: ## Run a command inside the app that runs: cmd="python x.py --flag"
	@SERVICE=$(s) CMD=$(call quoted,$(cmd)) $(PYTHON) tools/inside.py run

backup: ## Write a verified dump of the database to backups/; another service's with s=…
	@$(PYTHON) tools/backup.py backup $(or $(s),web)

restore: ## Replace the database by a dump: file=backups/….dump; yes=1 does not ask
	@$(PYTHON) tools/backup.py restore $(or $(s),web) "$(file)" $(if $(filter 1,$(yes)),--yes)

upgrade-postgres: ## Move the data to this release's major version of Postgres; reads go on
	@$(PYTHON) tools/upgrade.py

bases: ## Build stand-ins for the base images that can't be pulled
	@docker/bases/build

clean: ## Remove what make has made here: environments, caches, the native database
	rm -rf .venv .cache .data .pytest_cache .ruff_cache

help: ## Print this
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The environment for tests, tools and native runs: made again when the lock changes.
.venv/installed: pyproject.toml uv.lock $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) | $(UV)
	@echo "Installing the environment into .venv …" >&2
	@UV_COMPILE_BYTECODE=1 $(UV) sync --quiet --locked --all-packages \
	  --python "$$($(UV) python find --no-project --no-python-downloads 3.14 2>/dev/null || echo $(PYTHON))"
	@touch $@

print-uv: | $(UV)
	@echo $(UV)

.cache/uv/bin/uv:
	@$(PYTHON) -m venv .cache/uv >/dev/null 2>&1 \
	  || { rm -rf .cache/uv; echo "uv is not here, and python3 can't make an environment for it: install the package python3-venv" >&2; exit 1; }
	@.cache/uv/bin/pip install --quiet uv \
	  || { rm -rf .cache/uv; echo "uv can't be installed from PyPI: check the network, or put uv on the PATH" >&2; exit 1; }
