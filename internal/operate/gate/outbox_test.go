package gate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What cannot be told is counted, and told once the reader reads again: each report is
// either there or in a sum.
func TestOutboxCountsWhatItCannotTell(t *testing.T) {
	const count = 5000 // several times what a pipe holds
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 64<<10); err != nil {
		t.Fatal(err)
	}
	o := newOutbox(int(w.Fd()))
	o.tellLost() // nothing yet
	for pid := range count {
		o.send(Report{Kind: []string{Guarded, Late, Refused}[pid%3], Pid: pid + 1})
	}
	if !o.mustTell() {
		t.Fatal("all of it went into a pipe")
	}
	o.tellLost()
	if !o.mustTell() {
		t.Error("it is said to have told into a full pipe")
	}
	told, sums := Report{}, 0
	lines := bufio.NewScanner(r)
	for read := 0; lines.Scan(); read++ {
		var one Report
		if err := json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &one); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		switch one.Kind {
		case Lost:
			sums++
			told.Guarded += one.Guarded
			told.Late += one.Late
		case Guarded:
			told.Guarded++
		case Late, Refused:
			told.Late++
		}
		if read == 100 {
			o.tellLost()
			w.Close()
		}
	}
	if told.Guarded+told.Late != count || told.Guarded != (count+2)/3 {
		t.Errorf("of %d reports these were told: %+v", count, told)
	}
	if sums != 1 || o.mustTell() {
		t.Errorf("what was lost was told %d times", sums)
	}
}
