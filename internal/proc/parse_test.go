package proc

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

func TestParseMaps(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Mapping
	}{
		{"", nil},
		{
			"55f0c4a00000-55f0c4a02000 r-xp 00001000 fd:00 1234                       /usr/bin/cat\n",
			[]Mapping{{Start: 0x55f0c4a00000, End: 0x55f0c4a02000, Perms: Read | Exec, Offset: 0x1000, File: FileID{0xfd, 0, 1234}, Path: "/usr/bin/cat"}},
		},
		{
			"1000-2000 rw-s 00000000 00:01 77 /dev/zero (deleted)\n" +
				"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n",
			[]Mapping{
				{Start: 0x1000, End: 0x2000, Perms: Read | Write | Shared, File: FileID{0, 1, 77}, Path: "/dev/zero", Deleted: true},
				{Start: 0xffffffffff600000, End: 0xffffffffff601000, Perms: Exec, Path: "[vsyscall]"},
			},
		},
		{
			"1000-2000 ---p 00000000 00:00 0 \n",
			[]Mapping{{Start: 0x1000, End: 0x2000}},
		},
		{ // a path the process chose: spaces, another line's text, an escaped newline
			"1000-2000 r--p 00000000 08:01 5 /tmp/a b 3000-4000 rwxp 00000000 00:00 0\\012\n",
			[]Mapping{{Start: 0x1000, End: 0x2000, Perms: Read, File: FileID{8, 1, 5}, Path: "/tmp/a b 3000-4000 rwxp 00000000 00:00 0\\012"}},
		},
	} {
		got, err := ParseMaps([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func TestParseMapsRefuses(t *testing.T) {
	for _, text := range []string{
		"x\n",
		"1000-2000\n",
		"1000-2000 r-xp\n",
		"1000 r-xp 00000000 00:00 0\n",
		"2000-1000 r-xp 00000000 00:00 0\n",
		"1000-1000 r-xp 00000000 00:00 0\n",
		"1000-2000 r-xq 00000000 00:00 0\n",
		"1000-2000 rx 00000000 00:00 0\n",
		"1000-2000 r-xp 00000000 0000 0\n",
		"1000-2000 r-xp 00000000 00:00 -1\n",
		"1000-2000 r-xp zzzz 00:00 0\n",
		"10000000000000000-20000000000000000 r-xp 00000000 00:00 0\n",
		"2000-3000 r-xp 00000000 00:00 0\n1000-2000 r-xp 00000000 00:00 0\n",
		"1000-3000 r-xp 00000000 00:00 0\n2000-4000 r-xp 00000000 00:00 0\n",
	} {
		if m, err := ParseMaps([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, m)
		}
	}
}

func TestPermsString(t *testing.T) {
	for p, want := range map[Perms]string{0: "---p", Read | Exec: "r-xp", Read | Write | Shared: "rw-s"} {
		if p.String() != want {
			t.Errorf("%d is %s, want %s", p, p, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	text := "Name:\tweird\\nState:\tx\nState:\tt (tracing stop)\nTgid:\t812\nPPid:\t1\nTracerPid:\t99\n" +
		"Uid:\t1000\t33\t33\t33\nGid:\t1000\t34\t34\t34\nThreads:\t4\nSigBlk:\t0000000000000400\nSigCgt:\t0000000180000000\n" +
		"Seccomp:\t2\nx86_Thread_features:\tshstk \nSomethingNew:\t1 2 3\n"
	want := Status{
		Name: "weird\\nState:\tx", State: 't', Tgid: 812, PPid: 1, Tracer: 99, UID: 33, GID: 34, Threads: 4,
		SigBlk: 0x400, SigCgt: 0x180000000, Seccomp: 2, ShadowStack: true,
	}
	if got, err := ParseStatus([]byte(text)); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "Name:\tx\n", "State:\tR\nTgid:\tx\n", "State:\tR\nTgid:\t1\nUid:\t0\n", "State:\tR\nTgid:\t1\nSigBlk:\t-\n"} {
		if s, err := ParseStatus([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, s)
		}
	}
}

func TestParseStat(t *testing.T) {
	fields := " S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n"
	for _, name := range []string{"cat", "a) S 9 9 9", "((", "x 1 2 3"} {
		ppid, start, err := ParseStat([]byte("42 (" + name + ")" + fields))
		if err != nil || ppid != 7 || start != 12345 {
			t.Errorf("%q: parent %d, start %d, %v", name, ppid, start, err)
		}
	}
	for _, text := range []string{"", "42 cat S 7", "42 (cat)", "42 (cat) S 7 1", "42 (cat) S x" + strings.Repeat(" 1", 30), "42 (cat) S 1" + strings.Repeat(" x", 30)} {
		if _, _, err := ParseStat([]byte(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func TestParseHeapStart(t *testing.T) {
	text := "42 (a) b) S" + strings.Repeat(" 1", 43) + " 94000000000000 2 3\n"
	if at, err := parseHeapStart([]byte(text)); err != nil || at != 94000000000000 {
		t.Errorf("%v, %v", at, err)
	}
	for _, text := range []string{"", "42 (cat) S" + strings.Repeat(" 1", 43), "42 (cat) S" + strings.Repeat(" x", 50)} {
		if at, err := parseHeapStart([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, at)
		}
	}
}

// What is parsed keeps its promises whatever the text: order and no overlap.
func FuzzParseMaps(f *testing.F) {
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1000-2000 rw-s 00000000 00:01 77 /dev/zero (deleted)\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		maps, err := ParseMaps(text)
		if err != nil {
			return
		}
		last := address.Addr(0)
		for _, m := range maps {
			if m.Start < last || m.End <= m.Start || !m.Contains(m.Start) || m.Contains(m.End) {
				t.Errorf("%v after %v", m, last)
			}
			last = m.End
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseStatus(text); err == nil && (s.Tgid == 0 || s.State == 0) {
			t.Errorf("%+v", s)
		}
		_, _, _ = ParseStat(text)
	})
}

func FuzzParseMounts(f *testing.F) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Fuzz(func(t *testing.T, text []byte) {
		mounts, err := parseMounts(text)
		for _, m := range mounts {
			if err != nil || m.fstype == "" {
				t.Errorf("%+v, %v", m, err)
			}
		}
	})
}
