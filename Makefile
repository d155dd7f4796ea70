# Every target sets up what it needs by itself; only Python 3.11+, make and the package registries are needed.
# PYTHON names the interpreter: `make test PYTHON=python3.13` makes the environment anew when its version differs.
PYTHON ?= python3
VENV ?= .venv
VENV_MODELS ?= .venv-models
VENV_FUZZ ?= .venv-fuzz
VENV_RELEASE ?= .venv-release
VENV_DOCS ?= .venv-docs
BIN := $(VENV)/bin
MODELS := $(VENV_MODELS)/bin
FUZZ := $(VENV_FUZZ)/bin
RELEASE_TOOLS := $(VENV_RELEASE)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
DOCKER ?= docker
RELEASE := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Tests run in one process per core, the tests of a file together. Those of whole programs on real servers (tests/acceptance) come last, and alone.
# PARTS: those that need no services. What only libav, numpy and ONNX Runtime decide (encoders, pictures, statistics, scores) is the same on every Python.
PARTS := tests/core/alerts tests/core/evaluation/ladder tests/core/experiments/analysis tests/core/experiments/test_*.py tests/core/test_*.py \
  tests/media/decode/test_pool.py tests/media/decode/test_protocol.py tests/media/decode/sandbox tests/media/fetch tests/media/sources tests/media/ancillary \
  tests/scoring/manifests tests/scoring/runtime tests/scoring/scorers tests/settings tests/transport tests/cli tests/test_flow.py tests/test_retry.py
# A process that dies ends the run, with the name of its test: pytest-xdist 3.8 would wait for ever for the files that it hands to the others.
PARALLEL := -n auto --dist loadfile --max-worker-restart 0
# What runs pytest: `.ci/run` says .ci/twice, which runs failed tests once more.
RUNNER ?=
READY := $(VENV)/ready-$(VERSION)
READY_MODELS := $(VENV_MODELS)/ready-$(VERSION)
READY_FUZZ := $(VENV_FUZZ)/ready-$(VERSION)
READY_RELEASE := $(VENV_RELEASE)/ready-$(VERSION)
READY_DOCS := $(VENV_DOCS)/ready-$(VERSION)

.PHONY: help install demo test test-models smoke check docs kafka wheel deb image bench bench-detectors bench-experiments fuzz soak sbom audit lock clean

help:
	@echo "make install      the environment in .venv; every other target does this too (PYTHON=python3.13 picks the interpreter)"
	@echo "make demo         the main job on this machine in two minutes (INPUT=clip.mp4 DEMO_SECONDS=105 KEEP=1)"
	@echo "make test         every test that needs no torch"
	@echo "make test-models  the tests of the torch side too"
	@echo "make smoke        most tests without services or much decoding on another Python (PYTHON=python3.13 VENV=.venv-newest)"
	@echo "make check        format, lint, types, import rules, public face"
	@echo "make docs         the documentation as a site: docs/_build/html/index.html; a broken link is an error"
	@echo "make kafka        one Kafka broker on 127.0.0.1:9092 to try things with, until Ctrl-C (Java 17 and Maven)"
	@echo "make wheel        dist/vqmon-VERSION-py3-none-any.whl, with settings, units, dashboards, SQL and schemas inside"
	@echo "make deb          dist/vqmon_VERSION_ARCH.deb, for the Debian or Ubuntu that it is built on"
	@echo "make image        the container images vqmon:VERSION and vqmon-demo:VERSION (DOCKER=podman builds them too)"
	@echo "make bench        speed and memory beside peers, in one run"
	@echo "make bench-experiments  how often experiments are called wrongly, 4,000 and 2,000 seeded runs each, beside usual practice (over an hour)"
	@echo "make bench-detectors  false alarms and delays of the alert rules, simulated (FULL=1: 100 stream-days per shape)"
	@echo "make fuzz         mutated input for every parser and the decoders, guided by coverage (FUZZ_SECONDS=60, FUZZ_TARGETS=hls)"
	@echo "make soak         the daemon over SOAK_SEGMENTS=50000 small segments; fails when its memory or handles grow"
	@echo "make sbom         dist/vqmon.cdx.json: CycloneDX bill of materials, with the native libraries inside wheels"
	@echo "make audit        known vulnerabilities of the locked requirements, by pip-audit"
	@echo "make lock         resolve the locked requirements anew"

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(READY_MODELS): requirements/models.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV_MODELS)
	$(MODELS)/pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements/models.txt
	$(MODELS)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(READY_DOCS): requirements/docs.txt
	$(PYTHON) -m venv --clear $(VENV_DOCS)
	$(VENV_DOCS)/bin/pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements/docs.txt
	@touch $@

