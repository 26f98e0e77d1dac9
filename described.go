package pie

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	close func()
}

// Close lets go of the file or process.
func (d *Described) Close() { d.close() }

// DebugInfo reads the debug information of the function's file; debuginfo.ErrNone
// when it has none.
func (d *Described) DebugInfo() (*debuginfo.Info, error) { return debuginfo.Open(d.file) }

// Params returns the function's parameters as they were written;
// debuginfo.ErrNone when debug information does not describe it.
func (d *Described) Params() ([]debuginfo.Param, error) {
	i, err := d.DebugInfo()
	if err != nil {
		return nil, err
	}
	return i.Params(d.Vaddr)
}

// Result returns what the function returns: kind Void for nothing, Other with a
// size of −1 where that is not known, as of Go.
func (d *Described) Result() (debuginfo.Type, error) {
	unknown := debuginfo.Type{Size: -1}
	if d.Go {
		return unknown, nil
	}
	i, err := d.DebugInfo()
	if err != nil {
		return unknown, err
	}
	return i.Result(d.Vaddr)
}

// DescribeProcess finds a function in a running process. exe may be empty.
// What cannot be found is a *Refusal.
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
	d := &Described{Func: fn, Exe: exe, Lib: lib, close: func() { images.Close(); p.close() }}
	found, err := images.Find(locate.Query{Exe: exe, Lib: lib, Func: fn})
	if err != nil {
		d.Close()
		return nil, explain(err, p.String())
	}
	f := found[0]
	d.Go, d.Vaddr, d.file = f.Go, f.Vaddr, f.Image.File
	if d.Exe == "" && d.Lib == "" {
		d.Exe, d.Lib = filepath.Base(p.exe), ""
		if !f.Image.IsExe {
			d.Exe, d.Lib = "", f.Image.SOName
		}
	}
	return d, nil
}

// DescribeFile finds a function in an ELF file: a program, a library, or the
// separate debug file of one. fn may be empty, for who only wants its types.
func DescribeFile(path, fn string) (*Described, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse(CodeNotFound, err, "name a program, a library or a debug file", "%v", err)
	}
	d := &Described{Func: fn, close: func() { f.Close() }}
	if err := d.inFile(f, path); err != nil {
		d.Close()
		return nil, explain(err, path)
	}
	return d, nil
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
