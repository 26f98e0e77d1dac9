package agent

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/operate/gate"
)

// dirWatch tells when a file in one of the folders of held executables was
// replaced or made: the new one is to be held, too. A path may lead through symbolic
// links, which an upgrade points elsewhere; the folders that these lie in count as well.
type dirWatch struct {
	f       *os.File
	watched map[string]int
	changed chan struct{}
}

func (a *Agent) watchDirs() {
	if a.c.PollOnly {
		return
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		a.log.Warn("upgrades are noticed at the next pass only", "reason", err)
		return
	}
	a.dirs = &dirWatch{f: os.NewFile(uintptr(fd), "inotify"), watched: map[string]int{}, changed: make(chan struct{}, 1)}
	go a.dirs.read()
}

func (d *dirWatch) read() {
	buf := make([]byte, 64<<10)
	for {
		if _, err := d.f.Read(buf); err != nil {
			return
		}
		select {
		case d.changed <- struct{}{}:
		default:
		}
		time.Sleep(20 * time.Millisecond) // an upgrade replaces many files
	}
}

// watchAll watches the folders of the files.
func (d *dirWatch) watchAll(files []gate.File) {
	if d == nil {
		return
	}
	for _, f := range files {
		for _, dir := range foldersOf(f.Path) {
			if _, ok := d.watched[dir]; ok || len(d.watched) >= maxWatched {
				continue
			}
			wd, err := unix.InotifyAddWatch(int(d.f.Fd()), dir, unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR)
			if err == nil {
				d.watched[dir] = wd
			}
		}
	}
}

// maxWatched bounds the folders that are watched.
const maxWatched = 1024

// maxLinks is how many symbolic links a path may lead through (path_resolution(7)).
const maxLinks = 40

// foldersOf lists the folders in which a file, or a symbolic link on the way to it,
// may be replaced so that the path leads to another file.
func foldersOf(path string) (folders []string) {
	at, rest, links := "/", strings.Split(filepath.Clean(path), "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		if rest = rest[1:]; name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // ".." is right, too: links are followed as they come
		to, err := os.Readlink(next)
		if err == nil || len(rest) == 0 {
			folders = append(folders, at)
		}
		if err != nil {
			at = next
			continue
		}
		if links++; links > maxLinks {
			break
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return folders
}

func (d *dirWatch) changes() <-chan struct{} {
	if d == nil {
		return nil
	}
	return d.changed
}

func (d *dirWatch) close() {
	if d != nil {
		d.f.Close()
	}
}
