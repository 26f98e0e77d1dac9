package amd64

import (
	"slices"
	"testing"
)

func TestReturned(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       []int32 // nil: not told
	}{
		{"0 or -1", "85 ff 74 03 31 c0 c3 83 c8 ff c3", []int32{-1, 0}},
		{"a constant", "b8 05 00 00 00 c3", []int32{5}},
		{"sete with eax zeroed", "31 c0 85 ff 0f 94 c0 c3", []int32{0, 1}},
		{"sete; movzbl", "85 ff 0f 94 c0 0f b6 c0 c3", []int32{0, 1}},
		{"sbb; and $-2; add $1", "39 f7 19 c0 83 e0 fe 83 c0 01 c3", []int32{-1, 1}},
		{"neg", "b8 02 00 00 00 f7 d8 c3", []int32{-2}},
		{"one path computed", "85 ff 74 03 89 f8 c3 31 c0 c3", nil},
		{"a call's result", "e8 00 00 00 00 c3", nil},
		{"a call, then a constant", "e8 00 00 00 00 31 c0 c3", []int32{0}},
		{"tail call", "85 ff 0f 85 00 10 00 00 31 c0 c3", nil},
		{"jump table", "ff e0 31 c0 c3", nil},
		{"only al is set", "b0 01 c3", nil},
		{"never returns", "eb fe", nil},
		{"loop that counts", "31 c0 83 c0 01 ff cf 75 f9 c3", nil},
	} {
		got, ok := Returned(unhex(t, c.code), 0x1000)
		if ok != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, ok, c.want)
		}
	}
}
