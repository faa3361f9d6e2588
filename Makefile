# Needs Python 3.11 or later with pip and venv, and make. `make help` lists the targets.
#
#   make run ARGS="--port 9000"      flags of `baton up`; BATON_* variables of the environment count as well
#   make run TORCH=cuda              which build of torch: cpu or cuda (default: cuda where nvidia-smi is found)
#   make run TORCH_INDEX=            install torch from pip's own index alone

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
TORCH ?= $(if $(shell command -v nvidia-smi),cuda,cpu)
# PyPI's torch for Linux on x86 is a CUDA build of several gigabytes; the CPU builds have an index of their own.
# One that cannot be reached is left out: the pinned version then comes from pip's own index.
TORCH_INDEX ?= $(if $(filter cpu,$(TORCH)),https://download.pytorch.org/whl/cpu)
REACHABLE = $(PYTHON) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=3)' $(TORCH_INDEX) 2>/dev/null
# A C compiler by pip, 100 MB, where the system has none: CPU workers build workers/native by it.
COMPILER = $(if $(shell command -v cc),,$(if $(filter cpu,$(TORCH)),$(comma)compiler))
comma := ,
INDEX = $(if $(TORCH_INDEX),$$($(REACHABLE) && echo --extra-index-url $(TORCH_INDEX)))

.PHONY: help run test check check-native bench showcase chaos endure trials kills goals faults walk fuzz machine mutants soak equality perplexity \
	bench-engine bench-features bench-gpu docs models clean venv venv-dev

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: venv ## install what is missing, then start everything (ARGS: flags of `baton up`)
	@$(BIN)/baton up $(ARGS)

TEST_PROCESSES ?= 2
test: venv-dev ## all tests (TEST_PROCESSES: how many at once, 0: in this one; ARGS: of pytest)
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup $(ARGS)

check: venv-dev ## style, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check-native: venv-dev ## the C operations and their threads under ASan, UBSan and TSan, if gcc has them (REQUIRED=1: it must)
	@nice -n 5 tests/sanitizers/run $(BIN)/python $(ARGS)

bench: venv-dev ## the whole path, the relay, the queue and the engine, each against a rival
	@$(BIN)/python -m cli.models.fetch --home .baton
	@$(BIN)/python -m bench.path $(ARGS)
	@$(BIN)/python -m bench.relay
	@$(BIN)/python -m bench.queue
	@$(BIN)/python -m bench.refusal
	@$(BIN)/python -m bench.pause
	@$(BIN)/python -m bench.sampler
	@$(BIN)/python -m bench.quant --model .baton/models/SmolLM2-135M-Instruct
	@$(BIN)/python -m bench.engine --model .baton/models/SmolLM2-135M-Instruct

bench-features: venv-dev ## what long prompts, a chat's second turn, grammars and guessed tokens cost or bring
	@$(BIN)/python -m cli.models.fetch --home .baton
	@$(BIN)/python -m bench.features.long_prompt --model .baton/models/SmolLM2-135M-Instruct
	@$(BIN)/python -m bench.features.constrained --model .baton/models/SmolLM2-135M-Instruct
	@$(BIN)/python -m bench.features.grammar --model .baton/models/SmolLM2-135M-Instruct
	@$(BIN)/python -m bench.features.speculation --model .baton/models/SmolLM2-135M-Instruct

showcase: venv-dev ## kill workers and replicas under `baton chat` and time the silence (ARGS: --rounds 5)
	@$(BIN)/python -m cli.models.fetch --home .baton
	@$(BIN)/python -m bench.showcase $(ARGS)

perplexity: venv-dev ## quality of each form of the default model (ARGS: --gguf FILE of the same model)
	@$(BIN)/python -m cli.models.fetch --home .baton >/dev/null
	@$(BIN)/python -m bench.perplexity --model .baton/models/SmolLM2-135M-Instruct $(ARGS)

equality: venv-dev ## the default model's answers alone against the same in a batch, continued, copied … (ARGS)
	@$(BIN)/python -m cli.models.fetch --home .baton >/dev/null
	@$(BIN)/python -m bench.equality --report docs/reports/equality.md $(ARGS)

# make bench-engine ARGS="--quick --streams 1 8 32 64 --sets random --rivals llama.cpp"
bench-engine: venv-dev ## Baton against llama.cpp, vLLM, transformers serve and LitServe; writes docs/benchmarks.md (ARGS)
	@$(BIN)/python -m bench.peers $(if $(TORCH_INDEX),$$($(REACHABLE) && echo --torch-index $(TORCH_INDEX))) $(ARGS)

