package amd64

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

var whole = flag.Bool("whole", false, "compare every instruction of the large libraries too")

// corpusFiles are shared libraries of the machine; extra ones, and executables,
// can be named in PIE_CORPUS, separated by colons.
func corpusFiles(t *testing.T) []string {
	t.Helper()
	names := []string{"libc.so.6"}
	if *whole {
		names = append(names, "libcrypto.so.3", "libstdc++.so.6")
	}
	var files []string
	for _, name := range names {
		found := ""
		for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"} {
			if f := filepath.Join(dir, name); fileExists(f) {
				found = f
				break
			}
		}
		if found == "" {
			t.Fatalf("%s is not on this machine: install libc6, libssl3 and libstdc++6", name)
		}
		files = append(files, found)
	}
	if *whole {
		files = append(files, filepath.SplitList(os.Getenv("PIE_CORPUS"))...)
	}
	return files
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// dumped is one line of objdump -d.
type dumped struct {
	addr  uint64
	bytes []byte
	text  string
}

// disassemble calls each for every instruction that objdump finds in file.
func disassemble(t *testing.T, file string, each func(dumped)) {
	t.Helper()
	cmd := exec.Command("objdump", "-d", "-w", "-z", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("objdump: %v (install binutils)", err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if d, ok := parseDumped(lines.Text()); ok {
			each(d)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("objdump %s: %v", file, err)
	}
}

func parseDumped(line string) (dumped, bool) {
	parts := strings.SplitN(line, "\t", 3)
	if len(parts) != 3 {
		return dumped{}, false
	}
	addr, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(parts[0]), ":"), 16, 64)
	if err != nil {
		return dumped{}, false
	}
	code, err := hex.DecodeString(strings.ReplaceAll(parts[1], " ", ""))
	if err != nil {
		return dumped{}, false
	}
	return dumped{addr, code, strings.TrimSpace(parts[2])}, true
}

// unsure reports lines that are data among code, or that objdump joins.
func (d dumped) unsure() bool {
	switch {
	case strings.Contains(d.text, "(bad)"), strings.HasPrefix(d.text, "."):
		return true
	case d.bytes[0] == 0x9b && len(d.bytes) > 1: // fwait joined with the x87 instruction after it
		return true
	}
	for _, word := range strings.Fields(d.text) {
		switch word {
		case "cs", "ds", "es", "ss", "fs", "gs", "lock", "rep", "repz", "repnz", "data16", "addr32":
		default:
			if !strings.HasPrefix(word, "rex") {
				return false
			}
		}
	}
	return true // prefixes on a line of their own
}

// TestLengthsOfRealCode compares the length of every instruction with objdump's.
func TestLengthsOfRealCode(t *testing.T) {
	for _, file := range corpusFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			total, wrong, refused, unsure := 0, 0, 0, 0
			disassemble(t, file, func(d dumped) {
				total++
				if d.unsure() {
					unsure++
					return
				}
				// What follows must not matter: 0xff is nothing's prefix.
				code := append(bytes.Clone(d.bytes), bytes.Repeat([]byte{0xff}, MaxInstLen)...)
				i, err := Decode(code, address.Addr(d.addr))
				switch {
				case err != nil: // tables among the code of libcrypto; processors refuse them too
					refused++
					t.Logf("%#x: % x: %s: %v", d.addr, d.bytes, d.text, err)
					return
				case i.Len == len(d.bytes):
					return
				}
				if wrong++; wrong <= 20 {
					t.Errorf("%#x: % x: %s: got length %d", d.addr, d.bytes, d.text, i.Len)
				}
			})
			t.Logf("%d instructions, %d wrong, %d refused, %d not compared", total, wrong, refused, unsure)
			if refused*20_000 > total {
				t.Errorf("%d of %d instructions refused", refused, total)
			}
			if total < 100_000 {
				t.Errorf("objdump gave only %d instructions", total)
			}
		})
	}
}
