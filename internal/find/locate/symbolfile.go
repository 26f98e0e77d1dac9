package locate

import (
	"encoding/hex"
	"hash/crc32"
	"io"
	"path"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// rooted is a Target that opens files of the process's own root directory.
type rooted interface {
	OpenInRoot(path string) (*proc.File, error)
}

// maxSymbolFile bounds a separate debug file, in bytes.
const maxSymbolFile = 2 << 30

// tables are the name tables of an image. Where the file was stripped, and that
// was asked for, they are completed from its separate debug file.
func (s *Set) tables(im *Image) (tables, error) {
	t, err := readTables(im.File)
	if err != nil || t.sym != nil || !s.separately {
		return t, err
	}
	sym, from := s.separate(im)
	if sym != nil {
		t.sym, t.symFrom = sym, from
	}
	return t, nil
}

// separate returns the symbols of the debug file that belongs to the image, and
// its path: found in the process's own root, as gdb does, by build ID, then by
// .gnu_debuglink, then asked of the debuginfod servers that the operator named. It
// must have the image's build ID or, where that has none, the checksum of the link.
// A file that does not fit is passed over.
func (s *Set) separate(im *Image) ([]binfile.Symbol, string) {
	if im.separated {
		return im.debugSyms, im.debugPath
	}
	im.separated = true
	if root, ok := s.p.(rooted); ok {
		for _, c := range im.debugFiles() {
			if sym := im.symbolsOf(root, c); sym != nil {
				im.debugSyms, im.debugPath = sym, c.path
				return sym, c.path
			}
		}
	}
	if s.servers != nil {
		im.debugSyms, im.debugPath = s.remote(im)
	}
	return im.debugSyms, im.debugPath
}

// remote asks debuginfod servers. What goes wrong there only means that a name is
// not known; NotFound tells it.
func (s *Set) remote(im *Image) ([]binfile.Symbol, string) {
	id := im.File.BuildID()
	if id == nil {
		return nil, ""
	}
	file, from, err := s.servers.Symbols(id)
	if file == nil {
		if err != nil {
			s.unanswered = err
		}
		return nil, ""
	}
	sym, err := file.Symbols()
	if err != nil {
		return nil, ""
	}
	return sym, "debuginfod " + from
}

// debugFile is where a debug file may be.
type debugFile struct {
	path string
	crc  uint32 // of .gnu_debuglink
	link bool
}

func (im *Image) debugFiles() []debugFile {
	const debug = "/usr/lib/debug"
	var out []debugFile
	if id := hex.EncodeToString(im.File.BuildID()); len(id) > 2 {
		out = append(out, debugFile{path: path.Join(debug, ".build-id", id[:2], id[2:]+".debug")})
	}
	name, crc, err := im.File.DebugLink()
	if err != nil || path.Base(name) != name {
		return out
	}
	dir := path.Dir(im.Path)
	for _, p := range []string{path.Join(dir, name), path.Join(dir, ".debug", name), path.Join(debug, dir, name)} {
		if p != im.Path {
			out = append(out, debugFile{p, crc, true})
		}
	}
	return out
}

func (im *Image) symbolsOf(root rooted, c debugFile) []binfile.Symbol {
	file, err := root.OpenInRoot(c.path)
	if err != nil {
		return nil
	}
	defer file.Close()
	if file.Size > maxSymbolFile {
		return nil
	}
	f, err := binfile.OpenSymbols(file, file.Size)
	if err != nil || !im.belongs(f, file, c) {
		return nil
	}
	sym, err := f.Symbols()
	if err != nil {
		return nil
	}
	return sym
}

func (im *Image) belongs(f *binfile.File, file *proc.File, c debugFile) bool {
	if id := im.File.BuildIDString(); id != "" {
		return f.BuildIDString() == id
	}
	if !c.link {
		return false
	}
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, io.NewSectionReader(file, 0, file.Size))
	return err == nil && n == file.Size && sum.Sum32() == c.crc
}
