# Each target sets itself up in .venv; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= runs/demo
WORKERS ?= 3
# One more than the cores it is meant for: some tests wait for a program to run out of its time.
TEST_WORKERS ?= 3
SEEDS ?= 2

.PHONY: demo test test-slow test-vllm test-adapters lint benchmarks clean

demo: .venv/installed
	@$(BIN)/python scripts/demo.py $(RUNS) --seeds $(SEEDS) --workers $(WORKERS)

test: .venv/installed
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

# Engine vllm on vLLM itself, built for CPUs, in an environment of its own (2.5 GB).
test-vllm: .venv-vllm/installed
	.venv-vllm/bin/python -m pytest tests/engines/test_vllm_real.py

.venv-vllm/installed: scripts/vllm_environment.sh pyproject.toml
	PYTHON=$(PYTHON) scripts/vllm_environment.sh .venv-vllm
	@touch $@

# The adapters against the trainers themselves, each in an environment of its own: their pins differ. Of prime-rl and slime, which
# are on no registry, checkouts: PRIME_RL_CHECKOUT=FOLDER SLIME_CHECKOUT=FOLDER; without them those tests skip and say so.
# HOSTS=verl_cpu: verl's own main_ppo from its command line to its last step, in minutes.
HOSTS ?= trl verl trinity verifiers
test-adapters: $(HOSTS:%=.venv-hosts/%/installed)
	@for host in $(HOSTS); do \
		echo "adapters: $$host"; \
		.venv-hosts/$$host/bin/python -m pytest tests/adapters/test_$$host.py -m "" || exit 1; \
	done
	.venv-hosts/$(firstword $(HOSTS))/bin/python -m pytest tests/adapters/test_prime_rl.py tests/adapters/test_slime.py

.venv-hosts/%/installed: scripts/adapter_environment.sh pyproject.toml
	PYTHON=$(PYTHON) scripts/adapter_environment.sh $* .venv-hosts/$*
	@touch $@

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: .venv/installed
	$(BIN)/python benchmarks/equations.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/verifiers.py
	$(BIN)/python benchmarks/diversity.py
	$(BIN)/python benchmarks/methods.py

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "progrpo needs Python 3.11 or newer; point at one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-vllm .venv-hosts $(RUNS)
