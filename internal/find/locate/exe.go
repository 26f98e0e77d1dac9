package locate

import (
	"errors"
	"path"
	"strings"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// exeDirs is where an executable given by name is looked for in the target's
// root, besides the directory of its /proc/PID/exe.
var exeDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// RunsExe tells whether a process runs an executable, which is given as a path
// in the process's root or as a name.
//
// A path matches the executable's inode. A name matches when the link
// /proc/PID/exe ends with it, or when the file of that name in the process's
// root, beside the executable or in the usual directories, is the very inode:
// a redis-server may have been started through a hard link and then maps as
// redis-check-rdb. The name the process gives itself (comm) is never used.
func RunsExe(p Target, exe string) (bool, error) {
	link, _, err := p.ExePath()
	if err != nil {
		return false, err
	}
	var paths []string
	switch {
	case strings.HasPrefix(exe, "/"):
		paths = []string{exe}
	case strings.Contains(exe, "/"):
		return false, errors.New("an executable is named by an absolute path or by its name alone: " + exe)
	case path.Base(link) == exe:
		return true, nil
	default:
		for _, dir := range append([]string{path.Dir(link)}, exeDirs...) {
			paths = append(paths, path.Join(dir, exe))
		}
	}
	running, err := p.OpenExe()
	if err != nil {
		return false, err
	}
	defer running.Close()
	for _, at := range paths {
		file, err := p.OpenInRoot(at)
		if err != nil {
			continue // no such file there
		}
		same := sameInode(file, running)
		file.Close()
		if same {
			return true, nil
		}
	}
	return false, nil
}

func sameInode(a, b *proc.File) bool { return a.Dev == b.Dev && a.Inode == b.Inode }