install: $(READY)

demo: $(READY)
	INPUT="$(INPUT)" DEMO_SECONDS="$(DEMO_SECONDS)" $(BIN)/python -m pipelines.demo.__main__ $(if $(KEEP),--keep)

test: $(READY)
	$(RUNNER) $(BIN)/pytest -q $(PARALLEL) -m "not torch" --ignore=tests/acceptance --ignore=tests/models tests
	$(RUNNER) $(BIN)/pytest -q $(PARALLEL) -m "not torch" tests/acceptance

test-models: $(READY_MODELS)
	$(RUNNER) $(MODELS)/pytest -q $(PARALLEL) tests/models

smoke: $(READY)
	$(RUNNER) $(BIN)/pytest -q $(PARALLEL) -m "not torch and not slow and not kafka and not postgres" $(PARTS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_public_face.py tests/test_private_names.py tests/test_import_rules.py tests/settings/test_sections.py tests/test_flow.py

docs: $(READY) $(READY_DOCS)
	rm -rf docs/reference docs/_build
	$(BIN)/python -m docs.generate docs/reference
	$(VENV_DOCS)/bin/sphinx-build -q -n -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

kafka: $(READY)
	$(BIN)/python -m tests.acceptance.kafka

wheel: $(READY)
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

deb: wheel
	PIP=$(BIN)/pip packaging/deb/build

image: wheel
	$(DOCKER) build --target vqmon --tag vqmon:$(RELEASE) .
	$(DOCKER) build --target demo --tag vqmon-demo:$(RELEASE) .

bench: $(READY)
	$(BIN)/python -m bench

bench-experiments: $(READY)
	$(BIN)/python -m bench experiments experiment-shapes

bench-detectors: $(READY)
	$(BIN)/python -m bench.alerts.detectors $(if $(FULL),--full)

$(READY_FUZZ): requirements/dev.txt requirements/fuzz.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV_FUZZ)
	$(FUZZ)/pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements/dev.txt -r requirements/fuzz.txt
	$(FUZZ)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(READY_RELEASE): requirements/release.txt
	$(PYTHON) -m venv --clear $(VENV_RELEASE)
	$(RELEASE_TOOLS)/pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements/release.txt
	@touch $@

fuzz: $(READY_FUZZ)
	$(FUZZ)/python -m tests.fuzz $(FUZZ_TARGETS)

soak: $(READY)
	$(BIN)/python -m bench.serving.soak

sbom: $(READY) $(READY_RELEASE)
	@mkdir -p build dist
	$(RELEASE_TOOLS)/cyclonedx-py requirements requirements/dev.txt --pyproject pyproject.toml --mc-type application --sv 1.6 --of JSON -o build/locked.cdx.json
	$(BIN)/python -m release.sbom build/locked.cdx.json dist/vqmon.cdx.json
	$(RELEASE_TOOLS)/python -m release.validate_sbom dist/vqmon.cdx.json

audit: $(READY_RELEASE)
	$(RELEASE_TOOLS)/pip-audit --strict --disable-pip --require-hashes -r requirements/dev.txt -r requirements/models.txt

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra sql --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra postgres --extra otlp -c requirements/dev.txt --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -o requirements/run.txt
	$(BIN)/uv pip compile pyproject.toml --extra demo -c requirements/dev.txt --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -o requirements/demo.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra models --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/models.txt
	for name in fuzz release; do $(BIN)/uv pip compile requirements/$$name.in --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/$$name.txt; done
	$(BIN)/uv pip compile --group docs --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/docs.txt

clean:
	rm -rf .venv .venv-models .venv-docs .venv-newest dist build docs/_build docs/reference .mypy_cache .ruff_cache .pytest_cache
