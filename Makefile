# Two commands matter: `make up` runs everything, `make test` proves it. ARGS are passed on: make up ARGS='--port 8010'
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
# More than two processors have: half of the tests' time they wait for a broker, a process or a clock.
WORKERS := 4
# What the production shape is given; values that open nothing.
KEY = $$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')
PRODUCTION = env SECRET_KEY=$$(head -c 48 /dev/urandom | base64 -w 0) ENCRYPTION_KEY=$(KEY) QUOTE_FRAME_KEY=$(KEY) \
  DATABASE_URL=postgresql://cerbero_app@postgres/cerbero REDIS_URL=redis://cerbero@redis/0 PUBLIC_URL=https://cerbero.example LOG_LEVEL=ERROR

.PHONY: help up demo test adversarial faults rotation-faults check pictures bench

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 22

up: $(VENV)/.installed  ## run everything on this machine until Ctrl-C; data under var/
	@exec $(PYTHON) manage.py up $(ARGS)

demo: $(VENV)/.installed  ## one order from proposal to fill, by itself; ARGS=--json for a machine
	@exec $(PYTHON) manage.py demo $(ARGS)

test: $(VENV)/.installed-dev  ## the whole suite on servers of its own; ARGS='tests/test_up.py -x'
	@exec $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

adversarial: $(VENV)/.installed-dev  ## every attempt to pass the gate, in a table, and last its sums as one line of JSON
	@$(PYTHON) -m pytest -q -p no:cacheprovider -n $(WORKERS) --dist worksteal tests/adversarial $(ARGS)

faults: $(VENV)/.installed-dev  ## crashes × broker faults with a judge; RUNS=1000 SEED=7 for random runs, SLICE=1 or CASE='…' for some
	@$(PYTHON) -m tests.faults $(if $(SLICE),--slice) $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case '$(CASE)') $(ARGS)

rotation-faults: $(VENV)/.installed-dev  ## every step of a key rotation killed, with orders flowing; SLICE=1 or CASE='…' for some
	@$(PYTHON) -m tests.keyrotation.faults $(if $(SLICE),--slice) $(if $(CASE),--case '$(CASE)') $(ARGS)

check: $(VENV)/.installed-dev  ## lint, format, types, migrations, the production shape
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PRODUCTION) $(PYTHON) -m mypy .
	$(PRODUCTION) $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(PYTHON) -W ignore::RuntimeWarning manage.py check --deploy --fail-level WARNING

pictures: $(VENV)/.installed-dev  ## docs/images anew, of the running console; needs chromium and chromedriver
	@exec $(PYTHON) -m pytest -q -p no:cacheprovider tests/browser/pictures.py $(ARGS)

bench: $(VENV)/.installed-dev  ## one measurement: make bench NAME=propose
	@test -n "$(NAME)" || { echo "make bench NAME=…; there are:" $$(ls bench/[a-z]*.py | sed 's|bench/||; s|\.py||'); exit 1; }
	@exec $(PYTHON) -m bench.$(NAME) $(ARGS)

# The stamp is written last: a venv without it is half made and is made anew; one older than the pins is completed.
# The embedded servers may run as another user, who must be able to read what is installed: hence the umask.
define install
@umask 022; \
if ! { test -e $(VENV)/.installed && $(PYTHON) -c 'import pip'; } 2>/dev/null; then \
  found=; \
  for each in python3.12 python3.11 python3; do \
    "$$each" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null \
      && { found=$$each; break; }; \
  done; \
  test -n "$$found" || { echo "Cerbero needs Python 3.11 or 3.12 with its venv module (Debian: apt-get install" \
    "python3 python3-venv). Install one and try again." >&2; exit 1; }; \
  echo "Making $(VENV) with $$found …"; \
  rm -rf $(VENV) && "$$found" -m venv $(VENV) || { echo "Cannot make $(CURDIR)/$(VENV): is the folder" \
    "writable, and is there space?" >&2; exit 1; }; \
fi; \
echo "Installing $(1) …"; \
$(PYTHON) -m pip install -q --disable-pip-version-check -r $(1) && touch $(2) || { echo "pip could not install" \
  "$(1); its words stand above. Run the same command again once the cause is gone." >&2; exit 1; }
endef

$(VENV)/.installed: requirements.txt
	$(call install,requirements.txt,$@)

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt
	$(call install,requirements-dev.txt,$(VENV)/.installed $@)
