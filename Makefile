# make test   installs what is missing and runs every test
# make demo   guards a real server, live
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
# pie begins on one CPU beside a busy program, before the Go runtime does (internal/startup).
ENTRY := -E pie_entry
# Where to build.
OUT := bin

.PHONY: all build demo test test-long setup check bench fuzz man completion install uninstall clean

all: build

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS) $(ENTRY)' -o $(OUT)/pie ./cmd/pie
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(OUT)/pfp ./cmd/pfp

demo:
	go run ./cmd/pie demo

setup:
	scripts/setup

# Everything, as CI runs it: about 20 minutes on two cores.
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

# Where install puts what is built; DESTDIR stands before it, for packages.
PREFIX ?= /usr/local
COMMANDS := pie pfp
share = $(DESTDIR)$(PREFIX)/share
bash = $(share)/bash-completion/completions
zsh = $(share)/zsh/site-functions
fish = $(share)/fish/vendor_completions.d

# Emptied first: what an older version wrote is not of this one.
man: build
	rm -rf $(OUT)/man
	set -e; for c in $(COMMANDS); do $(OUT)/$$c man $(OUT)/man; done

completion: build
	mkdir -p $(OUT)/completion
	set -e; for c in $(COMMANDS); do for s in bash zsh fish; do $(OUT)/$$c completion $$s > $(OUT)/completion/$$c.$$s; done; done

install: build man completion
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(COMMANDS:%=$(OUT)/%)
	install -D -m 644 -t $(share)/man/man1 $(OUT)/man/*.1
	set -e; for c in $(COMMANDS); do \
		install -D -m 644 $(OUT)/completion/$$c.bash $(bash)/$$c; \
		install -D -m 644 $(OUT)/completion/$$c.zsh $(zsh)/_$$c; \
		install -D -m 644 $(OUT)/completion/$$c.fish $(fish)/$$c.fish; \
	done

# Guarded processes keep their guards: "pie remove" takes them out, before or after.
uninstall: man
	rm -f $(COMMANDS:%=$(DESTDIR)$(PREFIX)/bin/%) $(COMMANDS:%=$(bash)/%) $(COMMANDS:%=$(zsh)/_%) $(COMMANDS:%=$(fish)/%.fish)
	cd $(OUT)/man && for page in *.1; do rm -f "$(abspath $(share))/man/man1/$$page"; done

clean:
	rm -rf bin
