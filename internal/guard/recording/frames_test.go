package recording

import (
	"bytes"
	"testing"
)

// Frames is a recording with a process and a call as they are given.
func Frames(t testing.TB, h Header, process, call []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(&file, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.frame('P', process), w.frame('C', call), w.Flush()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return file.Bytes()
}
