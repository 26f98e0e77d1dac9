package locate

import (
	"debug/elf"
	"path"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Unused is the rest of the last page of a segment, which its file leaves unused.
type Unused struct{ Start, End address.Addr }

// Unused returns the rests of the last pages of code and of data, in the images that stay
// mapped as long as the program; libraries come first. They are unused as far as program
// headers, mappings and what is known of C libraries tell; what is in them is for the
// caller to look at. heap is where the kernel lets the heap begin (brk(2)), 0 where it does
// not say.
//
// The rest behind data is not nobody's everywhere: glibc's dynamic linker allocates from the
// one behind its own .bss while it has no malloc yet, and musl's gives those of all images
// to malloc. So data is looked for only in programs without a dynamic linker, or with
// glibc's, and never in that one itself.
func (s *Set) Unused(heap address.Addr) (text, data []Unused) {
	linker := path.Base(s.Exe().File.Interp())
	known := s.Exe().File.Interp() == "" || strings.HasPrefix(linker, "ld-linux-")
	for _, at := range slices.Backward(s.Images) {
		if !s.stays(at, s.Exe()) {
			continue
		}
		for _, seg := range at.File.Segments {
			u, ok := rest(at, seg)
			switch {
			case !ok:
			case seg.Flags&elf.PF_X != 0 && seg.Flags&elf.PF_W == 0 && s.ends(at, u):
				text = append(text, u)
			case seg.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W && known && !strings.HasPrefix(path.Base(at.Path), "ld-") &&
				(!at.IsExe || heap != 0 && (heap <= u.Start || heap >= u.End)) && s.writable(u):
				data = append(data, u)
			}
		}
	}
	return text, data
}

// rest is the rest of a segment's last page; ok is false where there is none, or where
// another segment has a part of it.
func rest(im *Image, seg binfile.Segment) (u Unused, ok bool) {
	if seg.Type != elf.PT_LOAD || seg.Memsz == 0 || seg.Memsz > 1<<40 {
		return u, false
	}
	end := seg.Vaddr + address.Vaddr(seg.Memsz)
	up := (end + 4095) &^ 4095
	for _, o := range im.File.Segments {
		if o.Type == elf.PT_LOAD && o.Vaddr < up && o.Vaddr+address.Vaddr(o.Memsz) > end {
			return u, false
		}
	}
	return Unused{end.Addr(im.Bias), up.Addr(im.Bias)}, end < up
}

// ends reports whether u is the end of a private mapping of im's code.
func (s *Set) ends(im *Image, u Unused) bool {
	return slices.ContainsFunc(im.Mappings, func(m proc.Mapping) bool {
		return m.Perms == proc.Read|proc.Exec && m.Start <= u.Start && m.End == u.End
	})
}

// writable reports whether u is in a private mapping that the program writes to.
func (s *Set) writable(u Unused) bool {
	return slices.ContainsFunc(s.maps, func(m proc.Mapping) bool {
		return m.Perms == proc.Read|proc.Write && m.Start <= u.Start && u.End <= m.End
	})
}
