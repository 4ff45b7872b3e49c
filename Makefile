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

# uv keeps packages in the user's home; where that can't be written, here.
UV_HOME := $(shell cache=$${XDG_CACHE_HOME:-$${HOME:-/nowhere}/.cache}/uv; \
             mkdir -p "$$cache" 2>/dev/null && [ -w "$$cache" ] && echo writable)
ifeq ($(UV_HOME),)
export UV_CACHE_DIR ?= $(CURDIR)/.cache/packages
endif

# What the images and /version say; compose reads them from the environment.
export VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
export REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
export BUILT    ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)

# Where the remote's code can be looked at: its address without a login, https in place of ssh; nothing for a path.
export SOURCE   ?= $(shell git remote get-url origin 2>/dev/null | sed -nE \
  -e 's,^ssh://([^/]*@)?([^/:]*)(:[0-9]+)?/,https://\2/,' \
  -e '/:\/\//!s,^([^/:]*@)?([^/:]+):/*,https://\2/,' \
  -e 's,^(https?://)[^/]*@,\1,' -e 's,[?].*,,' -e '/^https?:/p')

quoted = '$(subst ','\'',$(1))'

# s=web narrows a target to one service
s ?=
# What is typed here is not meant for a make that a test runs.
unexport args p s SECONDS SEED

##@ Develop

dev: ## Run all services with hot reload, or s=web alone (DEV_PORT=8000, DOCKER=no)
	@SERVICE=$(call quoted,$(s)) $(PYTHON) tools/dev.py

debug: ## Run a service under a debugger, which waits for an editor on port 5678 (s=web, DEBUG_PORT=…)
	@SERVICE=$(call quoted,$(or $(s),web)) $(PYTHON) tools/dev.py debug

test: .venv/installed ## Run every service's tests and the kit's quick ones: 1 minute; one service's with s=web [args="-k health -x"]
	@.venv/bin/python -m pytest --numprocesses auto --dist worksteal $(if $(s),$(call quoted,services/$(s))) $(args)
	@$(if $(s)$(args),,echo "make prove adds real containers, a browser, forks and other machines, in half an hour.")

test-stack: .venv/installed ## Test what you compose, as your CI does: image contracts, the whole system, a deploy under load: 2 minutes
	@REQUIRE=engine .venv/bin/python -m pytest tests/contract/test_contract.py tests/system $(args)

prove: .venv/installed ## Prove every promise of the kit, on real containers and in a browser: half an hour; one area with p=deploy
	@P=$(call quoted,$(p)) .venv/bin/python tools/prove.py $(args)

check: lint test ## Run both lint and test

faults: .venv/installed ## Inject every fault into a production stack of its own, and print what it cost
	@REQUIRE=engine .venv/bin/python -m pytest tests/faults -q $(args)

chaos: .venv/installed ## Keep production under load, a fault every 8 s, and count what was lost [SECONDS=180 SEED=…]
	@CHAOS_SECONDS=$(call quoted,$(SECONDS)) CHAOS_SEED=$(call quoted,$(SEED)) .venv/bin/python tests/faults/chaos.py

contract: .venv/installed ## Score any image against the contract: IMAGE=… [PORT= HEALTH= SLOW= MIGRATE= ENV=]
	@.venv/bin/python tests/contract/report.py

loadtest: .venv/installed ## Redeploy three times under load, in a production stack of its own
	@REQUIRE=engine .venv/bin/python -m pytest tests/stack/test_deploy.py -q -k under_load $(args)

screenshots: .venv/installed ## Make the README's pictures again: 15 minutes of traffic, then two shots
	@SCREENSHOTS=15 .venv/bin/python -m pytest tests/browser/test_screenshots.py -q

bench: .venv/installed ## Measure size, builds, starts, speed and redeploys beside a bare Flask image [AGAINST= ONLY= SMOKE=1]
	@.venv/bin/python bench/run.py

bench-curve: .venv/installed ## Measure what workers, threads and connections do to one replica
	@.venv/bin/python bench/curve.py

bench-ten: .venv/installed ## Measure what the next of ten services costs
	@.venv/bin/python bench/ten_services.py

bench-reload: .venv/installed ## Measure the time from a save to its response, natively and in containers
	@.venv/bin/python bench/reload.py

bench-first-run: .venv/installed ## Measure the time from a clone to the first page, natively and in containers
	@.venv/bin/python bench/first_run.py

lint: .venv/installed ## Check style, Dockerfiles, shell scripts, workflows and compose files
	@.venv/bin/python tools/lint.py

fmt: .venv/installed ## Format the Python code
	@.venv/bin/ruff check --fix --quiet . && .venv/bin/ruff format .

docs: .venv/installed ## Write .env.example and docs/configuration.md from the settings in code
	@.venv/bin/python tools/docs.py

##@ Make it yours

rename: ## Make the fork its own, once: name=myshop, title="My Shop"
	@NAME=$(call quoted,$(name)) TITLE=$(call quoted,$(title)) $(PYTHON) tools/rename.py

template-update: ## Bring in what the template learnt since: to=v1.2.0, source=…
	@TO=$(call quoted,$(to)) SOURCE=$(call quoted,$(source)) $(PYTHON) tools/template_update.py

# sample: begin
remove-sample: ## Take the sample out: its code, tests, settings and documents
	@$(PYTHON) tools/remove_sample.py
# sample: end

##@ One-off work, in what runs, else in a place made for the time

run: ## Run a command beside the app: cmd="python scripts/x.py --flag" [s=web], stdin and all
	@SERVICE=$(call quoted,$(s)) CMD=$(call quoted,$(cmd)) $(PYTHON) tools/inside.py run

