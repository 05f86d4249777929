# Every target sets up what it needs from nothing and repeats in no time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
READY := $(VENV)/.ready
RUNS := $(VENV)/.runs

.PHONY: setup demo up test test-scenarios test-slow test-agents test-containers check format bench pictures rooms clean

setup: $(RUNS)  ## what running needs, in .venv; tests and checks add theirs

demo: $(RUNS)  ## one requirement through the whole team on embedded servers
	@$(BIN)/python starter.py demo

up: $(RUNS)  ## the embedded servers and a worker, in the foreground
	@$(BIN)/python starter.py up

test: $(READY)  ## every part, and the ways of a requirement, against real servers
	@$(BIN)/python -m pytest -n 2 --dist worksteal \
		-m "not scenario and not slow and not containers and not agents"

test-scenarios: $(READY)  ## repairs, outages, P0, kills and cancellations in every crossing
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "scenario and not slow"

test-slow: $(READY)  ## the long scenarios
	@$(BIN)/python -m pytest -m slow

test-agents: $(READY)  ## the real programs of agents, from npm, against stand-ins of their APIs
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "agents and not slow" tests/agents

test-containers: $(READY)  ## the worker's image and container, in an engine of its own
	@$(BIN)/python -m pytest -m containers -o log_cli=true --log-cli-level=INFO tests/containers

check: $(READY)  ## formatter in check mode, linter, types, import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_import_direction.py

format: $(READY)  ## rewrite in house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## our pipeline beside bare Temporal and plain asyncio
	@$(BIN)/python -m bench

pictures: $(READY)  ## the pictures of the Web UI in the docs, made by its test (needs Chromium)
	@$(BIN)/python -m pytest -q tests/e2e/test_web_ui.py --basetemp=build/pictures
	@mkdir -p docs/pictures && cp build/pictures/test_*0/web-ui-*.png docs/pictures/

rooms: $(READY)  ## files and lines of each room, and how many a demonstration runs through
	@$(BIN)/python -m tests.rooms --walk

clean:  ## remove what can be made again; the state directory .agog holds requirements and stays
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . \( -name .git -o -name .agog \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# What pip tells is too much to read, and its silence too long: packages are counted, and its last
# lines are shown if it fails.
COUNTED = awk -v what="$(1)" -v live="$$(test -t 2 && echo 1)" '{last[NR % 20] = $$0} \
	/^Collecting /{n++; if (live) {printf "\r%s: %d packages looked up", what, n; fflush()}} \
	/^Installing collected/{printf live ? ", installing …" : "%s: installing %d packages …", what, n; fflush()} \
	/^FAILED$$/{failed = 1} \
	END{print ""; for (i = NR + 1; failed && i <= NR + 20; i++) print last[i % 20]; exit failed}'
INSTALL = ($(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt \
	-e '.[$(2)]' 2>&1 || echo FAILED) | $(call COUNTED,$(1))

$(READY): $(RUNS)
	@$(call INSTALL,Tests and checks,stack$(comma)dev)
	@touch $@

$(RUNS): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Missing: $(PYTHON). Install Python 3.11 or newer, or set PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (PYTHON=…)."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Missing: the venv module (Debian: apt install python3-venv)."; exit 1; }
	@command -v git >/dev/null || { echo "Missing: git 2.38 or newer."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call INSTALL,Installing into $(VENV),stack)
	@touch $@
