SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The .venv's programs come first, its Node.js (where it has one) included.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

step = @printf '==> [%s] %s\n' '$(1)' '$(2)'

.PHONY: setup
setup: ## Make .venv with this package in it
	$(call step,1/3,Python environment .venv)
	@scripts/venv.sh
	$(call step,2/3,Node.js)
	@scripts/node.sh
	$(call step,3/3,Package tfgpu-kernel)
	@scripts/package.sh
