SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The .venv's programs come first, its Node.js (where it has one) included.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

step = @printf '==> [%s] %s\n' '$(1)' '$(2)'

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F '|' '{ printf "%-22s %s\n", $$1, $$2 }'
	@echo
	@echo 'Variables: TFGPU_PYTHON (which Python makes .venv), TFGPU_NO_APT=1 (install no system packages),'
	@echo '           DOCKER_HOST (another engine), JUPYTER_RUNTIME_DIR (where sockets are made),'
	@echo '           TFGPU_CHROMIUM (another browser for the tests)'

.PHONY: setup
setup: ## Make .venv with this package and its lab extension in it
	$(call step,1/3,Python environment .venv)
	@scripts/venv.sh
	$(call step,2/3,Node.js)
	@scripts/node.sh
	$(call step,3/3,Package tfgpu-kernel)
	@scripts/package.sh

.PHONY: engine
engine: setup ## Have a Docker engine: install and start one if there is none
	$(call step,engine,Docker engine)
	@scripts/engine.sh

.PHONY: mnist
mnist: setup
	$(call step,data,MNIST)
	@python scripts/mnist.py

.PHONY: data
data: setup
	$(call step,data,MNIST)
	@python scripts/mnist.py --optional

.PHONY: demo
demo: engine data ## Set everything up and train the MNIST example in a container
	$(call step,demo,examples/mnist_mlp.ipynb through the kernel tfgpu)
	@python scripts/demo.py

.PHONY: lab
lab: engine data ## Start JupyterLab on examples/ with the kernel
	$(call step,lab,JupyterLab)
	@python scripts/demo.py --image-only
	@jupyter lab --notebook-dir=examples $$(cat build/lab-options) $$([ "$$(id -u)" -ne 0 ] || echo --allow-root)

.PHONY: lint
lint: setup ## Check style, types and the direction of imports
	$(call step,lint,ruff mypy import-linter eslint)
	@ruff check tfgpu_kernel scripts tests bench
	@mypy tfgpu_kernel bench scripts
	@lint-imports
	@cd labextension && jlpm lint

.PHONY: test-plain
test-plain: setup ## Run the tests that need no engine
	@pytest tests --ignore=tests/live --ignore=tests/browser --ignore=tests/faults

.PHONY: test
test: engine mnist ## Set everything up and run all tests
	$(call step,test,images for the tests)
	@scripts/chromium.sh
	@scripts/apt.sh docker-registry gcc libc6-dev
	@scripts/recipes.sh slim tf:py311
	@$(MAKE) --no-print-directory lint
	$(call step,test,tests)
	@pytest tests

.PHONY: nightly
nightly: test ## Run all tests, those that take long included
	@scripts/apt.sh rootlesskit uidmap
	@scripts/recipes.sh frozen:py36
	$(call step,nightly,tests that take long)
	@pytest tests -m nightly

.PHONY: test-engines
test-engines: engine ## Run the lifecycle tests on Docker 20.10, 26.1, 28.5 and rootless podman
	@scripts/apt.sh podman catatonit uidmap
	@scripts/recipes.sh slim
	@python -m tests.engines.matrix

.PHONY: screenshots
screenshots: engine mnist ## Take the documentation's pictures of JupyterLab anew, into docs/images
	@scripts/apt.sh docker-registry gcc libc6-dev
	@scripts/chromium.sh
	@TFGPU_SCREENSHOTS=1 pytest tests/browser -m picture

.PHONY: test-gpu
test-gpu: engine ## Run the smoke tests on a real GPU (TFGPU_TEST_IMAGE names the image)
	@pytest tests/hardware -m gpu -s

.PHONY: bench
bench: engine ## Measure what the documentation gives figures for (docs/benchmarks); WHAT="starts many" for some
	$(call step,bench,gateway_provisioners and matplotlib)
	@pip install --quiet 'tfgpu-kernel[bench]'
	@scripts/recipes.sh tf:py311
	$(call step,bench,$(or $(WHAT),everything))
	@python -m bench $(WHAT)
	@[ -n '$(WHAT)' ] || python -m bench.gpus

.PHONY: soak
soak: engine ## Have 20 kernels come, work and go for an hour; say whether the server leaks
	@scripts/recipes.sh slim tf:py311
	@python -m bench.soak

.PHONY: wheel
wheel: setup ## Build the wheel into dist/
	@pip wheel --no-deps --wheel-dir dist .

.PHONY: clean
clean: ## Remove what builds leave behind (not .venv)
	@rm -rf build dist .venv/package-inputs labextension/lib labextension/*.tsbuildinfo tfgpu_kernel/labextension
