# The same short commands on a laptop and in continuous integration.
# Everything is installed into .venv, once, and again only after a pyproject.toml has changed.

VENV ?= .venv
BIN = $(VENV)/bin
WEB = edge/src/unetres_edge/web
PROJECT_FILES = pyproject.toml setup.py edge/pyproject.toml

# TensorFlow 2.21 has wheels for Python 3.11 to 3.13. A python on PATH may be a shim that does not run, so each one is tried.
PYTHON_FITS = import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c '$(PYTHON_FITS)' >/dev/null 2>&1; then command -v $$p; break; fi; done)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-edge test-slow test-long test-web test-arm64 lint lock bench notebooks docs release-check clean

help: ## list the targets
	@echo "usage: make TARGET [PYTHON=python3.12] [VENV=.venv]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.runtime ## train on a small data set, quantize, verify and predict; pictures and figures go to demo/
	@echo "==> demo: results go to demo/"
	$(BIN)/unetres demo --out demo

# Compiled modules are kept, also where the environment says not to: hundreds of processes of tests read them.
export PYTHONDONTWRITEBYTECODE =

# Two files at a time; each process takes the next one in the order of tests/conftest.py, the longest first.
PYTEST = $(BIN)/python -m pytest
AT_ONCE = -n 2 --dist loadfile --no-loadscope-reorder

test: test-edge ## run the quick tests of both packages, those of the browser's runtime in Node too where npm is
	@echo "==> test"
	$(PYTEST) $(AT_ONCE) tests

test-edge: $(VENV)/.dev ## run the tests of the runtime, which must not import TensorFlow
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(WEB)/node_modules/.installed || echo "==> without the tests in Node"; fi
	@echo "==> test-edge"
	$(PYTEST) $(AT_ONCE) edge/tests

test-slow: $(VENV)/.dev ## run what repeats the quick tests for more networks, files and kills: some minutes
	@echo "==> test-slow"
	$(PYTEST) $(AT_ONCE) -m "slow and not long" tests edge/tests

test-long: $(VENV)/.dev ## run the campaigns: hours
	@echo "==> test-long"
	$(PYTEST) -m long tests edge/tests

test-web: $(VENV)/.dev $(WEB)/node_modules/.installed ## run the tests of the browser runtime and of the page for painting, in Node and in Chromium
	@echo "==> test-web"
	$(PYTEST) -m "slow or not slow" edge/tests/test_web.py edge/tests/test_web_browser.py tests/test_annotate_page.py tests/test_annotate_browser.py tests/test_annotate_review_browser.py

test-arm64: $(VENV)/.dev ## run the tests of the runtime on an emulated arm64 processor (needs Debian or Ubuntu on x86-64)
	@echo "==> test-arm64"
	$(BIN)/python edge/tests/arm64.py

$(WEB)/node_modules/.installed: $(WEB)/package.json $(WEB)/package-lock.json
	@command -v npm >/dev/null || { echo "error: needs Node 20 or newer with npm (https://nodejs.org)" >&2; exit 1; }
	@echo "==> installing LiteRT.js, playwright-core, axe-core and TypeScript into $(WEB)/node_modules"
	cd $(WEB) && npm ci --no-audit --no-fund
	@touch $@

lint: $(VENV)/.dev ## check style, format and types
	@echo "==> lint"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/.dev ## write the newest versions that the ranges allow to requirements-dev.lock
	@echo "==> lock"
	printf '%s\n' '-e ./edge' '-e .[dev]' | UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile - --quiet \
		--universal --python-version 3.11 --upgrade --no-annotate \
		--no-emit-package keras-unetres --no-emit-package keras-unetres-edge -o requirements-dev.lock

bench: $(VENV)/.runtime ## run every benchmark; figures go to benchmarks/results/
	@mkdir -p benchmarks/results
	@found=no; for script in benchmarks/[!_]*.py; do \
		test -f "$$script" || continue; \
		found=yes; echo "==> bench: $$script"; \
		$(BIN)/python "$$script" || exit 1; \
	done; test $$found = yes || echo "benchmarks/ has no scripts"

notebooks: $(VENV)/.dev ## execute the notebooks and write their outputs into them
	@echo "==> notebooks"
	$(BIN)/python notebooks/make.py

# Not --quiet, which keeps warnings from being counted. mkdocs-material prints an opinion on MkDocs 2, which the pinned range excludes.
docs: $(VENV)/.dev ## build the guide into site/; a warning or a dead link is a failure
	@echo "==> docs"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html; with search: $(BIN)/python -m http.server --directory site, http://localhost:8000"

release-check: $(VENV)/.dev ## build both distributions and try them as strangers will, from an index in empty environments; into dist/
	@echo "==> release-check"
	$(BIN)/python tools/release.py --out dist $(if $(STEPS),--steps $(STEPS)) $(if $(PYTHONS),--python $(PYTHONS)) $(if $(KEY),--key $(KEY))

clean: ## remove what the other targets made (.venv, demo/, builds and caches)
	@echo "==> clean"
	rm -rf .venv .venv-newest .arm64 demo site build dist edge/build edge/dist $(WEB)/node_modules .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

# A stamp is touched only after its last command has succeeded: a failed install is tried again next time.

$(VENV)/.created:
	@python='$(PYTHON)'; \
	if test -z "$$python"; then \
		echo "error: found no Python 3.11, 3.12 or 3.13 with the venv module on PATH;" \
			"install one (on Debian and Ubuntu also python3-venv), or name it: make demo PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c '$(PYTHON_FITS)'; then \
		echo "error: PYTHON=$$python does not run, has no venv module, or is not Python 3.11, 3.12 or 3.13" >&2; \
		exit 1; \
	fi; \
	echo "==> creating $(VENV) with $$python" && "$$python" -m venv "$(VENV)"
	@touch $@

$(VENV)/.runtime: $(VENV)/.created $(PROJECT_FILES)
	@echo "==> installing keras-unetres-edge and keras-unetres into $(VENV) (TensorFlow is a large download)"
	@rm -f $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./edge -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.created $(PROJECT_FILES)
	@echo "==> installing both packages and the development tools into $(VENV) (TensorFlow is a large download)"
	@rm -f $(VENV)/.runtime $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(LOCKED),-c requirements-dev.lock) -e ./edge -e '.[dev]'
	@touch $(VENV)/.runtime $@
