package locate

import "path"

// Rseq finds where threads have the struct rseq that their C library registers for each
// (rseq(2)), in bytes relative to the fs base. glibc says so since 2.35, by variables of
// its dynamic linker (The GNU C Library Reference Manual, Restartable Sequences). ok is
// false in a program of another C library, without a dynamic linker, or for which nothing
// is registered: switched off, not known to the kernel, or not yet, before the dynamic linker
// has run.
func (s *Set) Rseq() (offset int32, ok bool) {
	linker := s.linker()
	if linker == nil {
		return 0, false
	}
	size, known := s.linkerWord(linker, "__rseq_size")
	at, knownAt := s.linkerWord(linker, "__rseq_offset")
	if !known || !knownAt || uint32(size) < rseqLeast || int64(at) != int64(int32(at)) || at%rseqAlign != 0 {
		return 0, false
	}
	return int32(at), true
}

const (
	rseqLeast = 20 // bytes that are in use: up to flags, which every kernel with rseq(2) has
	rseqAlign = 32 // of a struct rseq
)

// linker is the dynamic linker that the program asks for, nil where it is not mapped.
func (s *Set) linker() *Image {
	wanted := path.Base(s.Exe().File.Interp())
	for _, im := range s.Images {
		if !im.IsExe && path.Base(im.Path) == wanted {
			return im
		}
	}
	return nil
}

// linkerWord reads eight bytes at a variable of the dynamic linker.
func (s *Set) linkerWord(linker *Image, name string) (uint64, bool) {
	v, exported, err := variable(linker.File, name)
	if err != nil || !exported {
		return 0, false
	}
	var word [1]uint64
	return word[0], s.words(word[:], v.Addr(linker.Bias)) == nil
}
