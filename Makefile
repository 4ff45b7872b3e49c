# Every verb of the project; bare `make` prints those of every day. The kit's are in slipway/Makefile, yours go below.

include slipway/Makefile

##@ Yours

# hello: ## Say hello; to put something before a verb of the kit's: `deploy: hello`
#	@echo hello
