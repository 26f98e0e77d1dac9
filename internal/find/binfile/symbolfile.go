package binfile

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ulikunitz/xz"
)

// Bounds of .gnu_debugdata, in bytes.
const (
	maxMiniDebug     = 16 << 20 // as it lies in the file
	maxMiniDebugOpen = 64 << 20
)

// OpenSymbols is Open for a file that has the symbols of another only: its
// segments are in that one, so that nothing but tables can be read.
func OpenSymbols(r io.ReaderAt, size int64) (*File, error) {
	return readHeaders(&File{r: r, size: uint64(max(size, 0)), tablesOnly: true})
}

// MiniDebug returns the symbol file that is compressed into .gnu_debugdata, as
// Fedora and its relatives have it, or ErrNoTable.
func (f *File) MiniDebug() (*File, error) { return f.miniDebug() }

func (f *File) readMiniDebug() (*File, error) {
	const name = ".gnu_debugdata"
	b, err := f.DebugSection(name, maxMiniDebug)
	if err != nil {
		return nil, err
	}
	r, err := xz.ReaderConfig{SingleStream: true}.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, malformed(name, 0, "%v", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxMiniDebugOpen+1))
	if err != nil {
		return nil, malformed(name, 0, "%v", err)
	}
	if len(data) > maxMiniDebugOpen {
		return nil, malformed(name, 0, "more than %d bytes", maxMiniDebugOpen)
	}
	inner, err := OpenSymbols(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return inner, nil
}

// DebugLink returns the name of the separate debug file and its CRC-32, as
// .gnu_debuglink has them, or ErrNoTable.
func (f *File) DebugLink() (name string, crc uint32, err error) {
	const section, most = ".gnu_debuglink", 4096
	b, err := f.DebugSection(section, most)
	if err != nil {
		return "", 0, err
	}
	name = cString(b, 0)
	at := (len(name) + 4) &^ 3
	if name == "" || at+4 > len(b) {
		return "", 0, malformed(section, 0, "%d bytes without a name and a checksum", len(b))
	}
	return name, le.Uint32(b[at:]), nil
}
