package packaging_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInstall: make install brings both commands with a manual page for each of their
// commands and with completion for three shells, and make uninstall takes just that away.
func TestInstall(t *testing.T) {
	built, root := t.TempDir(), t.TempDir()
	makeTarget(t, "install", built, root)
	share := filepath.Join(root, "usr/share")
	for _, name := range []string{"pie", "pfp"} {
		command := filepath.Join(root, "usr/bin", name)
		checkPages(t, command, filepath.Join(share, "man/man1"))
		checkCompletion(t, command, share)
	}
	checkReferences(t, filepath.Join(share, "man/man1"))

	foreign := filepath.Join(share, "man/man1/pie-of-somebody-else.1")
	if err := os.WriteFile(foreign, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	makeTarget(t, "uninstall", built, root)
	if left := files(t, root); !slices.Equal(left, []string{foreign}) {
		t.Errorf("after make uninstall there are %v; want %s alone", left, foreign)
	}
}

func makeTarget(t *testing.T, target, built, root string) {
	t.Helper()
	out, err := exec.Command("make", "-C", "..", target, "OUT="+built, "DESTDIR="+root, "PREFIX=/usr", "VERSION=test").CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// checkPages: the command and each of its commands has a page.
func checkPages(t *testing.T, command, folder string) {
	t.Helper()
	name := filepath.Base(command)
	pages := []string{name}
	for _, sub := range completions(t, command, "") {
		if sub != "help" {
			pages = append(pages, name+"-"+sub)
		}
	}
	if len(pages) < 5 {
		t.Errorf("%s has the commands %v; where are the others?", name, pages[1:])
	}
	for _, page := range pages {
		b, err := os.ReadFile(filepath.Join(folder, page+".1"))
		switch {
		case err != nil:
			t.Error(err)
		case !strings.HasPrefix(string(b), ".TH "+strings.ToUpper(page)+" 1\n"):
			t.Errorf("%s.1 does not begin as a page of its own: %.40q", page, b)
		}
	}
	b, err := os.ReadFile(filepath.Join(folder, name+".1"))
	if err == nil && !strings.Contains(string(b), "Exit codes:") {
		t.Errorf("%s.1 does not say what the exit codes mean", name)
	}
}

// checkReferences: what a page refers to is there.
func checkReferences(t *testing.T, folder string) {
	t.Helper()
	for _, file := range files(t, folder) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, also, _ := strings.Cut(string(b), ".SH SEE ALSO\n")
		for line := range strings.Lines(also) {
			page := strings.ReplaceAll(strings.Fields(line)[1], `\-`, "-")
			if _, err := os.Stat(filepath.Join(folder, page+".1")); err != nil {
				t.Errorf("%s refers to %s: %v", filepath.Base(file), page, err)
			}
		}
		if also == "" {
			t.Errorf("%s refers to no other page", filepath.Base(file))
		}
	}
}

// checkCompletion: the files are where the shells look, are for this command, and
// bash takes its one.
func checkCompletion(t *testing.T, command, share string) {
	t.Helper()
	name := filepath.Base(command)
	for file, has := range map[string]string{
		"bash-completion/completions/" + name:         "__start_" + name,
		"zsh/site-functions/_" + name:                 "#compdef " + name + "\n",
		"fish/vendor_completions.d/" + name + ".fish": "complete -c " + name,
	} {
		b, err := os.ReadFile(filepath.Join(share, file))
		switch {
		case err != nil:
			t.Error(err)
		case !strings.Contains(string(b), has):
			t.Errorf("%s has no %q", file, has)
		}
	}
	bash := exec.Command("bash", "-c", `. "$1" && complete -p "$2"`, "bash", filepath.Join(share, "bash-completion/completions", name), name)
	if out, err := bash.CombinedOutput(); err != nil {
		t.Errorf("bash does not take the completion of %s: %v\n%s", name, err, out)
	}
}

// completions are what the command offers behind the words.
func completions(t *testing.T, command string, words ...string) []string {
	t.Helper()
	out, err := exec.Command(command, append([]string{"__complete"}, words...)...).Output()
	if err != nil {
		t.Fatalf("%s __complete: %v", command, err)
	}
	var offered []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, ":") { // what the shell is told to do
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			offered = append(offered, word)
		}
	}
	return offered
}

// files are the regular files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
