# make test   installs what is missing and runs every test
# make demo   guards a real server, live
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: all build demo test test-long setup check bench fuzz man install clean

all: build

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

demo:
	go run ./cmd/pie demo

setup:
	scripts/setup

# Everything, as CI runs it: under 20 minutes on two cores.
test:
	scripts/test

# The long fuzz, sweep and kill runs.
test-long:
	scripts/test --long

check:
	scripts/setup --tools
	scripts/check

bench:
	scripts/bench

fuzz:
	scripts/fuzz

man: build
	bin/pie man bin/man

install: build
	install -D -m 755 -t $(DESTDIR)/usr/local/bin bin/pie bin/pfp

clean:
	rm -rf bin
