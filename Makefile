# Every target installs what it needs first: `make train` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := $(BIN)/python -m deepfm
ARGS   ?=
CONFIG ?= configs/deepfm_movielens.yaml
RUNS_DIR ?= outputs
# A study that several commands go on with: its storage, and how many trials it has in all.
HPO_STORAGE ?= sqlite:///outputs/hpo.db
HPO_TRIALS ?= 20
# A zoo of pre-trained models: where, and how large (full takes minutes, ci seconds).
ZOO ?= outputs/zoo
PRESET ?= full
# CI sets PYTEST_ARGS to add coverage; by hand it narrows a run: make test PYTEST_ARGS="-k cin".
PYTEST_ARGS ?=

# pip may know of local wheels (its find-links); uv reads none of pip's settings, so they are handed over.
# Only folders that exist are passed on: uv refuses a missing one.
PIP_LINKS := $(PIP_FIND_LINKS) $(shell $(PYTHON) -m pip config list 2>/dev/null | sed -n "s/^[^=]*find-links='\(.*\)'$$/\1/p")
UV_LINKS := $(sort $(wildcard $(patsubst file://%,%,$(PIP_LINKS))))
LOCAL_TORCH := $(firstword $(foreach dir,$(UV_LINKS),$(wildcard $(dir)/torch-*.whl)))
empty :=
space := $(empty) $(empty)
comma := ,
export UV_FIND_LINKS := $(subst $(space),$(comma),$(UV_LINKS))

# Without a local wheel, Linux asks uv for the build of torch that fits the machine: CPU where no GPU is found.
TORCH_BACKEND := $(if $(LOCAL_TORCH),,$(if $(filter Linux,$(shell uname -s)),auto))
UV_TORCH_BACKEND ?= $(TORCH_BACKEND)
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
INSTALL := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet -c constraints.txt -e '.[dev]'
# $(call with_backend,COMMAND): COMMAND with the build of torch that fits, or without a wish where that fails.
with_backend = $(if $(UV_TORCH_BACKEND),UV_TORCH_BACKEND=$(UV_TORCH_BACKEND) $(1) || env -u UV_TORCH_BACKEND) $(1)

# The peers of benchmarks/throughput.py, each in an environment of its own, with what it uses but does not declare.
BENCH := .bench
BENCH_TORCH := torch==2.13.0
PEERS := deepctr_torch fuxictr torch_rechub
# deepfm's own extra: what its users have who stay on DeepCTR-Torch; the tests of deepfm.interop run there too.
PEER_deepctr_torch := -e '.[deepctr]' pandas
PEER_fuxictr := fuxictr==2.3.10
PEER_torch_rechub := torch-rechub==0.9.0

.DEFAULT_GOAL := help
.PHONY: help install train evaluate compare tune hpo-setup hpo-run smoke zoo results test lint format bench-peers bench-deepctr lock clean

help:
	@echo "make train [ARGS='key=value ...'] [CONFIG=FILE]   train to final test metrics"
	@echo "make evaluate [ARGS='RUN or --config FILE']       metrics of a finished run"
	@echo "make compare [RUNS_DIR=outputs] [ARGS=--markdown] runs side by side"
	@echo "make tune [CONFIG=FILE] [ARGS='--trials 20 ...']  search for settings on validation, test the winner"
	@echo "make hpo-setup [CONFIG=FILE]                      make the study in HPO_STORAGE, print its name"
	@echo "make hpo-run [CONFIG=FILE] [HPO_TRIALS=20]        go on with it to so many trials in all"
	@echo "make smoke                                        generate a panel of stocks, rank them, report: under a minute"
	@echo "make zoo [PRESET=ci] [ZOO=outputs/zoo]           build, train and compare a zoo; recommend for one of its tasks"
	@echo "make test [PYTEST_ARGS='-k cin']                  run the tests"
	@echo "make lint | format                                check, or mend, style and types"
	@echo "make results                                      train the shipped configurations, write docs/results.md"
	@echo "make bench-peers                                  the peers that benchmarks/throughput.py measures, in .bench/"
	@echo "make bench-deepctr                                DeepCTR-Torch alone, which tests of deepfm.interop need"
	@echo "make install | lock | clean                       the environment, its pinned versions, away with it"

install: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || uv venv --quiet --seed $(VENV)
	@test -x "$(UV)" || $(BIN)/python -m pip install --quiet uv
	@echo "installing deepfm and what it needs into $(VENV)"
	@$(call with_backend,$(INSTALL))
	@touch $@

train: $(READY)
	@$(RUN) train --config $(CONFIG) $(if $(ARGS),--override $(ARGS))

evaluate: $(READY)
	@$(RUN) evaluate $(or $(ARGS),--config $(CONFIG))

compare: $(READY)
	@$(RUN) compare $(RUNS_DIR) $(ARGS)

tune: $(READY)
	@$(RUN) tune $(CONFIG) $(ARGS)

hpo-setup: $(READY)
	@$(RUN) tune $(CONFIG) --setup --quiet --storage $(HPO_STORAGE) $(ARGS)

hpo-run: $(READY)
	@$(RUN) tune $(CONFIG) --trials $(HPO_TRIALS) --storage $(HPO_STORAGE) $(ARGS)

smoke: $(READY)
	@$(RUN) equities smoke $(ARGS)

zoo: $(READY)
	@$(RUN) zoo build --preset $(PRESET) --folder $(ZOO)
	@$(RUN) zoo train --folder $(ZOO)
	@$(RUN) zoo bench --folder $(ZOO)
	@$(RUN) zoo recommend --folder $(ZOO) --data shapes_kind --probe

results: $(READY)
	$(BIN)/python benchmarks/movielens_results.py $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-peers: $(PEERS:%=$(BENCH)/%/.ready)

bench-deepctr: $(BENCH)/deepctr_torch/.ready

$(BENCH)/%/.ready: Makefile | $(READY)
	@echo "installing $(PEER_$*) into $(BENCH)/$*"
	@test -x $(BENCH)/$*/bin/python || $(UV) venv --quiet --python $(BIN)/python $(BENCH)/$*
	@$(call with_backend,VIRTUAL_ENV=$(abspath $(BENCH)/$*) $(UV) pip install --quiet $(BENCH_TORCH) $(PEER_$*))
	@touch $@

# Made without local wheels, so that the file holds on every machine.
lock:
	@test -x "$(UV)" || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	UV_FIND_LINKS= $(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --no-header pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) $(BENCH) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
