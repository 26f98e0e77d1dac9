package debuginfod

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// program builds a small program with a build ID and returns it as it is.
func program(t *testing.T, id string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "p")
	cmd := exec.Command("gcc", "-Wl,--build-id=0x"+id, "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader("static int hidden(void) { return 3; } int main(void) { return hidden(); }")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v (scripts/setup installs it)\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const id = "0123456789abcdef0123456789abcdef01234567"

func buildID(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSymbols(t *testing.T) {
	right, other := program(t, id), program(t, "ff"+id[2:])
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string // in the error; empty when symbols are wanted
	}{
		{"there", func(w http.ResponseWriter, _ *http.Request) { w.Write(right) }, ""},
		{"not there", http.NotFound, ErrUnknown.Error()},
		{"another build", func(w http.ResponseWriter, _ *http.Request) { w.Write(other) }, "build ID"},
		{"not a program", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>log in</html>") }, "ELF"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) { w.Write(right[:70]) }, ""},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "500"},
		{"in circles", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "redirects"},
		{"claims much", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9000000000000") }, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if r.URL.Path != "/buildid/"+id+"/debuginfo" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				c.answer(w, r)
			}))
			defer s.Close()
			client, err := New([]string{s.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			a := client.Symbols(context.Background(), buildID(t))
			if c.name == "cut off" {
				if a.Symbols != nil {
					t.Error("a file that is cut off was taken")
				}
				return
			}
			if c.want != "" {
				if a.Symbols != nil || !strings.Contains(a.Err.Error(), c.want) {
					t.Errorf("got %v, want %q", a.Err, c.want)
				}
				return
			}
			if a.Symbols == nil {
				t.Fatal(a.Err)
			}
			if sym, err := a.Symbols.Symbols(); err != nil || len(sym) == 0 {
				t.Errorf("%d symbols, %v", len(sym), err)
			}
			client.Symbols(context.Background(), buildID(t))
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times for one file", n)
			}
		})
	}
}

// The next server is asked when one does not have it.
func TestSeveralServers(t *testing.T) {
	right := program(t, id)
	empty := httptest.NewServer(http.HandlerFunc(http.NotFound))
	defer empty.Close()
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(right) }))
	defer full.Close()
	client, err := New([]string{"http://127.0.0.1:1", empty.URL, full.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if a := client.Symbols(context.Background(), buildID(t)); a.Symbols == nil || a.From != full.URL {
		t.Errorf("got %+v, want it from %s", a, full.URL)
	}
	if a := client.Symbols(context.Background(), nil); !errors.Is(a.Err, ErrUnknown) {
		t.Errorf("without a build ID: %v", a.Err)
	}
}

func TestServers(t *testing.T) {
	if got := Servers(" ima:enforcing https://debuginfod.example  http://10.0.0.1:8002 ima:ignore"); !slices.Equal(got, []string{"https://debuginfod.example", "http://10.0.0.1:8002"}) {
		t.Error(got)
	}
	for _, bad := range []string{"file:///etc/passwd", "debuginfod.example", "http://", "ftp://x"} {
		if _, err := New([]string{bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
