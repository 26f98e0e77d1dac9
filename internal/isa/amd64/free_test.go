package amd64

import (
	"bytes"
	"testing"
)

func TestFreeAtEntry(t *testing.T) {
	for _, c := range []struct {
		name, code string
		dead       RegSet
		want       RegSet
	}{
		{"mov $1,%eax; ret", "b8 01 00 00 00 c3", 0, Set(RAX)},
		{"16 bits are not all", "66 b8 01 00 c3", 0, 0},
		{"xor of itself", "31 c0 45 31 d2 c3", 0, Set(RAX, R10)},
		{"both branches write", "85 ff 74 06 b8 01 00 00 00 c3 31 c0 c3", 0, Set(RAX)},
		{"one branch reads", "85 ff 74 06 b8 01 00 00 00 c3 89 c1 c3", 0, 0},
		{"a loop", "31 c9 ff c1 83 f9 05 75 f9 31 c0 c3", 0, Set(RCX, RAX)},
		{"endless", "eb fe", 0, 0xffff &^ Set(RSP)},
		{"a call reads everything", "e8 00 00 00 00 31 c0 c3", 0, 0},
		{"a call, but for scratch registers", "41 b8 01 00 00 00 e8 00 00 00 00", Set(R12, R13), Set(R8, R12, R13)},
		{"a tail call", "31 c0 e9 00 10 00 00", 0, Set(RAX)},
		{"a jump through a table", "31 c0 ff e1", 0, Set(RAX)},
		{"what is not known reads everything", "0f a7 c0 31 c0 c3", 0, 0}, // xstore
		{"a push reads", "53 31 db c3", 0, 0},
		{"runs off the end", "31 c0", 0, 0},
		{"does not decode", "31 c0 06", 0, 0},
	} {
		if got := FreeAtEntry(unhex(t, c.code), 0x1000, 0x1000, c.dead); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := FreeAtEntry(bytes.Repeat([]byte{0x90}, maxWalk+1), 0x1000, 0x1000, 0); got != 0 {
		t.Errorf("beyond the bound: %v", got)
	}
}
