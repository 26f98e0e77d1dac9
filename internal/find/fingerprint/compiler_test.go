package fingerprint

import "testing"

func TestTellsCompilersThatLeaveFunctionsWhole(t *testing.T) {
	for level, want := range map[string]bool{"-O1": true, "-O2": false, "-O3": false, "-Os": true} {
		if got := build(t, level).leavesWhole(); got != want {
			t.Errorf("gcc %s: got %v", level, got)
		}
	}
}

func TestDeclarationsAreNoMessages(t *testing.T) {
	for text, want := range map[string]bool{
		"int yaml_event_initialize(yaml_event_t *, int)":      false, // __PRETTY_FUNCTION__ of clang
		"void shop::Cart::add(int)":                           false,
		"could not open the file (permission denied)":         true,
		"unexpected end of input":                             true,
		"usage: pie insert [options]":                         true,
		"out of memory in parse()":                            false, // looks like one: a message less
		"a length of %d bytes is too much (at most %d bytes)": true,
	} {
		if got := isMessage([]byte(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
