package pie

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/find/sandbox"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// A guard that reads memory by system calls ends a program that enters a seccomp sandbox
// later which kills for them, at its next guarded call. So none goes into a program that
// shows signs of doing that (package sandbox), unless the operator asks for one: neither
// before its first instruction nor as it runs. Where its threads allow guards that read
// without system calls, as it runs, it gets those.

// sandboxing is what an executable shows of a sandbox.
type sandboxing struct {
	sign string // in words that go on from "the program"; "" for none
	// whole: the libraries that it will be linked with have been looked through, too.
	whole bool
}

// sandboxing tells what an executable shows by itself, asked once. A file that cannot be
// read through is taken for one with a sign.
func (k *known) sandboxing(f *binfile.File) sandboxing {
	s, ok := k.sandboxes[f]
	if !ok {
		var err error
		if s.sign, err = sandbox.Sign(f); err != nil {
			s.sign = "cannot be looked through: " + err.Error()
		}
		s.whole = f.Interp() == "" // nothing is linked
		k.sandboxes[f] = s
	}
	return s
}

// mayEnterSandbox says by what a process shows that it may enter a sandbox: its executable,
// or libseccomp among what is mapped. "" where it shows nothing.
func (r *resolved) mayEnterSandbox() string {
	if s := r.known.sandboxing(r.images.Exe().File); s.sign != "" {
		return s.sign
	}
	for _, im := range r.images.Images {
		if sandbox.IsLibrary(im.SOName) {
			return "is linked with " + im.SOName
		}
	}
	return ""
}

// readsSafely tells whether a program whose libraries are not there yet can get the guard:
// it reads no memory, or what the program will be linked with is known.
func (k *known) readsSafely(exe *binfile.File, programs []*verify.Program) bool {
	if !slices.ContainsFunc(programs, readsTarget) {
		return true
	}
	s := k.sandboxing(exe)
	return s.sign != "" || s.whole
}

// learnSandbox looks through the libraries that an executable at path needs, and theirs,
// where the dynamic linker looks for them. Where one is not found there, or is no file
// that can be read, it is not known what the program will be linked with.
func (k *known) learnSandbox(self *proc.Process, path string, exe *binfile.File) {
	s := k.sandboxing(exe)
	if s.sign == "" && !s.whole {
		s = linkedWith(self, path, exe)
		k.sandboxes[exe] = s
	}
}

// maxLibraries bounds the libraries of a program that are looked through. The largest
// servers have some two hundred.
const maxLibraries = 1024

// linkedWith goes through the libraries that a program needs.
func linkedWith(self *proc.Process, path string, exe *binfile.File) sandboxing {
	type needed struct {
		by   string // path of the file that needs it
		name string
		dirs []string // DT_RUNPATH and DT_RPATH of those that need it
	}
	var todo []needed
	seen := map[string]bool{}
	add := func(by string, f *binfile.File, dirs []string) {
		dirs = append(dirs, f.LibraryPaths()...)
		for _, name := range f.Needed() {
			if !seen[name] {
				seen[name] = true
				todo = append(todo, needed{by, name, dirs})
			}
		}
	}
	add(path, exe, nil)
	for ; len(todo) > 0; todo = todo[1:] {
		n := todo[0]
		if sandbox.IsLibrary(n.name) {
			return sandboxing{sign: "is linked with " + n.name}
		}
		at, f, file := openLibrary(self, n.by, n.name, n.dirs)
		if f == nil || len(seen) > maxLibraries {
			return sandboxing{}
		}
		add(at, f, n.dirs)
		file.Close()
	}
	return sandboxing{whole: true}
}

// libraryFolders are where the dynamic linker looks for libraries on the distributions that
// are known, beside what a file says itself. Which of two of the same name it takes does
// not matter much here.
var libraryFolders = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib/x86_64-linux-gnu",
	"/lib64", "/usr/lib64", "/usr/local/lib64", "/lib", "/usr/lib", "/usr/local/lib",
}

// openLibrary opens a library that a file needs; nil where it is not found.
func openLibrary(self *proc.Process, by, name string, dirs []string) (string, *binfile.File, *proc.File) {
	var paths []string
	if strings.Contains(name, "/") {
		paths = append(paths, name)
	}
	for _, list := range dirs {
		for _, dir := range strings.Split(list, ":") {
			dir = strings.NewReplacer("$ORIGIN", filepath.Dir(by), "${ORIGIN}", filepath.Dir(by)).Replace(dir)
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	for _, dir := range libraryFolders {
		paths = append(paths, filepath.Join(dir, name))
	}
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			continue
		}
		file, err := self.OpenInRoot(path)
		if err != nil {
			continue
		}
		if f, err := binfile.Open(file, file.Size); err == nil {
			return path, f, file
		}
		file.Close()
	}
	return "", nil, nil
}

// prepareSandbox does learnSandbox for Prepare.
func (e *Engine) prepareSandbox(self *proc.Process, path string, file *binfile.File, p *Prepatch) {
	for _, prog := range p.programs {
		if readsTarget(prog) {
			e.known.learnSandbox(self, path, file)
			return
		}
	}
}

// insteadEarly is what becomes of a program that is not guarded before it runs.
const insteadEarly = "it is guarded as it runs, by guards that read without system calls where its threads allow that"

// laterSandbox is why guards do not read by system calls.
const laterSandbox = "a sandbox that it enters later may kill it for them"

// refuseSandbox refuses a guard that would read by system calls in a program that may enter
// a sandbox.
func (r *resolved) refuseSandbox(f locate.Function, sign string) error {
	instead := "use a guard that looks at registers only; or, where you know that the program enters no sandbox, or one that allows process_vm_readv(2), insert with --copy-reads"
	if r.early {
		instead = insteadEarly
	}
	return refuse(CodeSeccomp, nil, instead, "%s in %s: the guard would read memory by system calls, as %s; and the program %s: %s",
		f.Name, f.Image.Name(), r.tableRisk, sign, laterSandbox)
}
