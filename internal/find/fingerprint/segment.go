package fingerprint

import (
	"debug/elf"
	"slices"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// segment is a part of the file that is mapped. Its bytes are read when they are first
// looked at: a search looks at few of them, and each page that is touched for the first
// time costs more than to read it.
type segment struct {
	at    address.Vaddr
	size  uint64
	flags elf.ProgFlag

	file *binfile.File
	data []byte   // nil until something is asked for; what was not read is 0
	have []uint64 // a bit for each block that was read
	// failed is the first error of reading: what is missing is 0 in data.
	failed error
}

// blockSize is how much is read at once.
const blockSize = 4096

func (s *segment) contains(v address.Vaddr) bool { return v >= s.at && uint64(v-s.at) < s.size }

// bytes returns up to n bytes at v, which is in the segment.
func (s *segment) bytes(v address.Vaddr, n uint64) []byte {
	off := uint64(v - s.at)
	n = min(n, s.size-off)
	if n == 0 {
		return nil
	}
	if s.data == nil {
		s.data, s.have = make([]byte, s.size), make([]uint64, s.size/blockSize/64+1)
	}
	for b := off / blockSize; b <= (off+n-1)/blockSize; b++ {
		if !s.has(b) {
			b = s.fetch(b, (off+n-1)/blockSize)
		}
	}
	return s.data[off : off+n : off+n]
}

func (s *segment) has(block uint64) bool { return s.have[block/64]>>(block%64)&1 != 0 }

// fetch reads the blocks from first on that are missing, last at most, and returns the
// last that it read.
func (s *segment) fetch(first, last uint64) uint64 {
	end := first
	for ; end <= last && !s.has(end); end++ {
		s.have[end/64] |= 1 << (end % 64)
	}
	s.read(s.data[first*blockSize:min(end*blockSize, s.size)], first*blockSize)
	return end - 1
}

// read fills b with what is at an offset. Where that fails b is 0.
func (s *segment) read(b []byte, off uint64) {
	if err := s.file.ReadVaddr(b, s.at.Add(int64(off))); err != nil {
		clear(b)
		if s.failed == nil {
			s.failed = err
		}
	}
}

// windows hold the code that was looked at last, so that a pass over all functions does
// not keep all of their code.
type windows [4]window

type window struct {
	at   address.Vaddr
	data []byte
}

// windowSize is how much code is read at once at least.
const windowSize = 64 << 10

// code returns up to n bytes at v, good until the next call.
func (im *image) code(v address.Vaddr, n uint64) []byte {
	s := im.segment(v)
	if s == nil {
		return nil
	}
	n = min(n, s.size-uint64(v-s.at))
	for i := range im.windows {
		w := im.windows[i]
		if v >= w.at && uint64(v-w.at) < uint64(len(w.data)) && n <= uint64(len(w.data))-uint64(v-w.at) {
			if i > 0 { // the one used last is the first
				copy(im.windows[1:i+1], im.windows[:i])
				im.windows[0] = w
			}
			off := uint64(v - w.at)
			return w.data[off : off+n]
		}
	}
	last := len(im.windows) - 1
	w := im.windows[last]
	copy(im.windows[1:], im.windows[:last])
	size := min(max(n, windowSize), s.size-uint64(v-s.at))
	w.at, w.data = v, slices.Grow(w.data[:0], int(size))[:size]
	s.read(w.data, uint64(v-s.at))
	im.windows[0] = w
	return w.data[:n]
}

// failed is the first error of reading the file, if there was one.
func (im *image) failed() error {
	for i := range im.segments {
		if err := im.segments[i].failed; err != nil {
			return err
		}
	}
	return nil
}
