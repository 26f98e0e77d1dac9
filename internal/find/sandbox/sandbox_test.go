package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// programs and what they show.
var programs = []struct{ name, text, sign string }{
	{"a table", `#include <linux/filter.h>
#include <linux/audit.h>
static const struct sock_filter f[] = {{BPF_LD|BPF_W|BPF_ABS, 0, 0, 4}, {BPF_JMP|BPF_JEQ|BPF_K, 1, 0, AUDIT_ARCH_X86_64}, {BPF_RET|BPF_K, 0, 0, 0}};
const void *volatile p = f;
int main(void) { return p == 0; }`, "AUDIT_ARCH_X86_64"},
	{"a table that code writes", `#include <linux/filter.h>
#include <linux/audit.h>
#include <stdlib.h>
struct sock_filter *volatile kept;
int main(int n, char **v) { struct sock_filter *f = malloc(n * sizeof *f); kept = f;
	f[n].code = BPF_JMP|BPF_JEQ|BPF_K; f[n].jt = n; f[n].k = AUDIT_ARCH_X86_64; return 0; }`, "AUDIT_ARCH_X86_64"},
	{"prctl", `#include <sys/prctl.h>
int main(int n, char **v) { return n > 1 ? prctl(22, 1) : 0; }`, "prctl(PR_SET_SECCOMP)"},
	{"prctl for something else", `#include <sys/prctl.h>
int other(int);
__attribute__((noipa)) int other(int n) { return n; }
int main(int n, char **v) { return other(22) + prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }`, ""},
	{"seccomp", `#include <unistd.h>
int main(int n, char **v) { return n > 1 ? syscall(317, 1, 0, v) : 0; }`, "seccomp(2)"},
	{"a call of its own", `int main(int n, char **v) { if (n > 1) __asm__ volatile("mov $317, %%eax; syscall" ::: "rax", "rcx", "r11", "memory"); return 0; }`, "seccomp(2)"},
	{"nothing", `#include <stdio.h>
int main(void) { puts("hello"); return 0; }`, ""},
}

func TestSign(t *testing.T) {
	for _, flags := range [][]string{{"-O2"}, {"-O0"}, {"-Os"}, {"-O2", "-static"}, {"-O2", "-fno-plt", "-Wl,-z,now"}, {"-O2", "-fcf-protection", "-no-pie"}} {
		for _, p := range programs {
			t.Run(p.name+" "+strings.Join(flags, " "), func(t *testing.T) {
				dir := t.TempDir()
				source, out := filepath.Join(dir, "p.c"), filepath.Join(dir, "p")
				if err := os.WriteFile(source, []byte(p.text), 0o644); err != nil {
					t.Fatal(err)
				}
				if b, err := exec.Command("gcc", append(flags, "-o", out, source)...).CombinedOutput(); err != nil {
					t.Fatalf("gcc: %v\n%s(scripts/setup installs what is missing)", err, b)
				}
				check(t, out, p.sign)
			})
		}
	}
}

// Programs as a distribution has them, from where scripts/setup puts them.
func TestPrograms(t *testing.T) {
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, "pie-test")
	}
	for path, sign := range map[string]string{
		"usr/sbin/vsftpd": "AUDIT_ARCH_X86_64", "usr/sbin/sshd": "prctl(PR_SET_SECCOMP)", "usr/sbin/chronyd": "libseccomp.so.2",
		"usr/sbin/nginx": "", "usr/bin/redis-server": "", "usr/lib/postgresql/15/bin/postgres": "", "usr/sbin/named": "",
		"usr/bin/memcached": "",
	} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			check(t, filepath.Join(cache, "servers", "sandboxing", path), sign)
		})
	}
}

// A Go program enters none by itself.
func TestGoProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	source := path + ".go"
	if err := os.WriteFile(source, []byte("package main\n\nimport \"net/http\"\n\nfunc main() { _ = http.ListenAndServe(\"\", nil) }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("go", "build", "-o", path, source).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	check(t, path, "")
}

func check(t *testing.T, path, want string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := binfile.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	sign, err := Sign(b)
	if err != nil || (want == "") != (sign == "") || !strings.Contains(sign, want) {
		t.Errorf("%s %q, %v; want %q", path, sign, err, want)
	}
}
