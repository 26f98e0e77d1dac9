package locate

import (
	"encoding/binary"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
)

// read fills b from the process's memory at a. Addresses come from the process,
// and reading a page that it maps of a file system it serves itself could wait
// for ever: only memory without a file, and the images that were opened, are
// read. That is what the process mapped when the images were listed.
func (s *Set) read(b []byte, a address.Addr) error {
	end := a.Add(int64(len(b)) - 1)
	for _, m := range s.maps {
		if !m.Contains(a) {
			continue
		}
		if !m.Contains(end) || m.HasFile() && !s.inImage(a) {
			break
		}
		_, err := s.p.ReadAt(b, a)
		return err
	}
	return fmt.Errorf("pid %d: %d bytes at %v are not in its data or one of its images", s.p.Pid(), len(b), a)
}

func (s *Set) inImage(a address.Addr) bool {
	for _, im := range s.Images {
		if im.Contains(a) {
			return true
		}
	}
	return false
}

// words reads consecutive 8-byte words.
func (s *Set) words(out []uint64, a address.Addr) error {
	b := make([]byte, 8*len(out))
	if err := s.read(b, a); err != nil {
		return err
	}
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return nil
}
