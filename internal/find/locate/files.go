package locate

import (
	"sync"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// maxShared bounds how many files a Files keeps open.
const maxShared = 512

// Files keeps the files of images open while several processes are looked at,
// so that the processes of a family, which map the same files, share what was
// read of them. A file is the same when its inode, size and time of change
// (st_ctim, which no program can set) are. It is not safe for concurrent use,
// and what was found in its sets is good until Close.
type Files struct {
	// Servers are asked for the symbols of stripped files, when the operator named
	// some; nil for none.
	Servers SymbolServers

	shared map[Identity]*elfFile
	others []*elfFile // beyond maxShared
}

// SymbolServers are asked for the symbols that were split off from a program: debuginfod. It
// is an interface so that who asks nobody, as pfp, carries no client for the network.
type SymbolServers interface {
	// Symbols returns the debug file of a build ID, and which server it is from; no file and
	// no error where none has it.
	Symbols(buildID []byte) (symbols *binfile.File, from string, err error)
	Close()
}

// Identity is a file and what it holds.
type Identity struct {
	Dev, Inode uint64
	Size       int64 // bytes
	Changed    int64 // time of the last change (st_ctim), ns since the epoch
}

// elfFile is an open file and what was read of it.
type elfFile struct {
	*binfile.File
	file   *proc.File
	starts func() []address.Vaddr
}

// NewFiles returns a Files without any file.
func NewFiles() *Files { return &Files{shared: map[Identity]*elfFile{}} }

// Close closes every file.
func (fs *Files) Close() {
	for _, f := range fs.shared {
		f.file.Close()
	}
	for _, f := range fs.others {
		f.file.Close()
	}
	fs.shared, fs.others = map[Identity]*elfFile{}, nil
	if fs.Servers != nil {
		fs.Servers.Close()
	}
}

// Len counts the open files.
func (fs *Files) Len() int { return len(fs.shared) + len(fs.others) }

// open reads file's headers, or returns what was made of the same file before.
// It takes file over, also when there is an error.
func (fs *Files) open(file *proc.File) (*elfFile, error) {
	id := identityOf(file)
	if known := fs.shared[id]; known != nil {
		file.Close()
		return known, nil
	}
	f, err := binfile.Open(file, file.Size)
	if err != nil {
		file.Close()
		return nil, err
	}
	own := newELFFile(f, file)
	if len(fs.shared) < maxShared {
		fs.shared[id] = own
	} else {
		fs.others = append(fs.others, own)
	}
	return own, nil
}

// identityOf is zero for what was opened without a file.
func identityOf(f *proc.File) Identity {
	if f == nil {
		return Identity{}
	}
	return Identity{f.Dev, f.Inode, f.Size, f.Changed}
}

func newELFFile(f *binfile.File, file *proc.File) *elfFile {
	return &elfFile{File: f, file: file, starts: sync.OnceValue(func() []address.Vaddr { return starts(f) })}
}

// Read reads a file that processes may map later, with the tables that finding a
// function takes. It takes f over.
func (fs *Files) Read(f *proc.File) (*binfile.File, error) {
	o, err := fs.open(f)
	if err != nil {
		return nil, err
	}
	_ = o.starts()
	return o.File, nil
}