bench-gpu: venv-dev ## the engine on a GPU, with CUDA graphs and without, against transformers (ARGS: --model DIR)
	@$(BIN)/python -m bench.gpu $(ARGS)

# make chaos SECONDS=60 SEED=1 ENGINE=scripted|tiny KILLS=1000 (instead of SECONDS); bash has a SECONDS of its own
CHAOS = $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE)) \
	$(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS))
chaos: venv-dev ## kill and cut everything under load, and count what is lost (SECONDS, SEED, ENGINE, KILLS)
	@$(BIN)/python -m tests.acceptance.faults $(CHAOS) $(ARGS)

# make endure SECONDS=3600 SEED=1
ENDURE = --engine tiny --gap 15 --appendfsync always --lease 3 --steady --workers 2 \
	--seconds $(if $(filter command line,$(origin SECONDS)),$(SECONDS),3600) $(if $(SEED),--seed $(SEED))
endure: venv-dev ## an hour of faults, one every 15 s: memory, descriptors and keys as well (SECONDS, SEED)
	@$(BIN)/python -m tests.acceptance.faults $(ENDURE) $(ARGS)

trials: venv-dev ## one stream, one fault, thirty times each, at the defaults: how long it is silent (ROUNDS)
	@$(BIN)/python -m tests.acceptance.faults.trials $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

kills: venv-dev ## kill the parts of one `baton up` under load, then one at a time: how long readers hear nothing (KILLS, ROUNDS)
	@$(BIN)/python -m tests.acceptance.faults.kills $(if $(KILLS),--kills $(KILLS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

goals: venv-dev ## R1 to R14 as one table, of the figures in docs/reports and of tests that are run now
	@$(BIN)/python -m tests.acceptance.faults.verdict.goals docs/reports/*.json $(ARGS)

soak: venv-dev ## the engine alone under random work, half an hour: outputs, memory, a report (SECONDS, ARGS)
	@$(BIN)/python -m tests.soak --report docs/reports/soak-engine.md $(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS)) $(ARGS)

# make fuzz SECONDS=300 SEED=7 PART=models; without PART: http, redis, records, celery and models, one after the other
FUZZ = $(if $(PART),--part $(PART)) $(if $(SEED),--seed $(SEED)) $(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS))
fuzz: venv-dev ## bad input at random: HTTP, Redis's errors, records, Celery messages, model files (SECONDS, SEED, PART, ARGS)
	@$(BIN)/python -m tests.fuzz $(FUZZ) $(ARGS)

walk: venv-dev ## a newcomer: install in an empty directory, run, chat, kill, resume, drain, stop
	@$(BIN)/python -m pytest -m walk tests/acceptance $(ARGS)

faults: venv-dev ## the fault matrix under load; `make test` has the fail points
	@$(BIN)/python -m pytest -m matrix tests/acceptance/faults $(ARGS)

machine: export EXAMPLES ?= 2000
machine: venv-dev ## draw runs of the store's state machine (EXAMPLES, SHRINK=1 to shorten what fails)
	@$(BIN)/python -m pytest -q tests/integration/shared/test_store_machine.py $(ARGS)

mutants: venv-dev ## take out one guard at a time: a test must fail for each (ARGS: names of guards)
	@$(BIN)/python -m tests.mutants $(ARGS)

docs: venv-dev ## what of docs/ is made of the code
	@$(BIN)/python -m tools.docs.compatibility docs/compatibility.md
	@$(BIN)/python -m tools.docs.reference docs

models: venv-dev ## try each decoder-only architecture of transformers; writes the table in docs/models.md (ARGS: types)
	@$(BIN)/python -m tools.models.table $(ARGS)

clean: ## remove what was installed and built; models and data in .baton stay
	rm -rf $(VENV) *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp says that these pins are installed, and which build of torch.
STAMP := $(VENV)/installed-$(TORCH)
venv: $(STAMP)
venv-dev: $(STAMP)-dev

$(STAMP): EXTRAS = api,worker,cli$(COMPILER)
$(STAMP)-dev: EXTRAS = api,worker,cli,dev$(COMPILER)
$(STAMP) $(STAMP)-dev: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV) (torch for $(TORCH)); the first time takes minutes."
	@if ls $(VENV)/installed-* 2>/dev/null | grep -qv installed-$(TORCH); then $(BIN)/python -m pip uninstall -q -y torch; fi
	@rm -f $(VENV)/installed-*
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(INDEX) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(STAMP) $@
