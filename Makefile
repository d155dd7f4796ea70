# Every target sets up what it needs by itself; only Python 3.11+, make and the package registries are needed.
PYTHON ?= python3
BIN := .venv/bin
MODELS := .venv-models/bin

.PHONY: help demo test test-models check kafka bench bench-detectors bench-experiments lock clean

help:
	@echo "make demo         the main job on this machine in two minutes (INPUT=clip.mp4 DEMO_SECONDS=105 KEEP=1)"
	@echo "make test         every test that needs no torch"
	@echo "make test-models  the tests of the torch side too"
	@echo "make check        format, lint, types, import rules, public face"
	@echo "make kafka        one Kafka broker on 127.0.0.1:9092 to try things with, until Ctrl-C (Java 17 and Maven)"
	@echo "make bench        speed and memory beside peers, in one run"
	@echo "make bench-experiments  how often experiments are called wrongly: 4,000 seeded runs each, beside usual practice"
	@echo "make bench-detectors  false alarms and delays of the alert rules, simulated (FULL=1: 400 series-days per shape)"
	@echo "make lock         resolve the locked requirements anew"

.venv/ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-models/ready: requirements/models.txt pyproject.toml
	$(PYTHON) -m venv .venv-models
	$(MODELS)/pip install -q --disable-pip-version-check --require-hashes -r requirements/models.txt
	$(MODELS)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/ready
	INPUT="$(INPUT)" DEMO_SECONDS="$(DEMO_SECONDS)" $(BIN)/python -m pipelines.demo.__main__ $(if $(KEEP),--keep)

test: .venv/ready
	$(BIN)/pytest -q -m "not torch"

test-models: .venv-models/ready
	$(MODELS)/pytest -q tests/models

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_public_face.py tests/test_import_rules.py tests/settings/test_sections.py tests/test_flow.py

kafka: .venv/ready
	$(BIN)/python -m tests.acceptance.kafka

bench: .venv/ready
	$(BIN)/python -m bench

bench-experiments: .venv/ready
	$(BIN)/python -m bench experiments

bench-detectors: .venv/ready
	$(BIN)/python -m bench.alerts.detectors $(if $(FULL),--full)

lock: .venv/ready
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra models --generate-hashes --universal -p 3.11 --no-header --no-emit-index-url -q -U -o requirements/models.txt

clean:
	rm -rf .venv .venv-models dist build .mypy_cache .ruff_cache .pytest_cache
