package term

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Progress tells on a stream what is being done, once that has taken longer
// than a second: quick commands stay quiet. On a terminal one line is
// rewritten; elsewhere each step is a line.
type Progress struct {
	w     io.Writer
	tty   bool
	delay time.Duration

	mu    sync.Mutex
	step  string
	timer *time.Timer
	shown bool
	begun time.Time
	done  bool
}

// NewProgress returns a progress that writes to w.
func NewProgress(w io.Writer) *Progress {
	return &Progress{w: w, tty: IsTerminal(w), delay: time.Second}
}

// Step says what begins now; empty: nothing. It is shown when it still lasts
// after a second.
func (p *Progress) Step(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	p.step, p.begun = Escape(step), time.Now()
	p.quiet()
	if step != "" {
		p.timer = time.AfterFunc(p.delay, p.show)
	}
}

// quiet ends the step before and takes its line away.
func (p *Progress) quiet() {
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done || p.step == "" {
		return
	}
	if !p.tty {
		fmt.Fprintf(p.w, "%s …\n", p.step)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s … %d s", p.step, int(time.Since(p.begun).Seconds()))
	p.shown = true
	p.timer = time.AfterFunc(p.delay, p.show)
}

// Done removes what is shown. Nothing is written after it.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	p.quiet()
}
