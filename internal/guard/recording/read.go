package recording

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/recorder"
)

// A Reader reads a recording from an enemy.
type Reader struct {
	Header    Header
	Processes []Process // seen so far
	// Total is set at the end; nil when the recording ends without one, as a
	// recorder that was killed leaves it.
	Total *Total

	r     *bufio.Reader
	frame []byte
}

// What a hostile file can make us keep: so many processes, of so many bytes each.
const (
	maxProcesses = 1 << 10
	maxProcess   = 64 << 10
)

// NewReader reads what a recording begins with. Errors: ErrNotRecording,
// *VersionError, ErrDamaged.
func NewReader(r io.Reader) (*Reader, error) {
	magic := make([]byte, len(Magic))
	if _, err := io.ReadFull(r, magic); err != nil || !bytes.Equal(magic[:len(magic)-1], []byte(Magic[:len(Magic)-1])) {
		return nil, ErrNotRecording
	}
	if v := magic[len(magic)-1]; v != Magic[len(Magic)-1] {
		return nil, &VersionError{v}
	}
	gz, err := gzip.NewReader(r)
	if err != nil {
		return nil, damaged("%v", err)
	}
	gz.Multistream(false)
	in := &Reader{r: bufio.NewReader(gz)}
	kind, err := in.next()
	switch {
	case err != nil:
		return nil, damaged("no header: %v", err)
	case kind != 'H':
		return nil, damaged("it begins with a frame of kind %q", kind)
	case json.Unmarshal(in.frame, &in.Header) != nil || len(in.Header.Guards) > maxGuards:
		return nil, damaged("the header cannot be read")
	}
	return in, nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// Next returns the next call; io.EOF after the last. Its slices are valid until the
// next.
func (in *Reader) Next() (*Call, error) {
	for {
		kind, err := in.next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, io.EOF // it was cut off: Total stays nil
		}
		if err != nil {
			return nil, damaged("%v", err)
		}
		switch kind {
		case 'C':
			return in.call()
		case 'P':
			if err := in.process(); err != nil {
				return nil, err
			}
		case 'E':
			t := new(Total)
			if err := json.Unmarshal(in.frame, t); err != nil {
				return nil, damaged("its end: %v", err)
			}
			in.Total = t
			return nil, io.EOF
		default:
			return nil, damaged("a frame of kind %q", kind)
		}
	}
}

func (in *Reader) process() error {
	var p Process
	if err := json.Unmarshal(in.frame, &p); err != nil {
		return damaged("a process: %v", err)
	}
	if len(in.Processes) >= maxProcesses {
		return damaged("more than %d processes", maxProcesses)
	}
	in.Processes = append(in.Processes, p)
	return nil
}

// next reads one frame.
func (in *Reader) next() (kind byte, err error) {
	if kind, err = in.r.ReadByte(); err != nil {
		return 0, err
	}
	n, err := binary.ReadUvarint(in.r)
	if err != nil {
		return 0, err
	}
	if n > MaxFrame || kind == 'C' && n > maxCall || kind == 'P' && n > maxProcess {
		return 0, fmt.Errorf("a frame of %d bytes", n)
	}
	if uint64(cap(in.frame)) < n {
		in.frame = make([]byte, n)
	}
	in.frame = in.frame[:n]
	_, err = io.ReadFull(in.r, in.frame)
	return kind, err
}

// call reads a call from the frame.
func (in *Reader) call() (*Call, error) {
	d := decoder{b: in.frame}
	c := &Call{Process: int(d.below(uint64(len(in.Processes))))}
	c.Guard = int(d.below(uint64(len(in.Header.Guards))))
	c.Number, c.Now, c.SP, c.Return = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	c.End = recorder.End(d.below(uint64(recorder.Ends)))
	c.Verdict = bpf.Verdict(d.below(1 << 32))
	c.Reading = d.uvarint()
	for k := range d.below(bpf.FrameArgs + 1) {
		c.Args[k] = d.uvarint()
	}
	for range d.below(maxPieces) {
		c.Answers = append(c.Answers, recorder.Answer{Helper: bpf.Helper(d.below(1 << 16)), Value: d.uvarint()})
		if d.bad {
			break
		}
	}
	for range d.below(maxPieces) {
		addr := d.uvarint()
		c.Reads = append(c.Reads, recorder.Read{Addr: addr, Bytes: d.bytes(d.below(maxCall))})
		d.bad = d.bad || addr > math.MaxUint64-maxCall // its end would be no address
		if d.bad {
			break
		}
	}
	if d.bad || len(d.b) > 0 {
		return nil, damaged("a call of %d bytes", len(in.frame))
	}
	return c, nil
}

// decoder takes values from a frame; bad is set when one is not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// below is a value under limit.
func (d *decoder) below(limit uint64) uint64 {
	v := d.uvarint()
	if v >= limit {
		d.bad = true
		return 0
	}
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}
