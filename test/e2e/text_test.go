package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// checkTextEqualsFiles compares every executable file mapping of a process with
// the file it comes from, byte for byte.
func checkTextEqualsFiles(t *testing.T, pid int) {
	t.Helper()
	differ, compared, err := textDiffers(pid)
	if err != nil {
		t.Errorf("comparing the text of pid %d with its files: %v", pid, err)
	}
	if compared == 0 {
		t.Errorf("pid %d: no executable file mapping was compared", pid)
	}
	for _, d := range differ {
		t.Errorf("pid %d: %s", pid, d)
	}
}

func textDiffers(pid int) (differ []string, compared int, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, 0, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, 0, err
	}
	defer mem.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to, offset uint64
		var perms, dev, path string
		var inode uint64
		n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %d %s", &from, &to, &perms, &offset, &dev, &inode, &path)
		if n < 7 || inode == 0 || !strings.Contains(perms, "x") {
			continue
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, from, to))
		if err != nil {
			return differ, compared, err
		}
		want, err := io.ReadAll(io.NewSectionReader(file, int64(offset), int64(to-from)))
		file.Close()
		if err != nil {
			return differ, compared, err
		}
		got := make([]byte, len(want))
		if _, err := mem.ReadAt(got, int64(from)); err != nil {
			return differ, compared, err
		}
		compared++
		if bytes.Equal(got, want) {
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				differ = append(differ, fmt.Sprintf("%s differs from its file at %#x (offset %#x): % x, file % x",
					path, from+uint64(i), offset+uint64(i), got[i:min(i+8, len(got))], want[i:min(i+8, len(want))]))
				break
			}
		}
	}
	return differ, compared, nil
}
