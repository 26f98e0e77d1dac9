package recording

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// A Writer writes a recording. It is for one goroutine.
type Writer struct {
	gz    *gzip.Writer
	count counter
	b     []byte
	n     int // processes
}

// counter counts what goes to the file.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// NewWriter begins a recording on w.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	out := &Writer{count: counter{w: w}}
	if _, err := io.WriteString(&out.count, Magic); err != nil {
		return nil, err
	}
	var err error
	if out.gz, err = gzip.NewWriterLevel(&out.count, gzip.BestSpeed); err != nil {
		return nil, err
	}
	return out, out.json('H', h)
}

// Size is how many bytes the file has, without those not flushed yet.
func (w *Writer) Size() int64 { return w.count.n }

// Process adds a process and returns its number.
func (w *Writer) Process(p Process) (int, error) {
	w.n++
	return w.n - 1, w.json('P', p)
}

// Call adds a call.
func (w *Writer) Call(c Call) error {
	b := w.b[:0]
	for _, v := range []uint64{uint64(c.Process), uint64(c.Guard), c.Number, c.Now, c.SP, c.Return, uint64(c.End), uint64(c.Verdict), c.Reading} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Args)))
	for _, v := range c.Args {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Answers)))
	for _, a := range c.Answers {
		b = binary.AppendUvarint(b, uint64(a.Helper))
		b = binary.AppendUvarint(b, a.Value)
	}
	pieces := Gather(c.Reads).Pieces()
	b = binary.AppendUvarint(b, uint64(len(pieces)))
	for _, r := range pieces {
		b = binary.AppendUvarint(b, r.Addr)
		b = binary.AppendUvarint(b, uint64(len(r.Bytes)))
		b = append(b, r.Bytes...)
	}
	w.b = b
	return w.frame('C', b)
}

// Flush makes what was written so far readable.
func (w *Writer) Flush() error { return w.gz.Flush() }

// Close ends the recording. It does not close the file.
func (w *Writer) Close(t Total) error {
	if err := w.json('E', t); err != nil {
		return err
	}
	return w.gz.Close()
}

func (w *Writer) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(kind, b)
}

func (w *Writer) frame(kind byte, b []byte) error {
	if len(b) > MaxFrame {
		return fmt.Errorf("a part of the recording has %d bytes, more than %d", len(b), MaxFrame)
	}
	head := binary.AppendUvarint([]byte{kind}, uint64(len(b)))
	if _, err := w.gz.Write(head); err != nil {
		return err
	}
	_, err := w.gz.Write(b)
	return err
}
