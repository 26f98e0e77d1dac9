package term

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
)

// Output is where a command prints. It remembers that something could not be written,
// which commands need not look at line by line: a result that nobody got must not
// look like success. After an error nothing more is written.
type Output struct {
	w   io.Writer
	err error
}

// NewOutput returns an Output to w. A pipe whose reader has gone is an error like a
// full disk from now on, and no signal that ends the process in the middle.
func NewOutput(w io.Writer) *Output {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // not Ignore, which programs that are started would inherit
	return &Output{w: w}
}

// Write is io.Writer's.
func (o *Output) Write(b []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(b)
	if err != nil {
		var path *fs.PathError // "write /dev/stdout: …", whatever standard output is
		if errors.As(err, &path) {
			err = path.Err
		}
		o.err = err
	}
	return n, o.err
}

// Err returns what went wrong first, or nil.
func (o *Output) Err() error { return o.err }

// Unwrap returns what an Output writes to, and any other writer as it is.
func Unwrap(w io.Writer) io.Writer {
	if o, ok := w.(*Output); ok {
		return o.w
	}
	return w
}
