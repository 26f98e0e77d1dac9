package pie

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// TextDiffers says that a process's code is not what its file says.
type TextDiffers struct {
	Pid  int
	Addr address.Addr
	Path string
}

func (e *TextDiffers) Error() string {
	return fmt.Sprintf("pid %d: the byte at %v differs from %s", e.Pid, e.Addr, e.Path)
}

// CompareText compares all code that a process maps from files with these
// files, and returns how many bytes that were. The first difference is a
// *TextDiffers.
func CompareText(ctx context.Context, pid int) (int64, error) {
	p, err := openProcess(pid)
	if err != nil {
		return 0, err
	}
	defer p.close()
	maps, err := p.read.Maps()
	if err != nil {
		return 0, explain(err, p.String())
	}
	var total int64
	for _, m := range maps {
		if m.Perms&proc.Exec == 0 || !m.HasFile() {
			continue
		}
		n, err := compareMapping(ctx, p.read, m)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// compareChunk is how much is read at a time, in bytes.
const compareChunk = 256 << 10

func compareMapping(ctx context.Context, p *proc.Process, m proc.Mapping) (int64, error) {
	f, err := p.OpenMapped(m)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var done int64
	live, file := make([]byte, compareChunk), make([]byte, compareChunk)
	for off := uint64(0); off < m.Size(); off += compareChunk {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n := int(min(compareChunk, m.Size()-off))
		at := m.Start.Add(int64(off))
		if _, err := p.ReadAt(live[:n], at); err != nil {
			return done, err
		}
		got, err := f.ReadAt(file[:n], int64(uint64(m.Offset)+off))
		if err != nil && err != io.EOF {
			return done, fmt.Errorf("reading %s: %w", m.Path, err)
		}
		clear(file[got:n]) // the last page of a file is filled with zeros
		if !bytes.Equal(live[:n], file[:n]) {
			return done, &TextDiffers{Pid: p.Pid(), Addr: at.Add(int64(firstDifference(live[:n], file[:n]))), Path: m.Path}
		}
		done += int64(n)
	}
	return done, nil
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}
