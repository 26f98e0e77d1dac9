package gate

import (
	"time"

	"golang.org/x/sys/unix"
)

// executables are what a gate holds. Each is held as a file, whatever path it is
// started by, and as a path, whatever file is there by then: an upgrade puts another
// file at the path, and its first start is to be held, too, before anybody has told
// the gate of it.
//
// For that the kernel asks about every file in the folders of the executables. Those
// that are not at a path of ours are allowed at once, and asked about once only,
// unless they are so new that they may be about to become what a path leads to.
type executables struct {
	group   *group
	named   []File
	use     map[fileID][]int
	folders map[string]bool
}

// fileID is a device and an inode.
type fileID [2]uint64

// freshTime is how long a file is asked about at each of its starts: an upgrade
// writes it, may try it, and renames it. One that is older when it is renamed, and was
// started before, is held once the agent has noticed.
const freshTime = time.Hour

func newExecutables(g *group) *executables {
	return &executables{group: g, use: map[fileID][]int{}, folders: map[string]bool{}}
}

// set makes these the executables. It says what cannot be held.
func (e *executables) set(files []File) (notes []string) {
	e.named = files
	clear(e.use)
	for _, f := range files {
		folder, err := e.group.mark(f)
		if err != nil {
			notes = append(notes, err.Error())
			continue
		}
		e.use[fileID{f.Dev, f.Inode}] = f.Use
		if !e.folders[folder] {
			e.folders[folder] = true
			if err := e.group.markFolder(folder); err != nil {
				notes = append(notes, err.Error())
			}
		}
	}
	return notes
}

// opened returns the prepatches for what is being started; none when it is not ours.
func (e *executables) opened(o *opening) []int {
	var st unix.Stat_t
	if unix.Fstat(o.fd, &st) != nil {
		return nil
	}
	id := fileID{st.Dev, st.Ino}
	if use, ok := e.use[id]; ok {
		return use
	}
	for _, f := range e.named {
		var now unix.Stat_t
		if unix.Stat(f.Path, &now) == nil && id == (fileID{now.Dev, now.Ino}) {
			e.use[id] = f.Use
			_, _ = e.group.mark(File{Path: f.Path, Dev: now.Dev, Inode: now.Ino})
			return f.Use
		}
	}
	if time.Since(time.Unix(st.Ctim.Unix())) > freshTime {
		e.group.ignore(ownPath(o.fd))
	}
	return nil
}
