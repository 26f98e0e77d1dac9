package gate

import (
	"encoding/json"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// outbox writes reports without ever waiting for the reader. What it cannot write it
// counts, and tells of when there is room again.
type outbox struct {
	mu   sync.Mutex
	fd   int
	lost Report // Kind is Lost when something was
}

// lostInterval is how often a reader that does not keep up is told so.
const lostInterval = 100 * time.Millisecond

func newOutbox(fd int) *outbox {
	_ = unix.SetNonblock(fd, true)
	return &outbox{fd: fd}
}

// pipeBuf is how long a line may be that is written whole or not at all (pipe(7)).
const pipeBuf = 4096

// send drops the report when the pipe is full.
func (o *outbox) send(r Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.write(r) {
		return
	}
	o.lost.Kind = Lost
	switch {
	case r.Kind == Guarded && r.Window == 0:
		o.lost.Guarded++
	case r.Kind == Guarded, r.Kind == Late, r.Kind == Refused:
		o.lost.Late++
	}
}

func (o *outbox) write(r Report) bool {
	b, err := json.Marshal(r)
	if err == nil && len(b) >= pipeBuf {
		r.Notes, r.Error = nil, r.Error[:min(len(r.Error), 512)]
		b, err = json.Marshal(r)
	}
	if err == nil && len(b) < pipeBuf {
		_, err = unix.Write(o.fd, append(b, '\n'))
		return err == nil
	}
	return false
}

// mustTell tells whether a report was dropped and the reader has not been told yet.
func (o *outbox) mustTell() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost.Kind != ""
}

// tellLost tells the reader which reports were dropped.
func (o *outbox) tellLost() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost.Kind != "" && o.write(o.lost) {
		o.lost = Report{}
	}
}
