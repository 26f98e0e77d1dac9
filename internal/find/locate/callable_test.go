package locate

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A function is called only where it stays, and where there is one of its name.
func TestCallable(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"deep.c":   "int deep(int n) { return n; }\nint shared(int n) { return n + 1; }\n",
		"needed.c": "int deep(int);\nint needed(int n) { return deep(n) + 1; }\nint twice(int n) { return n; }\n",
		"plugin.c": "int plugged(int n) { return n; }\nint shared(int n) { return n + 2; }\nint own(int n) { return n; }\n",
		"main.c": "#include <dlfcn.h>\n#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\nint needed(int);\nint twice(int n) { return n; }\n" +
			"int main(int argc, char **argv) { return !dlopen(argv[1], RTLD_NOW) || needed(twice(argc)) < 0 || strnlen(argv[0], 99) > 98 || (puts(\"ready\"), fflush(stdout), getchar() > 0); }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	deep := gcc(t, "libdeep.so", "-shared", "-fPIC", "-Wl,-soname,libdeep.so", in("deep.c"))
	needed := gcc(t, "libneeded.so", "-shared", "-fPIC", "-Wl,-soname,libneeded.so", in("needed.c"), deep)
	plugin := gcc(t, "plugin.so", "-shared", "-fPIC", in("plugin.c"))
	main := gcc(t, "main", in("main.c"), needed, "-ldl", "-Wl,-rpath,"+filepath.Dir(deep)+":"+filepath.Dir(needed), "-Wl,-rpath-link,"+filepath.Dir(deep))
	cmd := exec.Command(main, plugin)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Dir(deep)+":"+filepath.Dir(needed))
	_, set := images(t, cmd)
	exe := set.Exe()
	var plug *Image
	for _, im := range set.Images {
		if strings.HasSuffix(im.Path, "plugin.so") {
			plug = im
		}
	}
	if plug == nil {
		t.Fatal("the plugin is not mapped")
	}
	for _, x := range []struct {
		im         *Image
		name, says string // empty: it can be called
	}{
		{exe, "twice", ""}, {exe, "needed", ""}, {exe, "deep", ""}, {exe, "getpid", ""}, {exe, "strnlen", ""},
		{plug, "own", ""}, {plug, "shared", ""}, {plug, "twice", ""}, {plug, "deep", ""},
		{exe, "plugged", "may be unloaded"},
		{exe, "shared", "both have it"},
		{exe, "nobody", "not in the symbol tables"},
	} {
		at, err := set.Callable(x.im, x.name)
		var no *NotCallable
		switch {
		case x.says == "" && (err != nil || at == 0):
			t.Errorf("%s from %s: %v", x.name, x.im.Name(), err)
		case x.says != "" && (!errors.As(err, &no) || !strings.Contains(err.Error(), x.says)):
			t.Errorf("%s from %s: %v, %v; want %s", x.name, x.im.Name(), at, err, x.says)
		}
	}
}
