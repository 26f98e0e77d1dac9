package pie

import (
	"path"
	"strings"

	"github.com/patch-integration-engine/pie/internal/proc"
)

// Some programs run under a translator: valgrind, DynamoRIO, Pin. It has the program's
// files mapped, but what runs is its own translation of their code, made before: a guard
// written into the code would not be called, and reading it back would not show that.

// translators are the beginnings of file names that only processes under one map, and its
// name. (Of qemu's and other emulators' processes the code is not mapped as executable.)
var translators = []struct{ file, name string }{
	{"vgpreload_", "valgrind"}, {"memcheck-amd64-", "valgrind"}, {"none-amd64-", "valgrind"}, {"callgrind-amd64-", "valgrind"},
	{"cachegrind-amd64-", "valgrind"}, {"helgrind-amd64-", "valgrind"}, {"drd-amd64-", "valgrind"}, {"massif-amd64-", "valgrind"},
	{"dhat-amd64-", "valgrind"}, {"lackey-amd64-", "valgrind"}, {"exp-bbv-amd64-", "valgrind"},
	{"libdynamorio.so", "DynamoRIO"}, {"pinbin", "Pin"},
}

// translatorOf returns the name of the translator that a process runs under, or "".
func translatorOf(maps []proc.Mapping) string {
	for _, m := range maps {
		if !m.HasFile() {
			continue
		}
		name := path.Base(m.Path)
		for _, t := range translators {
			if strings.HasPrefix(name, t.file) {
				return t.name
			}
		}
	}
	return ""
}

// checkTranslated refuses a process that runs under a translator.
func (p *process) checkTranslated() error {
	maps, err := p.read.Maps()
	if err != nil {
		return explain(err, p.String())
	}
	if t := translatorOf(maps); t != "" {
		return refuse(CodeTranslated, nil, "start it without "+t+", then insert", "%s runs under %s, which runs a translation of its code: no guard in the code would be called", p, t)
	}
	return nil
}
