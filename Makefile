# Every verb of the project; bare `make` prints the everyday ones. The kit's are in slipway/Makefile, yours go below.

include slipway/Makefile

##@ Yours

# hello: ## Say hello; to run something before one of the kit's verbs: `deploy: hello`
#	@echo hello