shell: ## Open a Python shell with the app, its session and its models
	@SERVICE=$(call quoted,$(s)) $(PYTHON) tools/inside.py shell

psql: ## Open psql on the database, as its owner
	@SERVICE=$(call quoted,$(s)) $(PYTHON) tools/inside.py psql

routes: ## Print the app's routes: methods, path, endpoint
	@SERVICE=$(call quoted,$(s)) $(PYTHON) tools/inside.py routes

migration: ## Write a migration from what the models say: m="add tags"; empty=1 to write it by hand
	@SERVICE=$(call quoted,$(s)) MESSAGE=$(call quoted,$(m)) EMPTY=$(call quoted,$(empty)) $(PYTHON) tools/inside.py migration

migrate: ## Bring the development database to the newest revision, or to=…
	@SERVICE=$(call quoted,$(s)) TO=$(call quoted,$(to)) $(PYTHON) tools/inside.py migrate

seed: ## Add sample data to the development database
	@SERVICE=$(call quoted,$(s)) $(PYTHON) tools/inside.py seed

reset-db: ## Drop the development database and make it anew; yes=1 does not ask
	@SERVICE=$(call quoted,$(s)) YES=$(filter 1,$(yes)) $(PYTHON) tools/inside.py reset-db

##@ Run in production

init: ## Write .env and secrets/ with generated values; keeps what exists
	@$(PYTHON) tools/init.py

up: ## Start production, the release that .env names or one built from this tree, and wait until it is healthy
	@$(PYTHON) tools/engine.py
	@$(PYTHON) tools/upgrade.py --check
	@$(PYTHON) tools/deploy.py --up

deploy: ## Roll out this commit, or TAG=…, one replica at a time; nothing is dropped
	@$(PYTHON) tools/deploy.py

rollback: ## Go back to the release before
	@$(PYTHON) tools/deploy.py --rollback

rotate-secret: ## Change a secret while serving: s=secret_key, s=web_password, …
	@S=$(call quoted,$(s)) $(PYTHON) tools/rotate.py

proxy-reload: ## Have the proxy take up an edited docker/proxy/Caddyfile; a mistake changes nothing
	@$(PYTHON) tools/proxy.py

maintenance: ## Answer 503 with a page that says so, until `make maintenance-off`
	@touch docker/proxy/maintenance

maintenance-off: ## Serve again
	@rm -f docker/proxy/maintenance

down: ## Stop production and development; the data stays
	@docker compose $(addprefix --file ,compose/base.yaml compose/dev.yaml $(wildcard compose/*.dev.yaml)) down
	@[ ! -f .env ] || docker compose down

logs: ## Follow the logs; one service's with s=web-a
	@docker compose logs --follow --tail 100 $(foreach each,$(s),$(call quoted,$(each)))

ps: ## Show what runs
	@$(PYTHON) tools/ps.py

##@ Services

service: .venv/installed .cache/fork/installed ## Add a service: name=billing [kind=web|asgi|worker|script|static db=yes|no path=/billing host=…]
	@$(service_words) .venv/bin/python tools/service.py service

service-update: .venv/installed .cache/fork/installed ## Bring into name=billing what templates/service has learnt since; edits stay
	@$(service_words) .venv/bin/python tools/service.py service-update

service-remove: .venv/installed ## Take name=billing out whole, and say what stays; yes=1 does not ask
	@$(service_words) .venv/bin/python tools/service.py service-remove

##@ Look after it

doctor: ## Look for what goes wrong on real machines, and say what to do
	@$(PYTHON) tools/doctor.py

backup: ## Write a verified dump of the database to backups/; another service's with s=…
	@$(PYTHON) tools/backup.py backup $(call quoted,$(or $(s),web))

restore: ## Replace the database by a dump: file=backups/….dump; yes=1 does not ask
	@$(PYTHON) tools/backup.py restore $(call quoted,$(or $(s),web)) $(call quoted,$(file)) $(if $(filter 1,$(yes)),--yes)

upgrade-postgres: ## Move the data to this release's major version of Postgres; reads go on
	@$(PYTHON) tools/upgrade.py

bases: ## Build stand-ins for the base images that can't be pulled
	@docker/bases/build

clean: ## Remove what make has made here: environments, caches, the native database
	rm -rf .venv .cache .data .pytest_cache .ruff_cache

help: ## Print this
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

service_words = UV=$(call quoted,$(UV)) SERVICE_NAME=$(call quoted,$(name)) SERVICE_KIND=$(call quoted,$(kind)) \
  SERVICE_DB=$(call quoted,$(db)) SERVICE_PATH=$(call quoted,$(path)) SERVICE_HOST=$(call quoted,$(host)) SERVICE_YES=$(call quoted,$(yes))

# copier, in an environment of its own.
.cache/fork/installed: uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=.cache/fork $(UV) sync --quiet --frozen --only-group fork --python $(PYTHON)
	@touch $@

# The environment for tests, tools and native runs: made again when the lock changes.
.venv/installed: pyproject.toml uv.lock $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) | $(UV)
	@echo "Installing the environment into .venv …" >&2
	@UV_COMPILE_BYTECODE=$${UV_COMPILE_BYTECODE:-1} $(UV) sync $$([ -t 2 ] || echo --quiet) --locked --all-packages \
	  --python "$$($(UV) python find --no-project --no-python-downloads 3.14 2>/dev/null || echo $(PYTHON))"
	@touch $@

print-uv: | $(UV)
	@echo $(UV)

.cache/uv/bin/uv:
	@$(PYTHON) tools/get_uv.py $@
