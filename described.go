package pie

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/debuginfo"
	"github.com/patch-integration-engine/pie/internal/find/locate"
)

// Described is a function of a program, for whoever writes a guard for it. It
// is found in a file or in a running process, which is only read.
type Described struct {
	Func     string // as it was asked for
	Exe, Lib string // as a //pie:guard names the file; one of them is empty when it was found in a file
	Go       bool   // a Go function
	Vaddr    address.Vaddr

	file  *binfile.File
	open  func(path string) (debugFile, error) // a file beside the program
	close []func()

	info *debuginfo.Info // once it was asked for; a large program's takes a tenth of a second to open
}

// debugFile is a file that may have the debug information of another.
type debugFile struct {
	io.ReaderAt
	size  int64
	close func()
}

// Close lets go of the file or process.
func (d *Described) Close() {
	for _, f := range slices.Backward(d.close) {
		f()
	}
	d.close = nil
}

// BuildID is the GNU build ID of the function's file, empty without one.
func (d *Described) BuildID() string { return d.file.BuildIDString() }

// DebugInfo reads the debug information of the function's file, or that of its
// separate debug file, /usr/lib/debug/.build-id/…; debuginfo.ErrNone when there is
// none. It is good until Close.
func (d *Described) DebugInfo() (*debuginfo.Info, error) {
	if d.info != nil {
		return d.info, nil
	}
	i, err := debuginfo.Open(d.file)
	if errors.Is(err, debuginfo.ErrNone) {
		if f := d.separate(); f != nil {
			i, err = debuginfo.Open(f)
		}
	}
	if err != nil {
		return nil, err
	}
	d.info = i
	return i, nil
}

// separate is the debug file that has the build ID of the program's, or nil.
func (d *Described) separate() *binfile.File {
	id := d.file.BuildIDString()
	if len(id) < 4 {
		return nil
	}
	raw, err := d.open("/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug")
	if err != nil {
		return nil
	}
	d.close = append(d.close, raw.close)
	f, err := binfile.OpenSymbols(raw, raw.size)
	if err != nil || f.BuildIDString() != id {
		return nil
	}
	return f
}

// Params returns the function's parameters as they were written;
// debuginfo.ErrNone when debug information does not describe it.
func (d *Described) Params() ([]debuginfo.Param, error) {
	i, err := d.DebugInfo()
	if err != nil {
		return nil, err
	}
	params, err := i.Params(d.Vaddr)
	// These copies of gcc's have lost parameters, or got others.
	if strings.Contains(d.Func, ".isra.") || strings.Contains(d.Func, ".constprop.") {
		for k := range params {
			params[k].Absent = true
		}
	}
	return params, err
}

// Results returns what the function returns: nothing, one value, or of a Go
// function several. debuginfo.ErrNone when debug information does not tell.
func (d *Described) Results() ([]debuginfo.Type, error) {
	i, err := d.DebugInfo()
	if err != nil {
		return nil, err
	}
	if !d.Go {
		t, err := i.Result(d.Vaddr)
		if err != nil || t.Kind == debuginfo.Void {
			return nil, err
		}
		return []debuginfo.Type{t}, nil
	}
	results, err := i.GoResults(d.Vaddr)
	var types []debuginfo.Type
	for _, r := range results {
		types = append(types, r.Type)
	}
	return types, err
}

// DescribeProcess finds a function in a running process. exe may be empty. fn
// may be, for who only wants the types of the program or of lib. What cannot be
// found is a *Refusal.
func DescribeProcess(pid int, exe, lib, fn string) (*Described, error) {
	p, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	images, err := locate.Images(p.read)
	if err != nil {
		p.close()
		return nil, explain(err, p.String())
	}
	d := &Described{Func: fn, Exe: exe, Lib: lib, close: []func(){p.close, images.Close}}
	d.open = func(path string) (debugFile, error) {
		f, err := p.read.OpenInRoot(path)
		if err != nil {
			return debugFile{}, err
		}
		return debugFile{f, f.Size, func() { f.Close() }}, nil
	}
	image, err := d.inProcess(images)
	if err != nil {
		d.Close()
		return nil, explain(err, p.String())
	}
	if d.file = image.File; d.Exe == "" && d.Lib == "" {
		if d.Exe = filepath.Base(p.exe); !image.IsExe {
			d.Exe, d.Lib = "", image.SOName
		}
	}
	return d, nil
}

// inProcess finds the function, or the image alone when there is none to find.
func (d *Described) inProcess(images *locate.Set) (*locate.Image, error) {
	q := locate.Query{Exe: d.Exe, Lib: d.Lib, Func: d.Func}
	if d.Func == "" {
		searched, err := images.Searched(q)
		if err != nil {
			return nil, err
		}
		return searched[0], nil
	}
	found, err := images.Find(q)
	if err != nil {
		return nil, err
	}
	d.Go, d.Vaddr = found[0].Go, found[0].Vaddr
	return found[0].Image, nil
}

// DescribeFile finds a function in an ELF file: a program, a library, or the
// separate debug file of one. fn may be empty, for who only wants its types.
func DescribeFile(path, fn string) (*Described, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse(CodeNotFound, err, "name a program, a library or a debug file", "%v", err)
	}
	d := &Described{Func: fn, open: openDebugFile, close: []func(){func() { f.Close() }}}
	if err := d.inFile(f, path); err != nil {
		d.Close()
		return nil, explain(err, path)
	}
	return d, nil
}

// openDebugFile opens a file of this machine.
func openDebugFile(path string) (debugFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return debugFile{}, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return debugFile{}, err
	}
	return debugFile{f, st.Size(), func() { f.Close() }}, nil
}

func (d *Described) inFile(f *os.File, path string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return refuse(CodeNotFound, nil, "name a program, a library or a debug file", "%s is not a regular file", path)
	}
	if d.file, err = binfile.Open(f, st.Size()); err != nil {
		// A debug file has the tables of another and no segments of its own.
		tables, tablesErr := binfile.OpenSymbols(f, st.Size())
		if tablesErr != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		d.file = tables
	}
	d.Exe = filepath.Base(path)
	if name := d.file.SOName(); name != "" {
		d.Exe, d.Lib = "", name
	}
	if d.Func == "" {
		return nil
	}
	if d.Vaddr, err = locate.InFile(d.file, path, d.Func); err != nil {
		return err
	}
	if t, err := d.file.GoTable(); err == nil {
		g := t.At(d.Vaddr)
		d.Go = g != nil && !g.C
	}
	return nil
}

// NoDebugInfo reports whether err says that there is no debug information.
func NoDebugInfo(err error) bool { return errors.Is(err, debuginfo.ErrNone) }
