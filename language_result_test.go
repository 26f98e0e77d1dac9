package pie_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie"
)

// returning is a program whose functions return every kind of result.
const returning = `
#include <memory>
#include <string>
#include <unistd.h>
#define GUARDED extern "C" __attribute__((noinline, noclone, used))
struct pair { long a, b; };
struct big { long a[5]; };
enum class color { red, blue };
GUARDED int number(int n) { return getpid() == n; }
GUARDED void nothing(int n) { if (n > 2) usleep(n); }
GUARDED double real(int n) { return getpid() + n; }
GUARDED float single(int n) { return getpid() + n; }
GUARDED long double extended(int n) { return getpid() + n; }
GUARDED __int128 wide(int n) { return getpid() + n; }
GUARDED bool truth(int n) { return getpid() == n; }
GUARDED color tint(int n) { return getpid() == n ? color::red : color::blue; }
GUARDED char *pointer(int n) { return getpid() == n ? nullptr : (char *)"x"; }
GUARDED struct pair two(int n) { return {getpid(), n}; }
GUARDED struct big five(int n) { return {{getpid(), n}}; }
__attribute__((noinline, used)) std::unique_ptr<int> owned(int n) { return std::make_unique<int>(getpid() + n); }
__attribute__((noinline, used)) std::string text(int n) { return std::string(n, 'x'); }
int main() {
	volatile int n = 1;
	for (;;) {
		number(n); nothing(n); real(n); single(n); extended(n); wide(n); truth(n); tint(n); pointer(n); two(n); five(n); owned(n); text(n);
		usleep(1000);
	}
}
`

// A reject that does not give back what the function returns is refused, where
// debug information tells.
func TestResultsAreCompared(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "r.cc"), []byte(returning), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "returning")
	if out, err := exec.Command("g++", "-g", "-O1", "-std=c++17", "-o", path, filepath.Join(dir, "r.cc")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s(scripts/setup installs g++)", err, out)
	}
	cmd := exec.Command(path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for _, x := range []struct{ function, verdict, refused string }{
		{"number", "Reject(int32(-1))", ""},
		{"number", "RejectErrno(libpie.EINVAL, int32(-1))", ""},
		{"number", "RejectVoid()", "returns int, and the guard rejects with 0 words instead of 1"},
		{"number", "RejectFloat(1)", "returns int, and the guard rejects with a floating-point result"},
		{"nothing", "RejectVoid()", ""},
		{"nothing", "Reject(int32(-1))", ""},
		{"real", "RejectFloat(1)", ""},
		{"real", "Reject(int64(-1))", "returns double, and the guard rejects without a floating-point result"},
		{"single", "RejectFloat32(1)", ""},
		{"extended", "RejectFloat(1)", "returns long double, which a guard cannot make"},
		{"wide", "RejectGo(libpie.Word(-1), libpie.Word(-1))", ""},
		{"wide", "Reject(int64(1))", "instead of 2"},
		{"truth", "Reject(false)", ""},
		{"tint", "Reject(int32(1))", ""},
		{"pointer", "RejectPtr(0)", ""},
		{"two", "Reject(int64(1))", "returns pair by value, which a guard cannot make"},
		{"five", "RejectPtr(0)", "returns big by value"},
		{"_Z5ownedi", "RejectPtr(0)", "by value"},
		{"_Z4textB5cxx11i", "RejectVoid()", "by value"},
		{"two", "Log(1)", ""},
	} {
		p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id R-1

//pie:guard exe=returning func=%s onfault=pass onfuel=pass
func G(c *libpie.Call, n int32) libpie.Verdict {
	if n > 1000 {
		return libpie.%s
	}
	return libpie.Pass()
}
`, x.function, x.verdict))})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pie.Plan(context.Background(), p, pie.Pids(cmd.Process.Pid), pie.Options{})
		switch {
		case x.refused == "" && err != nil:
			t.Errorf("%s, %s: %v", x.function, x.verdict, err)
		case x.refused != "" && (err == nil || pie.ReasonOf(err) != pie.CodeResult || !strings.Contains(err.Error(), x.refused)):
			t.Errorf("%s, %s: %v, want %s", x.function, x.verdict, err, x.refused)
		}
	}
}

// The same of a Go program.
func TestGoResultsAreCompared(t *testing.T) {
	h := startGoHost(t)
	for verdict, refused := range map[string]string{
		"Reject(int64(1))": "",
		"RejectGo(libpie.Word(1), libpie.GoVar(\"io.EOF\"))": "returns (int), which are 1 words, and the guard rejects with 3",
		"RejectVoid()": "rejects with 0",
	} {
		p, err := pie.Load(map[string][]byte{"guard.go": []byte(fmt.Sprintf(`package prepatch

import "github.com/patch-integration-engine/pie/libpie"

//pie:id R-1

//pie:guard exe=gohost func=main.lookup onfault=pass onfuel=pass
func G(c *libpie.Call, n int) libpie.Verdict {
	if n > 1000 {
		return libpie.%s
	}
	return libpie.Pass()
}
`, verdict))})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pie.Plan(context.Background(), p, pie.Pids(h.cmd.Process.Pid), pie.Options{})
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v, want %s", verdict, err, refused)
		}
	}
}

// A Go function returns nine words at most, an error among them.
func TestGoReturnsNineWords(t *testing.T) {
	h := startGoHost(t)
	h.guard(t, `
//pie:guard exe=gohost func=main.many onfault=pass onfuel=pass
func Many(c *libpie.Call, n int64) libpie.Verdict {
	if n < 0 {
		return libpie.RejectGo(libpie.Word(n), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(0), libpie.Word(7),
			libpie.GoVar("io.EOF"), libpie.Word(true))
	}
	return libpie.Pass()
}
`)
	for n, want := range map[int]int{5: 5 + 40 + 300 + 1000*8, -3: -3 + 7000 + 100_000 + 1_000_000} {
		got := h.ask(t, "many", n)
		if n > 0 {
			want = want - 1000*8 + got/1000*1000 // what make gives as capacity is the runtime's
		}
		if got != want {
			t.Errorf("many(%d): %d, want %d", n, got, want)
		}
	}
}
