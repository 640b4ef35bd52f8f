# `make demo` shows everything, `make test` checks everything; both do all the set-up themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
SERVE ?= 1
# What `make demo` shows: classification, detection or segmentation.
TASK ?= classification
DATA_classification := digits
RECIPE_classification := digits
SIZE_classification := 48
DATA_detection := scenes
RECIPE_detection := scenes_detection
SIZE_detection := 128
DATA_segmentation := scenes
RECIPE_segmentation := scenes
SIZE_segmentation := 128
DATA := $(DATA_$(TASK))
RECIPE := $(RECIPE_$(TASK))
SIZE := $(SIZE_$(TASK))
RUN ?= runs/$(RECIPE)
# The tested set of packages, whole. `make CONSTRAINTS= …` installs what setup.cfg allows instead.
CONSTRAINTS ?= constraints.txt
WEB := convert/web
TFJS_RUNTIME := mobilevit_keras/export/tfjs_runtime

.PHONY: demo test lint setup web chromium firefox test-slow test-parity test-newest clean
.DEFAULT_GOAL := test

# $(call need_python,LAST): PYTHON is one of 3.11 to 3.LAST.
need_python = $(PYTHON) -c 'import sys; \
    sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(1)) and "Python 3.11 to 3.$(1) is needed, " \
    "not %d.%d; name one: make PYTHON=python3.11" % sys.version_info[:2])'

setup: $(VENV)/.installed web

$(VENV)/.installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(call need_python,12)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS:%=--constraint %) -e ".[tfjs,export,demo,test]"
	touch $@

web: $(WEB)/dist/index.html

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
	    || { echo "Node.js 20 or newer is needed: https://nodejs.org"; exit 1; }
	cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error
	touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json \
    $(shell find $(WEB) -name node_modules -prune -o -name dist -prune -o -name lib -prune -o -type f -print)
	cd $(WEB) && npm run --silent build
	touch $@

.PHONY: need_task
need_task:
	@test -n "$(DATA)" || { echo "TASK is classification, detection or segmentation, not $(TASK)"; exit 2; }

demo: need_task setup
	$(BIN)/python -m train $(TASK) --recipe $(RECIPE) --output $(RUN) --overwrite
	$(BIN)/python -m convert tflite $(RUN)/model.keras $(RUN)/model.tflite --size $(SIZE)
	$(BIN)/python -m convert tfjs $(RUN)/model.keras $(RUN)/tfjs --size $(SIZE)
	$(BIN)/python -m convert summary $(RUN) --data $(DATA)
ifneq ($(SERVE),0)
	$(BIN)/python -m convert demo $(RUN) --port $(PORT)
endif

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# For the browser tests; an installed one is taken, then Playwright's own, then Debian's.
need_chromium = command -v chromium || command -v chromium-browser || command -v google-chrome \
    || $(1)/python -m playwright install chromium \
    || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }
chromium: $(VENV)/.installed
	@$(call need_chromium,$(BIN))

# In the same order; where there is none its tests are skipped, which says why.
firefox: $(VENV)/.installed
	@command -v firefox-esr || command -v firefox \
	    || $(BIN)/python -m playwright install firefox \
	    || { apt-get update -qq && apt-get install -qq -y --no-install-recommends firefox-esr >/dev/null; } \
	    || echo "No Firefox can be installed here: its tests are skipped"

WORKERS := -n 2 --dist loadfile --no-loadscope-reorder --durations=30
PYTEST := $(BIN)/python -m pytest $(WORKERS)

test: setup lint chromium
	$(BIN)/python -m pip check
	$(PYTEST)

# What takes longer: files of segmenters and detectors and of every precision, the page with them,
# the page in Firefox, training in several processes, a run that is killed, the README's commands.
test-slow: setup chromium firefox
	$(PYTEST) -m slow

# Against transformers and timm themselves, on CPU PyTorch in an environment of its own.
PARITY := .venv-parity
test-parity: setup
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --quiet torch==2.13.0 transformers==5.23.0 safetensors numpy \
	    pyyaml huggingface_hub pillow
	$(PARITY)/bin/pip install --quiet --no-deps timm==1.0.31
	PARITY_PYTHON=$(PARITY)/bin/python $(BIN)/python -m pytest tests/parity -s --timeout=600

# With the newest packages that setup.cfg allows, in an environment of its own; the TF.js converter
# allows no newer ones than those of `make test`.
NEWEST := .venv-newest
test-newest: web
	$(call need_python,13)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e ".[export,demo,test]"
	$(NEWEST)/bin/python -m pip check
	$(NEWEST)/bin/python -m pip freeze
	@$(call need_chromium,$(NEWEST)/bin)
	$(NEWEST)/bin/python -m pytest $(WORKERS) -m "not slow and not tfjs"

clean:
	rm -rf $(VENV) $(PARITY) $(NEWEST) $(WEB)/node_modules $(WEB)/dist $(WEB)/lib runs build *.egg-info
