# SPDX-License-Identifier: Apache-2.0
# A thin front for CMake. `make demo` and `make test` work on a bare Debian 12: they install what is missing first
# (as root or with sudo), which `make deps` does alone.
BUILD ?= build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

all: $(BUILD)/build.ninja
	cmake --build $(BUILD) -j $(JOBS)

$(BUILD)/build.ninja:
	cmake -G Ninja -S . -B $(BUILD) $(CMAKE_FLAGS)

deps:
	@sh tests/tools/install_deps.sh

# After deps, in a second make: the programs that the first one would look for may just have been installed.
demo: deps
	@$(MAKE) --no-print-directory all
	@sh tests/tools/demo.sh $(BUILD)

test: deps
	@$(MAKE) --no-print-directory all
	ctest --test-dir $(BUILD) --output-on-failure -j 2

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD)

.PHONY: all deps demo test install clean
